import pytest
import torch

from lightning_robust._noise import Noise
from lightning_robust.attacks import L2, PGD, Context, Linf, PixelSpace, RandomSearch, Square, Threat, margin
from lightning_robust.attacks.square import boldness, stripes, window
from tests.helpers import SHAPE, batch, class_scores, images, threat_of


class Recorded:
    """A linear model of two classes that no perturbation changes, which keeps the inputs it was asked for."""

    def __init__(self, level=1e4):
        self.weight = torch.randn(SHAPE, generator=torch.Generator().manual_seed(4)).flatten()
        self.level, self.asked = level, []

    def __call__(self, x):
        assert not torch.is_grad_enabled()
        self.asked.append(x.clone())
        value = x.flatten(1) @ self.weight
        return torch.stack([torch.full_like(value, self.level), value], 1)


def attack(threat, steps, **changes):
    settings = {"gain": margin, "random_start": False, "early_stop": True, "keep": "best"} | changes
    return PGD(threat, steps, rule=Square(), **settings)


def test_the_square_attack_by_hand():
    """Windows of the size of the paper, one sign per channel, everywhere in the image, on the corners of the ball."""
    x = images(4000)
    noise, chart = Noise.of(x), PixelSpace(-9, 9).chart(x, x[:, 0, 0, 0])
    delta = 0.05 * torch.sign(torch.randn(1, *SHAPE)).expand(4000, -1, -1, -1)
    for size, side in ((1.0, 5), (0.25, 3), (1 / 64, 1)):
        moved = Linf(0.1).project(window(noise, delta, chart, Linf(0.1), size))
        inside = moved.abs() == torch.tensor(0.1)
        assert torch.equal(moved[~inside], delta[~inside])
        assert (inside[:, 0].any(2).sum(1) == side).all()
        assert (inside[:, 1].any(1).sum(1) == side).all()
        assert (inside.flatten(1).sum(1) == 3 * side * side).all()
        corner = inside[:, 0].flatten(1).float().argmax(1)
        assert corner.unique().numel() == (6 - side + 1) ** 2
        sign = moved.sign() * inside
        assert ((sign.flatten(2).sum(2)).abs() == side * side).all()
        assert abs(float(sign[:, 0].sum((1, 2)).sign().mean())) < 0.08
    first = stripes(noise, chart, Linf(0.1))
    assert torch.equal(first.abs(), torch.full_like(first, 0.1))
    assert torch.equal(first, first[:, :, :1].expand_as(first))
    assert not torch.equal(first[:, :, :, 0], first[:, :, :, 1])


def test_the_schedule_of_the_paper():
    asked = {0: 1, 10: 1, 11: 2, 50: 2, 51: 4, 201: 8, 501: 16, 1001: 32, 2001: 64, 4001: 128, 6001: 256, 8001: 512}
    assert {query: 1 / boldness(query) for query in asked} == asked


def test_each_proposal_changes_a_window_of_the_best_so_far():
    """The clean input, stripes in any case, then the best is what has the highest gain from the stripes on."""
    x, model = 0.3 + 0.4 * images(3), Recorded()
    outcome = attack(Threat(Linf(0.1)), 60).run(model, x, torch.zeros(3, dtype=torch.long))
    clean, first, *rest = model.asked[:61]
    torch.testing.assert_close(clean, x)
    torch.testing.assert_close((first - x).abs(), torch.full_like(x, 0.1))
    best, highest = first, first.flatten(1) @ model.weight
    for query, proposal in enumerate(rest, 1):
        changed = ((proposal - best).abs() > 1e-6).flatten(1).sum(1)
        side = round((0.8 * boldness(query) * 36) ** 0.5)
        assert (changed <= 3 * side**2).all()
        value = proposal.flatten(1) @ model.weight
        higher = value > highest
        best = torch.where(higher[:, None, None, None], proposal, best)
        highest = torch.where(higher, value, highest)
    torch.testing.assert_close(outcome.x_adv, best)
    torch.testing.assert_close(outcome.gain, highest - 1e4)


def test_the_search_goes_on_from_the_stripes_even_where_the_clean_input_is_better():
    class Afraid(Recorded):  # of every change
        def __call__(self, x):
            logits = super().__call__(x)
            return torch.stack([logits[:, 0], -(x - 0.5).abs().flatten(1).sum(1)], 1)

    x, model = torch.full((2, *SHAPE), 0.5), Afraid()
    outcome = attack(Threat(Linf(0.1)), 5).run(model, x, torch.zeros(2, dtype=torch.long))
    assert torch.equal(outcome.x_adv, x)
    assert all(((asked - x).abs() > 0.09).all() for asked in model.asked[1:6])


@pytest.mark.parametrize(
    ("ball", "space", "size"), [("Linf", "pixels", 1), ("L2", "pixels", 1), ("L1", "bytes", 1), ("L2", "latent", 0.1)]
)
def test_a_sample_meets_the_same_windows_alone_and_among_those_that_leave(ball, space, size):
    x, _, code = batch(space, 16)
    threat = threat_of(ball, space, size)
    with torch.no_grad():
        chart = threat.space.chart(x, torch.zeros(16).long(), code)
        y = class_scores(chart.decode(chart.zero)).argmax(1)
    whole = attack(threat, 40).run(class_scores, x, y, Context(code))
    assert 0 < whole.fooled.sum() < 16
    for i in range(16):
        part = slice(i, i + 1)
        alone = attack(threat, 40).run(class_scores, x[part], y[part], Context(code if code is None else code[part]))
        torch.testing.assert_close(alone.x_adv, whole.x_adv[part])
        assert torch.equal(alone.first, whole.first[:, part])


def test_random_search_is_this_rule_from_the_clean_input():
    x, y, _ = batch(n=8)
    for threat in (threat_of("Linf", "pixels"), threat_of("L2", "pixels")):
        expected = attack(threat, 12, seed=3).run(class_scores, x, y)
        outcome = RandomSearch(threat, 12, seed=3).run(class_scores, x, y)
        assert torch.equal(outcome.x_adv, expected.x_adv)
        assert torch.equal(outcome.first, expected.first)


def test_what_is_misclassified_is_not_asked_about_again():
    x, model = images(4), Recorded(level=0.0)
    y = torch.where(torch.arange(4) < 2, model_label(model, x), 1 - model_label(model, x))
    model.asked.clear()
    outcome = attack(Threat(L2(1e-9)), 6).run(model, x, y)
    assert outcome.fooled[0].tolist() == [False, False, True, True]
    assert [len(asked) for asked in model.asked[:3]] == [4, 2, 2]


def model_label(model, x):
    with torch.no_grad():
        return model(x).argmax(1)


def test_labels_that_do_not_tell_what_success_is():
    """The search goes to the end, and raises the gain."""

    def gain(output, y):
        return (output - y[:, :2]).square().sum(1)

    def model(x):
        return x.flatten(1)[:, :2]

    x, y = 0.5 + 0.1 * images(4), torch.zeros(4, 3)
    outcome = RandomSearch(Linf(0.1), 40, gain=gain).run(model, x, y)
    assert outcome.fooled is None
    torch.testing.assert_close(outcome.gain, gain(model(x) + 0.1, y), rtol=0.02, atol=0)


def test_the_noise_of_those_that_stay_is_cut_once_a_step(monkeypatch):
    """Not once more for each time that samples left before."""
    x, _, _ = batch(n=40)
    y, cuts, take = class_scores(x).argmax(1), [], Noise.take

    def counted(self, rows):
        cuts.append(len(rows))
        return take(self, rows)

    monkeypatch.setattr(Noise, "take", counted)
    outcome = attack(Threat(Linf(0.05)), 60).run(class_scores, x, y)
    leaving = outcome.first[outcome.first >= 0].unique().numel()
    assert leaving > 5
    assert len(cuts) <= 60
