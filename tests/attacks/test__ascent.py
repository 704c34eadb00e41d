"""The loop where samples leave it, and what it keeps of what it saw."""

from dataclasses import fields, replace

import pytest
import torch
from torch import nn

from lightning_robust.attacks import (
    DDN,
    L1,
    L2,
    PGD,
    Adam,
    AutoPGD,
    Context,
    Linf,
    PixelSpace,
    Square,
    Steepest,
    Threat,
    margin,
    pgd as module,
    targeted_margin,
)
from lightning_robust.attacks._signs import Signs
from lightning_robust.attacks.scope import wants_whole_batches
from lightning_robust.attacks.starts import uniform
from tests.evaluation.zoo import backward, nan_in_half
from tests.helpers import THREATS, batch, class_scores, images, net, threat_of


def both(monkeypatch, attack, model, x, y, context):
    """The outcome where samples leave, and where they stay."""
    left = attack.run(model, x, y, context)
    monkeypatch.setattr(module, "wants_whole_batches", lambda model: True)
    return left, attack.run(model, x, y, context)


@pytest.mark.parametrize("rule", [Steepest(), Steepest(0.5), Adam(0.01)], ids=["steepest", "momentum", "adam"])
@pytest.mark.parametrize("name", THREATS)
def test_samples_that_leave_change_nothing(name, rule, monkeypatch):
    ball, space = THREATS[name]
    model, (x, y, code) = net(dtype=torch.float64), batch(space, 12, dtype=torch.float64)  # few rows round otherwise
    threat = threat_of(ball, space)
    attack = PGD(threat.scaled(0.5), steps=6, rule=rule, gain=margin, keep="best", early_stop=True, restarts=2)
    left, stayed = both(monkeypatch, attack, model, x, y, Context(code))
    assert torch.equal(left.fooled, stayed.fooled)
    assert torch.equal(left.first, stayed.first)
    torch.testing.assert_close(left.x_adv, stayed.x_adv, rtol=0, atol=1e-5)
    torch.testing.assert_close(left.radius, stayed.radius)


@pytest.mark.parametrize("rule", [Steepest(), AutoPGD(), Square()], ids=["steepest", "apgd", "square"])
@pytest.mark.parametrize("ball", [Linf(0.06), L2(0.3), L1(2.0)], ids=["Linf", "L2", "L1"])
def test_what_was_seen_of_those_that_stay_is_the_same(ball, rule, monkeypatch):
    """In double precision, where rounding decides nothing: also the best points, the random numbers and the signs."""
    x = images(40, dtype=torch.float64)
    y = class_scores(x).argmax(1)
    settings = {"gain": margin, "keep": "best", "early_stop": True, "rel_step_size": 0.9}
    left, stayed = both(monkeypatch, PGD(ball, 25, rule=rule, **settings), class_scores, x, y, Context())
    assert len(left.first[left.fooled].unique()) >= 2
    assert 0 < left.fooled.float().mean() < 1
    torch.testing.assert_close(left.delta, stayed.delta)
    torch.testing.assert_close(left.gain, stayed.gain)
    never = ~left.fooled[0]  # what stays after its success is watched further
    for f in fields(left.signs):
        torch.testing.assert_close(getattr(left.signs, f.name)[never], getattr(stayed.signs, f.name)[never])


def test_forwards_get_smaller():
    x, y, sizes = images(64), torch.arange(64) % 5, []

    def model(z):
        sizes.append(len(z))
        return class_scores(z)

    outcome = PGD(Linf(0.06), steps=8, gain=margin, keep="best", early_stop=True).run(model, x, y)
    first = outcome.first[0]
    alive = [64, *(int(((first < 0) | (first >= step)).sum()) for step in range(1, 9))]
    assert sizes == [size for size in alive if size]
    assert 0 < alive[-1] < 64


def test_restart_r_alone_is_restart_r_of_a_longer_run():
    x, y = images(16), torch.arange(16) % 5
    attack = PGD(Linf(0.05), steps=3, restarts=3, gain=margin, keep="best")
    whole, waves = attack.run(class_scores, x, y), attack.waves()
    assert len(waves) == 3
    for r, wave in enumerate(waves):
        alone = wave.run(class_scores, x, y, Context(restart=r))
        assert torch.equal(alone.fooled[0], whole.fooled[r])
        assert torch.equal(alone.first[0], whole.first[r])


def test_the_first_restart_may_start_at_the_clean_input():
    x, y = images(4), torch.arange(4)
    attack = PGD(Linf(0.1), steps=1, rel_step_size=1e-9, restarts=2, first_clean=True, gain=margin)
    torch.testing.assert_close(attack.waves()[0].run(class_scores, x, y).x_adv, x, rtol=0, atol=1e-6)
    assert (attack.waves()[1].run(class_scores, x, y, Context(restart=1)).x_adv - x).abs().amax() > 0.05


def test_what_the_loop_saw_of_an_honest_model():
    x, y = images(16), torch.arange(16) % 5
    signs = PGD(Linf(1e-3), steps=30, gain=margin, keep="best").run(net().double(), x.double(), y).signs
    assert (signs.steps == 30).all()
    assert not signs.zero.any()
    assert not signs.broken.any()
    assert (signs.agreed >= 0.9 * signs.asked).all()
    torch.testing.assert_close(signs.rise, signs.predicted, rtol=0.2, atol=1e-4)
    assert (signs.late <= signs.best).all()
    assert (signs.start <= signs.late).all()


def test_what_the_loop_saw_of_gradients_that_mean_nothing():
    x, y, inner = images(16), torch.arange(16) % 5, net()
    flip, zero, broken = (
        PGD(Linf(0.01), steps=10, gain=margin, keep="best").run(backward(change)(inner, inner), x, y).signs
        for change in (torch.neg, torch.zeros_like, nan_in_half)
    )
    assert (flip.rise < 0).all()
    assert (flip.agreed == 0).float().mean() > 0.5
    assert (zero.zero == 10).all()
    assert broken.broken.tolist() == pytest.approx([5.0] * 16)


@pytest.mark.parametrize(("steps", "share"), [(5, 0.0), (40, 0.75), (200, 0.9)])
def test_start_late_and_best_of_a_linear_gain(steps, share):
    """It rises alike in each step: late are the last ten, or the last tenth."""
    x, y = torch.full((2, 1, 2, 2), 0.5, dtype=torch.float64), torch.zeros(2).long()

    def model(z):
        total = z.flatten(1).sum(1)
        return torch.stack([9 - total, total], 1)

    attack = PGD(Linf(0.1), steps, rel_step_size=1 / steps, random_start=False, gain=margin, keep="best")
    signs = attack.run(model, x, y).signs
    assert signs.start.tolist() == pytest.approx([-5.0] * 2)
    assert signs.late.tolist() == pytest.approx([-5 + 0.8 * share] * 2)
    assert signs.best.tolist() == pytest.approx([-4.2] * 2)
    assert signs.rise.tolist() == pytest.approx([0.8] * 2)


def test_of_two_runs_the_one_that_rose_further_tells_start_and_end():
    one, other = Signs.none(2, torch.device("cpu")), Signs.none(2, torch.device("cpu"))
    one.start, one.late, one.best = (torch.tensor(v).double() for v in ([0.0, 0.0], [2.0, 0.5], [5.0, 1.0]))
    other.start, other.late, other.best = (torch.tensor(v).double() for v in ([5.0, -2.0], [6.0, -1.0], [6.0, 0.0]))
    one.steps, other.steps = one.steps + 3, other.steps + 4
    both = one + other
    assert both.start.tolist() == [0, -2]
    assert both.late.tolist() == [2, -1]
    assert both.best.tolist() == [5, 0]
    assert both.steps.tolist() == [7, 7]


def test_a_gain_may_win_where_the_verdict_stays_right():
    """Three classes, of which 0 and 1 count as one: the margin of class 0 is won at class 1."""
    x, y = torch.tensor([[0.5, 0.5], [0.5, 0.9]]), torch.tensor([0, 2])

    def model(z):  # class 1 comes before class 0 on the way; class 2 stays where it is, behind both or before both
        return torch.stack([0.55 - z[:, 0], z[:, 0] - 0.5, 20 * (z[:, 1] - 0.7)], 1)

    def signs(gain, correct, **given):
        attack = PGD(Linf(0.1), 4, gain=gain, random_start=False, keep="best", **given)
        found = attack.run(model, x, y, Context(correct=correct)).signs
        return list(zip(found.won.tolist(), found.short.tolist(), strict=True))

    pair = torch.tensor([0, 0, 1])
    coarse = lambda o, y: pair[o.argmax(1)] == pair[y]  # noqa: E731
    usual = lambda o, y: o.argmax(1) == y  # noqa: E731
    assert signs(margin, coarse) == [(True, False), (False, False)]
    assert signs(targeted_margin(1), coarse) == [(True, False), (False, True)]
    assert signs(targeted_margin(2), coarse) == [(False, True)] * 2
    assert signs(lambda o, y: margin(o, y), coarse) == [(False, True)] * 2
    assert signs(margin, coarse, rule=Square()) == [(True, False), (False, False)]
    for gain in (margin, targeted_margin(1)):
        assert not any(won for won, _ in signs(gain, usual))
        assert signs(gain, None) == [(False, False)] * 2


def test_the_way_is_that_from_the_start_and_the_longer_one_of_two_runs():
    x, y = images(6), torch.arange(6) % 5
    for ball, rule in ((Linf(0.1), Adam(1e-4)), (L2(0.5), Steepest())):
        starts = []

        def start(ball, noise, zero, starts=starts):
            starts.append(uniform(ball, noise, zero))
            return starts[-1]

        attack = PGD(Threat(ball, PixelSpace(-9, 9)), 1, rule=rule, random_start=start, gain=margin, keep="best")
        signs = attack.run(class_scores, x, y).signs
        moved = replace(attack, keep="last").run(class_scores, x, y).delta - starts[0]
        torch.testing.assert_close(signs.way, ball.norm(moved).double(), rtol=1e-3, atol=1e-7)
        longer = replace(signs, way=signs.way * torch.tensor([0.5, 2.0]).repeat(3))
        assert torch.equal((signs + longer).way, torch.maximum(signs.way, longer.way))


def test_silent_is_what_was_misclassified_on_the_way_only():
    x, y = torch.full((1, 3, 6, 6), 0.5), torch.tensor([0])

    def model(z):  # wrong only near the middle of the way
        total = (z - 0.5).flatten(1).mean(1)
        return torch.stack([torch.zeros_like(total), total * (1 + 100 * ((total - 0.02).abs() < 0.01)) - 0.05], 1)

    attack = PGD(Linf(0.04), steps=8, rel_step_size=0.125, random_start=False, gain=margin, keep="best")
    outcome = attack.run(model, x, y)
    assert outcome.fooled.all()
    assert outcome.signs.silent.all()


def test_the_radius_is_that_of_the_nearest_misclassified_iterate():
    x, y = torch.full((1, 3, 6, 6), 0.5), torch.tensor([0])

    def model(z):
        total = (z - 0.5).flatten(1).mean(1)
        return torch.stack([torch.zeros_like(total), total - 0.019], 1)

    attack = PGD(Linf(0.04), steps=8, rel_step_size=0.125, random_start=False, gain=margin, keep="best")
    assert attack.run(model, x, y).radius.tolist() == pytest.approx([0.02], abs=1e-6)
    assert attack.scaled(0.1).run(model, x, y).radius.tolist() == [torch.inf]


def test_compiled_models_keep_their_batch():
    assert wants_whole_batches(torch.compile(net()))
    assert not wants_whole_batches(net())
    inner = net()
    inner.compile()
    assert wants_whole_batches(lambda x: inner(x))


def test_a_module_says_so_for_the_function_that_holds_it():
    inner = net()
    inner.whole_batches = True
    assert wants_whole_batches(lambda x: inner(x))


def test_batch_statistics_see_the_whole_batch():
    norm, x, sizes = nn.BatchNorm2d(3, track_running_stats=False).eval(), images(16), set()

    def model(z):
        sizes.add(len(z))
        return class_scores(norm(z))

    y = model(x).argmax(1)
    outcome = PGD(Linf(0.03), steps=6, gain=margin, keep="best", early_stop=True).run(model, x, y)
    assert 0 < outcome.fooled.float().mean() < 1
    assert sizes == {16}
    assert not wants_whole_batches(nn.BatchNorm2d(3))


def test_a_rule_that_never_stepped_has_nothing_to_return():
    x, y = images(4), class_scores(images(4)).argmax(1)
    attack = PGD(Linf(0.1), 3, rule=DDN(), random_start=False, gain=margin, keep="best", early_stop=True, mode="train")
    outcome = attack.run(class_scores, x, (y + 1) % 5)
    assert outcome.fooled.all()
    torch.testing.assert_close(outcome.x_adv, x)
