"""The nearest adversarial examples: against closed forms and against adv-lib from the same start."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from lightning_robust.attacks import (
    DDN,
    FMN,
    L1,
    L2,
    PGD,
    Boundary,
    Context,
    Linf,
    MinimumNorm,
    PixelSpace,
    Threat,
    cross_entropy,
    log_odds,
    margin,
    targeted_margin,
)
from tests.helpers import BALLS, SHAPE, class_scores, images
from tests.peers import adv_lib


class Scores(nn.Module):
    """A smooth model of five classes, whose boundaries are curved."""

    def forward(self, x):
        generator = torch.Generator().manual_seed(0)
        first, second = (torch.randn(shape, generator=generator).to(x) for shape in ((108, 16), (16, 5)))
        return (x.flatten(1) @ first).sin() @ second


def data(n=24):
    x = images(n, dtype=torch.float64)
    return x, Scores()(x).argmax(1)


def searched(rule, gain, ball, steps):
    x, y = data()
    attack = PGD(ball, steps, rule=rule, gain=gain, random_start=False, keep="best")
    return x, y, attack.run(Scores(), x, y)


def same(x, outcome, other, norm, atol=1e-5, least=0.7, apart=0):
    """As long for all samples, and equal for all but `apart` of them."""
    found = (other - x).flatten(1).abs().amax(1) > 1e-6
    found &= outcome.radius.isfinite()  # at the very boundary rounding decides
    assert found.float().mean() > least
    equal = torch.isclose(outcome.delta, other - x, rtol=1e-4, atol=atol).flatten(1).all(1)
    assert int((found & ~equal).sum()) <= apart
    length = (other - x).flatten(1).norm(p=norm, dim=1)
    torch.testing.assert_close(outcome.radius[found], length[found], rtol=1e-4, atol=atol)


@pytest.mark.parametrize("levels", [None, 256])
@pytest.mark.parametrize("steps", [10, 60])
def test_ddn_finds_what_adv_lib_finds(levels, steps):
    atol = 1e-5 if levels is None else 1 / 255  # a tie of rounding is one level
    x, y, outcome = searched(DDN(levels=levels), cross_entropy, L2(12.0), steps)
    same(x, outcome, adv_lib("decoupled_direction_norm").ddn(Scores(), x, y, steps=steps, levels=levels), 2, atol)


def project_l2(δ, ε):
    """adv-lib also lengthens what lies inside, and clips the result at 1: here it projects."""
    flat = δ.flatten(1)
    return flat.mul_((ε / flat.norm(dim=1).clamp_min(1e-12)).clamp(max=1)[:, None])


@pytest.mark.parametrize(("ball", "norm"), [(Linf(1.0), math.inf), (L2(12.0), 2), (L1(108.0), 1)])
@pytest.mark.parametrize("steps", [10, 25])
def test_fmn_finds_what_adv_lib_finds(ball, norm, steps, monkeypatch):
    x, y, outcome = searched(FMN(), margin, ball, steps)
    module = adv_lib("fast_minimum_norm")
    monkeypatch.setattr(module, "l2_projection_", project_l2)
    apart = int(norm == 1)  # of two coordinates with nearly the same slope rounding decides which one moves
    same(x, outcome, module.fmn(Scores(), x, y, norm, steps=steps), norm, 1e-4, least=0.04, apart=apart)


DUAL = {"Linf": 1, "L2": 2, "L1": math.inf}


@pytest.mark.parametrize("name", DUAL)
@pytest.mark.parametrize("classes", [2, 3, 10])
def test_the_radius_is_the_distance_of_a_linear_model(name, classes):
    """min over k of (z_y - z_k) / |w_k - w_y|_*; far from the bounds of pixels."""
    weight = torch.randn(classes, 108, generator=torch.Generator().manual_seed(classes))
    x = images(30)
    z = x.flatten(1) @ weight.T
    y = z.argmax(1)
    gap = z.gather(1, y[:, None]) - z
    dual = (weight[None] - weight[y][:, None]).norm(p=DUAL[name], dim=2)
    exact = torch.where(gap > 0, gap / dual, math.inf).amin(1)
    ball = {"Linf": Linf, "L2": L2, "L1": L1}[name](float(exact.median()))
    attack = MinimumNorm(Threat(ball, PixelSpace(-99, 99)), reach=20)
    outcome = attack.run(lambda v: v.flatten(1) @ weight.T, x, y)
    assert (outcome.radius >= exact * (1 - 1e-4)).all()
    assert (outcome.radius <= exact * 1.01).all()
    assert torch.equal(outcome.fooled[0], outcome.radius <= ball.eps * (1 + 1e-6))
    assert 0.3 < outcome.fooled.float().mean() < 0.7


@pytest.mark.parametrize("name", BALLS)
def test_what_is_returned_fools_where_it_says_so(name):
    x, y = data()
    x = x.float()
    threat = Threat(BALLS[name].make(SHAPE, 0.25))
    outcome = MinimumNorm(threat, 20).run(Scores(), x, y)
    wrong = Scores()(outcome.x_adv).argmax(1) != y
    assert torch.equal(wrong, outcome.fooled[0])
    assert threat.contains(x, outcome.x_adv).all()
    torch.testing.assert_close(threat.ball.norm(outcome.delta)[wrong], outcome.radius[wrong])
    assert threat.ball.contains(outcome.delta).all()


def test_no_sample_is_robust_against_it_that_pgd_breaks():
    x, y = data(100)
    x = x.float()
    outcome = MinimumNorm(Linf(0.02)).run(Scores(), x, y)
    for eps in (0.01, 0.02, 0.03):
        broken = PGD(Linf(eps), 40, restarts=2, gain=margin, keep="best").run(Scores(), x, y).fooled.any(0)
        assert (broken & (outcome.radius > eps)).sum() <= 1


@pytest.mark.parametrize("gain", [None, (margin, cross_entropy)])
def test_auto_pgd_looks_closer_in_an_l1_ball(gain):
    """After two steps the radii are far from the least ones, those of thirty steps."""
    x, y = data()
    first, closer, least = (
        MinimumNorm(L1(6.0), steps, gain=gain, closer=shares).run(Scores(), x, y)
        for steps, shares in ((2, ()), (2, None), (30, ()))
    )
    assert (closer.radius <= 1.0001 * first.radius).all()
    far = first.radius.isfinite() & (first.radius > 1.05 * least.radius)
    assert far.sum() >= 6
    assert ((closer.radius - least.radius) < 0.5 * (first.radius - least.radius))[far].float().mean() > 0.7
    found = closer.radius.isfinite()
    assert (Scores()(closer.x_adv).argmax(1) != y)[found].all()
    length = (closer.x_adv - x).flatten(1).abs().sum(1)
    torch.testing.assert_close(length[found], closer.radius[found].double(), rtol=1e-4, atol=1e-5)


def test_gains_that_the_output_does_not_have_are_left_out_there_too():
    x, y = data()
    attack = MinimumNorm(L1(6.0), 5, gain=(margin, targeted_margin(5)))
    alone = MinimumNorm(L1(6.0), 5, gain=margin)
    torch.testing.assert_close(attack.run(Scores(), x, y).radius, alone.run(Scores(), x, y).radius)


@pytest.mark.parametrize("rule", [FMN(), DDN()])
def test_the_textbook_rules_look_no_closer(rule):
    x, y = data()
    attack = MinimumNorm(L1(3.0), 5, gain=margin, rule=rule)
    plain = replace(attack, closer=())
    torch.testing.assert_close(attack.run(Scores(), x, y).radius, plain.run(Scores(), x, y).radius)


def test_the_quick_form_has_the_same_verdict_for_less():
    x, y = data()
    x, asked = x.float(), []

    def model(v):
        asked.append(len(v))
        return Scores()(v)

    attack = MinimumNorm(Linf(0.004), 10)
    whole = attack.run(model, x, y)
    full = sum(asked)
    asked.clear()
    quick = attack.quick().run(model, x, y)
    assert torch.equal(quick.fooled, whole.fooled)
    assert 0.2 < whole.fooled.float().mean() < 1
    assert sum(asked) < 0.95 * full


def test_a_radius_for_each_sample_and_wrong_ones_at_zero():
    x, y = data()
    x, eps = x.float(), torch.linspace(0.005, 0.1, 24)
    y[:3] = (y[:3] + 1) % 5
    together = MinimumNorm(Linf(eps), 10).run(Scores(), x, y)
    assert together.radius[:3].tolist() == [0, 0, 0]
    assert together.fooled[0, :3].all()
    alone = MinimumNorm(Linf(eps[7:8]), 10).run(Scores(), x[7:8], y[7:8])
    torch.testing.assert_close(alone.radius[0], together.radius[7], rtol=1e-4, atol=0)


def test_other_labels_want_to_know_what_is_right():
    x, target = images(6), torch.rand(6)
    attack = MinimumNorm(Linf(0.1), 5, gain=lambda z, y: (z[:, 0] - y).abs() - 8)
    with pytest.raises(ValueError, match="Expected labels that tell when a sample is misclassified, for Boundary"):
        attack.run(class_scores, x, target)
    context = Context(correct=lambda z, y: (z[:, 0] - y).abs() < 8)
    outcome = attack.run(class_scores, x, target, context)
    assert outcome.radius.isfinite().any()


def test_a_forward_that_writes_to_its_input_leaves_the_result_alone():
    x, y = data()
    x, attack = x.float(), MinimumNorm(Linf(0.02), 5)
    outcome = attack.run(lambda v: Scores()(v.mul_(1.0).add_(0.5)), x - 0.5, y)
    expected = attack.run(lambda v: Scores()(v + 0.5), x - 0.5, y)
    assert torch.equal(outcome.x_adv, expected.x_adv)
    assert torch.equal(outcome.radius, expected.radius)


@pytest.mark.parametrize("gain", [cross_entropy, log_odds])
def test_gains_that_are_not_zero_at_the_boundary(gain):
    """And expected gains of probabilities: the verdict tells on which side of the boundary a point lies."""
    x, y = data(50)
    x = x.float()
    soft = 0.8 * nn.functional.one_hot(y, 5) + 0.04
    best = MinimumNorm(Linf(0.02)).run(Scores(), x, y).radius
    for attack, labels in [
        (MinimumNorm(Linf(0.02), gain=gain), y),
        (MinimumNorm(Linf(0.02), gain=margin), soft),
    ]:
        radius = attack.run(Scores(), x, labels).radius
        assert radius.isfinite().float().mean() > 0.9
        assert float((radius / best).median()) < 2


def test_a_model_that_wants_whole_batches_gets_them():
    x, y = data()
    x, sizes = x.float(), set()
    y[:3] = (y[:3] + 1) % 5

    class Whole(Scores):
        whole_batches = True

        def forward(self, x):
            sizes.add(len(x))
            return super().forward(x)

    attack = MinimumNorm(Linf(0.004), 10).quick()
    whole, parts = attack.run(Whole(), x, y), attack.run(Scores(), x, y)
    assert sizes == {24}
    assert torch.equal(whole.fooled, parts.fooled)
    assert whole.radius[:3].tolist() == [0, 0, 0]
    found = parts.radius.isfinite()
    torch.testing.assert_close(whole.radius[found], parts.radius[found], rtol=1e-4, atol=0)


@pytest.mark.parametrize("name", DUAL)
def test_classes_that_are_far_cost_little(name):
    x, y = data(40)
    x, asked = x.float(), []

    def model(v):
        asked.append(len(v))
        return Scores()(v)

    ball = {"Linf": Linf, "L2": L2, "L1": L1}[name]({"Linf": 0.01, "L2": 0.06, "L1": 0.2}[name])
    radius, passes = [], []
    for far in ((3.0, 1.5), None):
        radius.append(MinimumNorm(ball, rule=Boundary(far=far), closer=()).run(model, x, y).radius)
        passes.append(sum(asked))
        asked.clear()
    assert passes[0] < 0.6 * passes[1]
    assert radius[1].isfinite().all()
    assert (radius[0] <= radius[1] * 1.05).all()
    assert float((radius[0] / radius[1]).mean()) < 1.005


def test_arguments_of_its_own():
    with pytest.raises(TypeError, match=r"`rule` to be a rule such as Boundary\(\)"):
        MinimumNorm(Linf(0.1), rule=None)
    with pytest.raises(ValueError, match="`reach`"):
        MinimumNorm(Linf(0.1), reach=0.5)
    with pytest.raises(ValueError, match="`closer`"):
        MinimumNorm(Linf(0.1), closer=(0.9, 1.0))
    for wrong in (0.9, "0.9", [None]):
        with pytest.raises(TypeError, match="`closer`"):
            MinimumNorm(Linf(0.1), closer=wrong)
    with pytest.raises(TypeError, match="`below` to be a tensor"):
        Boundary(below=3)
    with pytest.raises(ValueError, match="`far`"):
        Boundary(far=(3.0, 0.0))
