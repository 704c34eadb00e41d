"""Indicators: the zoo of masked and honest networks, closed forms of what is measured, and what is refused."""

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lightning_robust.attacks import (
    L1,
    L2,
    PGD,
    Linf,
    PixelSpace,
    RandomSearch,
    Threat,
    binary_correct,
    binary_margin,
    expectation,
    margin,
)
from lightning_robust.attacks._signs import Signs
from lightning_robust.attacks.attack import Context
from lightning_robust.attacks.labels import judged
from lightning_robust.evaluation import evaluate, indicators
from lightning_robust.evaluation._few import reach_of_the_bounds
from lightning_robust.evaluation._indicator import KINDS, indicator
from tests.evaluation import zoo
from tests.helpers import SHAPE, SPACES, THREATS, class_scores, threat_of, unchanged

QUERIES = 100
POINTS = 0.05


@pytest.fixture(scope="module")
def networks():
    return zoo.seeded(0, zoo.network), zoo.seeded(1, zoo.network)


@pytest.fixture(scope="module")
def truth(networks):
    """The robust accuracy of the bare network."""
    _, _, x, y = zoo.digits()
    net = networks[0]
    attack = PGD(zoo.THREAT, steps=50, restarts=3, gain=margin, keep="best")
    return float(right(net, attack(net, x, y), y).double().mean())


def named(found):
    return {one.name: one for one in found}


def flagged(found):
    return {one.name for one in found if one.flagged}


def right(model, x, y, correct=None):
    with torch.no_grad():
        return judged(correct, model(x.clone()), y)


def evaluated(model, gain=margin, correct=None, meant=frozenset()):
    """The robust accuracy under twice 20 steps of PGD, and the names of what is flagged.

    The search comes last, and not where one of `meant` is flagged already.
    """
    _, _, x, y = zoo.digits()
    found = indicators.probe(model, x, y, zoo.THREAT, gain=gain, correct=correct)
    attack = PGD(zoo.THREAT, steps=20, restarts=2, gain=gain, keep="best")
    outcome = attack.run(model, x, y, Context(correct=correct))
    clean = right(model, x, y, correct)
    withstood = clean & right(model, outcome.x_adv, y, correct)
    rows = withstood.nonzero().flatten()
    found += indicators.from_signs(outcome.signs.take(rows), len(x))
    found += indicators.radius_used(zoo.THREAT.ball.norm(outcome.delta[rows]), zoo.EPS)
    found += indicators.unbounded(model, x, y, zoo.THREAT, gain=gain, correct=correct)
    if flagged(found) & meant:
        return float(withstood.double().mean()), flagged(found)
    if len(rows):
        searched = RandomSearch(zoo.THREAT, QUERIES)(model, x[rows], y[rows], correct=correct)
        rows = rows[~right(model, searched, y[rows], correct)]
    if len(rows):  # what gradients find with more effort, the search has not found alone
        more = PGD(zoo.THREAT, steps=50, restarts=5, gain=gain, keep="best")(model, x[rows], y[rows], correct=correct)
        rows = rows[right(model, more, y[rows], correct)]
    found.append(indicators.search_beats_gradients(int((clean & ~withstood).sum()), len(rows), len(x)))
    return float(withstood.double().mean()), flagged(found)


# -------------------------------------------------------------------------------------------------- the zoo


@pytest.mark.parametrize("name", zoo.MASKS)
def test_a_mask_that_inflates_is_flagged_by_what_is_meant_for_it(name, networks, truth):
    mask = zoo.MASKS[name]
    model, meant = mask.make(*networks), set(mask.meant.split())
    assert meant - {"refused"} <= KINDS.keys()
    if "refused" in meant:
        with pytest.raises(RuntimeError, match="differentiably"):
            evaluated(model, mask.gain, mask.correct)
        return
    accuracy, doubts = evaluated(model, mask.gain, mask.correct, meant)
    assert doubts & meant or accuracy <= truth + POINTS, (accuracy, truth, doubts)
    assert (accuracy > truth + POINTS) == mask.inflates, (accuracy, truth)


@pytest.mark.parametrize("name", zoo.HONEST)
def test_no_honest_network_is_flagged(name, networks):
    _, doubts = evaluated(zoo.HONEST[name].make(networks[0]))
    assert not doubts


def test_the_zoo_is_large_enough_and_a_third_was_written_afterwards():
    inflating = [mask for mask in zoo.MASKS.values() if mask.inflates]
    assert len(inflating) >= 20
    assert len(zoo.HONEST) >= 10
    for group in (zoo.MASKS, zoo.HONEST):
        assert sum(one.written == "after" for one in group.values()) >= len(group) / 3


# ------------------------------------------------------------------------------------------------- the probe


X, Y = torch.rand(24, *SHAPE, generator=torch.Generator().manual_seed(0)), torch.arange(24) % 3
LINEAR = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(SHAPE), 3))


class Scaled(nn.Module):
    """A network whose gradient is multiplied on its way to the input."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return LINEAR(zoo.Changed.apply(x, lambda grad: self.factor * grad))


@pytest.mark.parametrize("ball", [Linf(0.05), L2(0.5), L1(1.0)], ids=lambda ball: type(ball).__name__)
@pytest.mark.parametrize(("factor", "value"), [(1.0, 1.0), (1e3, 1.0), (-1.0, -1.0), (0.0, 0.0)])
def test_the_rise_along_the_gradient_of_a_linear_gain(ball, factor, value):
    # two classes: the margin is linear
    x, y = X * 0.5 + 0.25, Y % 2

    def two(x):
        return Scaled(factor)(x)[:, :2]

    found = named(indicators.probe(two, x, y, ball))
    assert found["gradient_rise"].value == pytest.approx(value, abs=1e-3)
    assert found["gradient_rise"].flagged == (value < 0.25)
    assert found["zero_gradient"].value == (factor == 0)


@pytest.mark.parametrize("without", [0, 1])
def test_one_sample_without_a_gradient_is_doubted(without):
    def model(x):
        stopped = ((x[:, None] - X[:without]).abs() < 0.11).flatten(2).all(2).any(1)
        return LINEAR(torch.where(stopped[:, None, None, None], x.detach(), x))

    found = named(indicators.probe(model, X, Y, Linf(0.1)))["zero_gradient"]
    assert (found.value, found.flagged) == (without / 24, without > 0)


@pytest.mark.parametrize(("size", "flagged"), [(0.1, False), (0.2, True)])
def test_noise_of_the_gain_in_shares_of_it(size, flagged):
    """A gain of -1 and -1 plus or minus a number drawn for each point: two of them differ by it, or by twice it, or not
    at all, so by sqrt(1/2) of it in the square mean of half a difference."""

    def model(x):
        drawn = size * torch.where(torch.sin(1e5 * x.double().flatten(1).sum(1)) > 0, 1.0, -1.0).float()
        return torch.stack([1 + drawn, 0 * drawn], 1) + 0 * x.flatten(1)[:, :2]

    found = named(indicators.probe(model, X, 0 * Y, Linf(0.1)))["unstable"]
    assert found.value == pytest.approx(size * 0.5**0.5, rel=0.3)
    assert found.flagged == flagged


@pytest.mark.parametrize("name", THREATS)
def test_a_smooth_model_is_not_flagged_in_any_ball_and_space(name):
    ball, space = THREATS[name]
    case, x = SPACES[space], SPACES[space].inputs(X)
    size = float(x.abs().max())

    def model(x):
        return class_scores(x / size)

    y = model(x).argmax(1)
    threat = threat_of(ball, space)
    found = indicators.probe(model, x, y, threat, code=case.code(X))
    assert not flagged(found)
    assert {"random", "company", "constant", "zero_gradient", "gradient_rise", "unstable"} <= named(found).keys()


def test_the_probe_leaves_everything_as_it_was_and_repeats_itself():
    net = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(math.prod(SHAPE)), nn.Dropout(), nn.Linear(math.prod(SHAPE), 3))
    with unchanged(net):
        first = indicators.probe(net, X, Y, Linf(0.1))
        more = indicators.unbounded(net, X, Y, Linf(0.1))
    assert first == indicators.probe(net, X, Y, Linf(0.1))
    assert more == indicators.unbounded(net, X, Y, Linf(0.1))


def test_at_most_64_samples_are_asked_and_models_of_a_batch_are_cut():
    sizes = []

    class Shifted:
        def __init__(self, shift):
            self.shift = shift

        def __call__(self, x):
            sizes.append(len(x))
            return LINEAR(x) + self.shift

        def rows(self, rows):
            return Shifted(self.shift[rows])

    x, y = torch.rand(100, *SHAPE), torch.arange(100) % 3
    model = Shifted(torch.randn(100, 3))
    eps = torch.full((100,), 0.1)
    assert not flagged(indicators.probe(model, x, y, Linf(eps)))
    indicators.unbounded(model, x, y, Linf(eps))
    assert max(sizes) <= 64


@pytest.mark.parametrize("factor", [1e3, 1e38, 1e-30])
def test_values_do_not_depend_on_the_scale_of_the_logits(factor):
    """1e38: the squares of such logits are no float32, and it was said that the output is constant."""

    def values(factor):
        return [one.value for one in indicators.probe(lambda x: factor * LINEAR(x), X, Y, Linf(0.1))]

    assert values(factor) == pytest.approx(values(1.0), rel=1e-3, abs=1e-6)


@pytest.mark.parametrize(("kept", "share"), [(1, 1.0), (2, 0.0), (3, 0.0)])
def test_wrong_classes_whose_logits_do_not_move(kept, share):
    """Of four logits the highest stay, the others are at a floor; of two classes the gain is one number."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(SHAPE), 4))

    def cut(x, classes=4):
        z = net(x)[:, :classes]
        return torch.where(z >= z.topk(kept, dim=1).values[:, -1:], z, -20.0)

    y = net(X).argmax(1)
    found = named(indicators.probe(cut, X, y, Linf(1e-4)))["silent_classes"]
    assert (found.value, found.flagged) == (share, share > 0)
    if kept == 1:
        shares = F.one_hot(y, 4).float()
        assert named(indicators.probe(cut, X, shares, Linf(1e-4)))["silent_classes"].value == share
        assert "silent_classes" not in named(indicators.probe(lambda x: cut(x, 2), X, y % 2, Linf(1e-4)))


def test_one_logit_has_a_dimension_or_none():
    asked = {"gain": binary_margin, "correct": binary_correct}
    for ask in (indicators.probe, indicators.unbounded):
        one, other = (ask(lambda x, d=d: LINEAR(x)[:, d], X, Y % 2, Linf(0.1), **asked) for d in (0, slice(1)))
        assert one == other


def test_a_random_model_is_refused_and_its_expectation_is_not():
    noisy = zoo.noisy(LINEAR, LINEAR)
    found = indicators.probe(noisy, X, Y, Linf(0.1))
    with pytest.raises(ValueError, match=r"answers the same input differently.*expectation\(model"):
        indicators.refuse(found)
    assert "grad_mode" not in named(found)
    mean = indicators.probe(expectation(noisy, 16), X[:8], Y[:8], Linf(0.1))
    indicators.refuse(mean)
    assert "company" not in named(mean)
    lottery = expectation(lambda x: torch.randn(len(x), 3) + 0 * LINEAR(x), 1)
    assert "few_draws" in flagged(indicators.probe(lottery, X, Y, Linf(0.1)))


def test_a_constant_model_is_refused():
    found = indicators.probe(lambda x: 0 * LINEAR(x) + torch.arange(3.0), X, Y, Linf(0.1))
    with pytest.raises(ValueError, match="does not depend on the input"):
        indicators.refuse(found)


def test_one_image_and_equal_images_are_not_called_constant():
    assert "constant" not in named(indicators.probe(LINEAR, X[:1], Y[:1], Linf(0.1)))
    assert "constant" not in named(indicators.probe(LINEAR, X[:1].repeat(4, 1, 1, 1), Y[:4], Linf(0.1)))


# ----------------------------------------------------------------------------------------------- the loop


def signs_of(**values):
    """Signs of two samples, of 100 steps that do as they should, but for what is given."""
    ones = torch.ones(2, dtype=torch.float64)
    good = {
        "steps": 100 * ones,
        "asked": 100 * ones,
        "agreed": 90 * ones,
        "rise": ones,
        "predicted": ones,
        "best": ones,
    }
    signs = Signs.none(2, torch.device("cpu"))
    for name, value in ({**good, "late": ones} | values).items():
        setattr(signs, name, torch.as_tensor(value, dtype=getattr(signs, name).dtype).expand(2))
    return signs


@pytest.mark.parametrize(
    ("values", "name", "value"),
    [
        ({"zero": [51.0, 50.0]}, "loop_zero_gradient", 0.1),
        ({"broken": [50.0, 0.0]}, "loop_broken_gradient", 0.05),
        ({"rise": [0.1, -0.1]}, "loop_rise", 0.0),
        ({"silent": [True, True]}, "silent_success", 0.2),
        ({"won": [True, True], "short": [True, False]}, "gain_won", 0.1),
        ({"late": [0.9, 0.7]}, "still_rising", 0.2),
    ],
)
def test_the_signs_of_the_loop(values, name, value):
    found = indicators.from_signs(signs_of(**values), 10)
    assert named(found)[name].value == pytest.approx(value)
    assert flagged(found) == {name}


def test_good_signs_few_steps_and_nothing_that_withstood():
    assert not flagged(indicators.from_signs(signs_of(), 10))
    for steps, asked in ((49, False), (50, True)):
        assert ("still_rising" in named(indicators.from_signs(signs_of(late=0.0), 10, steps=steps))) == asked
    assert not indicators.from_signs(signs_of().take(torch.tensor([], dtype=torch.long)), 10)
    assert not indicators.from_signs(Signs.none(3, torch.device("cpu")), 3)


def test_a_handful_of_steps_tells_nothing_of_their_gradients():
    """Ten nodes of a graph, three steps each: the gain of those that withstand falls while that of others rises."""
    for steps, value in ((50.0, -1.0), (49.5, math.nan)):
        found = named(indicators.from_signs(signs_of(rise=-1.0, asked=steps, agreed=0.0), 10))["loop_rise"]
        assert found.value == pytest.approx(value, nan_ok=True)
        assert found.flagged == (steps == 50)


def test_a_rise_of_few_samples_is_doubted_where_there_is_none():
    """One alone at a kink decides what all steps of four did together."""
    for moved, rise, flagged in ((4, 0.05, False), (5, 0.05, True), (4, 0.0, True), (1, -0.1, True), (5, 0.15, False)):
        sums = torch.tensor([0, 0, 0, 0, moved, 0, rise, 1.0, 90, 100])
        assert named(indicators.from_sums(sums, 10, 20))["loop_rise"].flagged == flagged


def test_an_ascent_that_has_not_ended(networks):
    _, _, x, y = zoo.digits()

    def rising(size):
        attack = PGD(zoo.THREAT, steps=60, rel_step_size=size, random_start=False, gain=margin, keep="best")
        outcome = attack.run(networks[0], x, y)
        return flagged(indicators.from_signs(outcome.signs.take(~outcome.fooled.any(0)), len(x)))

    assert rising(0.01) == {"still_rising"}
    assert not rising(None)


def test_radius_used():
    assert indicators.radius_used(torch.tensor([0.2, 0.4, 0.9]), 1.0)[0].value == pytest.approx(0.4)
    assert not flagged(indicators.radius_used(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.0])))
    assert not indicators.radius_used(torch.tensor([]), 0.1)
    for share, doubted in ((0.49, True), (0.51, False)):
        assert indicators.radius_used(torch.tensor([0.1, share, 1.0]), 1.0)[0].flagged == doubted


# -------------------------------------------------------------------------------------------- another run


def test_the_ball_covers_the_bounds():
    x = torch.tensor([[0.2, 0.5], [1.0, 0.0]])
    y = torch.tensor([0, 1])
    for ball, factor in ((Linf(0.1), 10.0), (L2(0.5), 2 * math.sqrt(2)), (L1(0.5), 4.0)):
        assert reach_of_the_bounds(x, y, Threat(ball), Context()) == pytest.approx(factor)
    assert reach_of_the_bounds(x, y, Threat(Linf(0.1), PixelSpace(-math.inf, math.inf)), Context()) is None


def test_what_withstands_any_size_is_counted():
    x, y = torch.full((5, 2), 0.5), torch.tensor([0, 0, 0, 0, 1])

    def half(x):  # of the samples two move, two have a gradient of zero, and one is wrong without an attack
        stopped = torch.tensor([1.0, 1.0, 0.0, 0.0, 1.0])[: len(x), None]
        return (0.8 - x) * stopped * torch.tensor([2.0, -2.0]) + torch.tensor([0.1, 0.0]) * (1 - stopped)

    found, jumps = indicators.unbounded(half, x, y, Linf(0.01))
    assert (found.value, found.flagged) == (0.5, True)
    assert (jumps.name, jumps.flagged) == ("gain_jumps", False)


def collapsed(x):
    """Always the first class, by more or less."""
    return torch.stack([5 + x.sum(1), x.sum(1) * 2 - 3], 1)


def hidden(x):
    """Without a gradient, the first class but for inputs beyond 0.9."""
    z = (x[:, 0] > 0.9).float() * 2 - 1 + 0 * x.sum(1)
    return torch.stack([-z, z], 1)


def test_a_margin_that_is_won_under_a_laxer_verdict_is_no_attack_that_does_not_work():
    """Two fine classes of one coarse one fill the range: the attack reaches the other, and the verdict stays right."""

    def fine(x):
        a = x.mean(1)
        return torch.stack([a, 1 - a, a * 0 - 5], 1)

    def coarse(output, y):
        return (output.argmax(1) == 2) == (y == 2)

    x, y = torch.rand(4, 3, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.5, torch.tensor([0, 0, 0, 2])
    found = indicators.unbounded(fine, x, y, Linf(0.1), correct=coarse)
    assert [one.value for one in found if one.name == "unbounded"] == [0.0]
    # Where the sibling cannot be reached, nothing was won.
    found = indicators.unbounded(lambda x: fine(x * 0 + 0.9 + 0.01 * x), x, y, Linf(0.1), correct=coarse)
    assert [one.value for one in found if one.name == "unbounded"] == [1.0]


@pytest.mark.parametrize(
    ("model", "labels", "expected"),
    [
        (collapsed, [0, 0, 1, 0], {"one_class"}),
        (collapsed, [0, 0, 0, 0], {"unbounded"}),
        (hidden, [0, 0, 1, 0], {"unbounded"}),
        (hidden, [0, 0, 0, 0], {"unbounded"}),
    ],
    ids=["one class", "one label", "masked", "masked with one label"],
)
def test_one_class_for_all_inputs_is_no_fault_of_the_attack(model, labels, expected):
    x, y = torch.rand(4, 3, generator=torch.Generator().manual_seed(0)) * 0.5, torch.tensor(labels)
    found = indicators.unbounded(model, x, y, Linf(0.1))
    assert flagged(found) == expected
    if expected == {"one_class"}:
        assert flagged(indicators.standing(found, 0)) == expected

        def yes_no(x):
            return model(x)[:, :1] - model(x)[:, 1:]

        given = {"gain": binary_margin, "correct": binary_correct}
        assert flagged(indicators.unbounded(yes_no, x, 1 - y.float()[:, None], Linf(0.1), **given)) == expected


def test_without_a_set_what_needs_none_is_asked():
    names = {"random", "grad_mode", "optimizing", "company", "constant", "broken_logits", "probabilities"}
    assert named(indicators.probe(LINEAR, X, Y, None)).keys() == names
    assert not flagged(indicators.probe(LINEAR, X, Y, None))
    assert flagged(indicators.probe(lambda x: LINEAR(x).softmax(1), X, Y, None)) == {"probabilities"}


def test_a_model_of_whole_batches_is_asked_about_all_of_them_and_about_none_that_cannot_be_cut():
    sizes = []

    class Graph(nn.Module):
        whole_batches = True

        def forward(self, x):
            sizes.append(len(x))
            return LINEAR(x)

    class Fixed(Graph):
        def rows(self, rows):
            raise TypeError("one graph")

    class OfOneSize(nn.Module):
        def forward(self, x):
            return LINEAR(x) + torch.zeros(60, 1)

    class Mixing(Graph):
        def forward(self, x):
            return super().forward(x - x.mean(0))

    x, y = torch.rand(100, *SHAPE), torch.arange(100) % 3
    x[50:] *= 0.5  # the means of batches differ
    assert "company" in flagged(indicators.probe(Mixing(), x, y, Linf(0.1)))
    assert not flagged(indicators.probe(Graph(), x, y, Linf(0.1)))
    assert not {"company", "constant"} & named(indicators.probe(Fixed(), x, y, Linf(0.1))).keys()
    assert set(sizes) == {100}
    found = named(indicators.probe(OfOneSize(), x[:60], y[:60], Linf(0.1)))
    assert "company" not in found
    assert not flagged(found.values())


@pytest.mark.parametrize(("kind", "doubted"), [(torch.bfloat16, False), (torch.float32, True)])
def test_rounding_that_depends_on_grad_mode_is_no_other_function(kind, doubted):
    """Without gradients torch may take another path; in bfloat16 that is a few percent of the output."""
    x, y = torch.rand(40, *SHAPE), torch.arange(40) % 3

    def model(x):
        z = LINEAR(x)
        return (z + 0.03 * z.std().detach() * torch.is_grad_enabled()).to(kind)

    assert ("grad_mode" in flagged(indicators.probe(model, x, y, Linf(0.1)))) == doubted


@pytest.mark.parametrize("seed", range(4))
def test_samples_that_act_on_one_another_have_no_rise_of_their_own(seed):
    torch.manual_seed(seed)
    x, y = torch.rand(40, *SHAPE), torch.randint(3, (40,))
    weights = torch.rand(40, 40)

    class Joined(nn.Module):
        whole_batches = True

        def forward(self, x):
            z = LINEAR(x)
            return z + (weights[: len(z), : len(z)] @ z) / 4

    found = named(indicators.probe(Joined(), x, y, Linf(0.1)))
    assert found["company"].flagged
    assert not {"foreign_gradient", "gradient_rise"} & found.keys()


class Closed(torch.autograd.Function):
    """The identity, without a backward pass."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()


WITHOUT_GRADIENT = {
    "no_grad": torch.no_grad()(LINEAR.forward),
    "inference_mode": torch.inference_mode()(LINEAR.forward),
    "numpy": lambda x: LINEAR(torch.from_numpy(x.numpy())).detach(),
    "no backward": lambda x: LINEAR(Closed.apply(x)),
    "other path": lambda x: LINEAR(x.detach()),
}


@pytest.mark.parametrize("name", WITHOUT_GRADIENT)
def test_a_model_that_gives_no_gradient_is_doubted_and_asked_no_question_that_needs_one(name):
    model = WITHOUT_GRADIENT[name]
    found = named(indicators.probe(model, X, Y, Linf(0.1)))
    assert found["zero_gradient"].value == 1
    assert "grad_mode" not in flagged(found.values())
    assert indicators.unbounded(model, X, Y, Linf(0.1)) == []


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA"), RuntimeError("DefaultCPUAllocator: out of memory")])
def test_memory_that_runs_out_is_not_taken_for_a_model_without_a_gradient(error):
    def full(x):
        if torch.is_grad_enabled():
            raise error
        return LINEAR(x)

    for ask in (indicators.probe, indicators.unbounded):
        with pytest.raises(RuntimeError, match=r"CUDA|out of memory"):
            ask(full, X, Y, Linf(0.1))


def test_an_error_of_a_model_that_gives_gradients_is_its_own():
    calls = []

    def breaks(x):
        calls.append(x)
        if len(calls) == 3:
            raise RuntimeError("once")
        return LINEAR(x)

    with pytest.raises(RuntimeError, match="once"):
        indicators.unbounded(breaks, X, Y, Linf(0.1))
    assert len(calls) > 3


def test_a_search_and_a_transfer_that_beat_gradients():
    assert indicators.search_beats_gradients(10, 2, 1000).flagged is False
    assert indicators.search_beats_gradients(10, 3, 1000).flagged is True
    assert indicators.transfer_beats_gradients(10, 3, 1000).value == 0.003
    for wrong in ((-1, 0, 10), (0, 11, 10), (0, 0, 0)):
        with pytest.raises(ValueError, match="Expected argument"):
            indicators.search_beats_gradients(*wrong)


# ---------------------------------------------------------------------------------------------- thresholds


THRESHOLDS = {
    "random": 1e-3,
    "few_draws": 0.05,
    "optimizing": 0.5,
    "grad_mode": 0.02,
    "company": 0.05,
    "constant": 1e-6,
    "probabilities": 0.99,
    "broken_logits": 0.0,
    "zero_gradient": 0.01,
    "silent_classes": 0.05,
    "broken_gradient": 0.001,
    "gradient_moves": 0.05,
    "gradient_rise": 0.25,
    "foreign_gradient": 0.93,
    "unstable": 0.1,
    "loop_zero_gradient": 0.01,
    "loop_broken_gradient": 0.001,
    "loop_rise": 0.1,
    "silent_success": 0.1,
    "gain_won": 0.05,
    "still_rising": 0.05,
    "radius_used": 0.5,
    "no_gradients": 0.5,
    "one_step": 1.5,
    "short_steps": 1.0,
    "few_targets": 2.5,
    "unbounded": 0.05,
    "one_class": 0.5,
    "gain_jumps": 0.25,
    "search_beats_gradients": 0.002,
    "transfer_beats_gradients": 0.002,
    "sorted_cut": 1e-5,
}
"""Beyond these numbers the masked networks of the zoo lie, and no honest one."""
LOW = {"constant", "gradient_rise", "foreign_gradient", "loop_rise", "radius_used", "sorted_cut"}
LOW |= {"no_gradients", "one_step", "short_steps", "few_targets"}
"""Doubted below the number, the others above it."""


def test_every_threshold_is_here():
    assert THRESHOLDS.keys() == KINDS.keys()
    assert THRESHOLDS.keys() > LOW


@pytest.mark.parametrize("name", THRESHOLDS)
def test_a_value_is_doubted_just_beyond_the_threshold(name):
    threshold = THRESHOLDS[name]
    for value, above in ((threshold * 1.01 + 1e-12, True), (threshold * 0.99, False)):
        assert indicator(name, value, agreed=0.5, more="").flagged == (above != (name in LOW))


# --------------------------------------------------------------------------------------------------- texts


def test_every_indicator_has_a_source_and_says_what_to_do():
    for kind in KINDS.values():
        text = kind.text.format(value=0.5, agreed=0.5, more="x")
        assert text.endswith((".", "?"))
        assert "{" not in text
        assert kind.source


def test_one_warning_of_all_that_is_flagged():
    good, bad = indicators.search_beats_gradients(10, 0, 1000), indicators.search_beats_gradients(10, 30, 1000)
    assert indicators.warning([good]) is None
    text = indicators.warning([good, bad])
    assert "3.0%" in text
    assert "30 beside 10 of 1000" in text
    with pytest.raises(dataclasses.FrozenInstanceError):
        good.value = 1.0


class Wave(nn.Module):
    """The log-odds sin(0.8 z), z a signed sum of 64 pixels: its own gradient, and a bend within the smallest move."""

    def forward(self, x):
        z = (x.flatten(1) - 0.5) @ (1.0 - 2.0 * (torch.arange(64) % 2)).to(x)
        return torch.stack([torch.zeros_like(z), torch.sin(0.8 * z)], 1)


def test_a_bend_is_not_taken_for_the_gradient_of_another_function():
    """Along the gradient the smallest move is 1 in z to both sides: the rise is sin(0.8) / 0.8 of the promise."""
    x = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    report = evaluate(Wave(), (x, Wave()(x).argmax(1)), {"pgd": PGD(Linf(0.5), steps=2)})
    found = {indicator.name: indicator.value for indicator in report.indicators}
    assert found["foreign_gradient"] == pytest.approx(1, abs=0.01)
    assert found["gradient_rise"] == pytest.approx(math.sin(0.8) / 0.8, abs=0.02)


class Rounded(nn.Module):
    """Logits in bfloat16, linear but for the rounding: a small random move changes them by a few roundings."""

    def forward(self, x):
        z = 4 * (x.flatten(1) - 0.5) @ (1.0 - 2.0 * (torch.arange(64) % 2)).to(x)
        return (100 + torch.stack([torch.zeros_like(z), z], 1)).bfloat16()


@pytest.mark.parametrize("seed", [2, 11, 15])
def test_what_is_rounded_tells_nothing_of_the_gradient_of_another_function(seed):
    """What the step along the gradient is measured by, the random moves of few samples, is rounded, too."""
    x = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    report = evaluate(Rounded(), (x, Rounded()(x).argmax(1)), {"pgd": PGD(Linf(0.5), steps=2)})
    assert "foreign_gradient" not in named(report.indicators)
