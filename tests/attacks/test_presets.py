import math
from dataclasses import replace

import foolbox
import pytest
import torch
import torchattacks

from lightning_robust._noise import Noise
from lightning_robust.attacks import (
    L2,
    PGD,
    Adam,
    Context,
    Linf,
    Steepest,
    bim,
    carlini_wagner,
    confident_margin,
    fgsm,
    margin,
    mim,
    pgd_cw,
    rs_fgsm,
    stutz,
)
from lightning_robust.attacks.starts import norm_uniform
from lightning_robust.interop import from_foolbox, from_torchattacks
from tests.helpers import SHAPE, Linear, batch, class_scores, images, net, threat_of


def gradient(model, x, y):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(torch.nn.functional.cross_entropy(model(x), y, reduction="sum"), x)[0]


def test_fgsm_is_the_closed_formula():
    x, y, model = images(8), torch.arange(8) % 5, net().eval()
    g = gradient(model, x, y)
    torch.testing.assert_close(fgsm(Linf(0.1))(model, x, y), (x + 0.1 * g.sign()).clamp(0, 1), rtol=0, atol=1e-6)
    inner = 0.2 + 0.6 * x
    g = gradient(model, inner, y)
    expected = inner + 0.1 * g / g.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)
    torch.testing.assert_close(fgsm(L2(0.1))(model, inner, y), expected, rtol=0, atol=1e-5)


def test_rs_fgsm_is_the_closed_formula():
    x, y, model, eps = images(8), torch.arange(8) % 5, net().eval(), 0.1
    attack = rs_fgsm(Linf(eps))
    chart = attack.threat.space.chart(x, y)
    start = attack._start(chart, lambda: Noise.of(x, 0, 0).fold(0))
    g = gradient(model, x + start, y)
    expected = (x + (start + 1.25 * eps * g.sign()).clamp(-eps, eps)).clamp(0, 1)
    torch.testing.assert_close(attack(model, x, y), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 1.0])
def test_mim_is_the_published_recursion(momentum):
    x, y, eps, steps = images(8), torch.arange(8) % 5, 0.1, 5
    x_adv, m = x.clone(), torch.zeros_like(x)
    for _ in range(steps):
        g = gradient(class_scores, x_adv, y)
        m = momentum * m + g / g.flatten(1).abs().sum(1).reshape(-1, 1, 1, 1)
        x_adv = (x + (x_adv + eps / steps * m.sign() - x).clamp(-eps, eps)).clamp(0, 1)
    torch.testing.assert_close(mim(Linf(eps), steps, momentum)(class_scores, x, y), x_adv, rtol=0, atol=1e-6)
    if momentum == 0:
        assert torch.equal(bim(Linf(eps), steps)(class_scores, x, y), mim(Linf(eps), steps, 0.0)(class_scores, x, y))


def test_presets_are_settings():
    assert fgsm(Linf(0.1)) == PGD(Linf(0.1), steps=1, rel_step_size=1.0, random_start=False)
    assert mim(Linf(0.1), 7, 0.5).rule == Steepest(0.5)
    paper = stutz(Linf(0.3))
    assert (paper.steps, paper.restarts, paper.rule, paper.keep) == (40, 5, Adam(0.005), "best")
    assert paper.random_start is norm_uniform
    size, gain = 2.5 / 7, confident_margin(5.0)
    assert pgd_cw(Linf(0.1), 7, 5.0) == PGD(Linf(0.1), 7, rel_step_size=size, gain=gain, keep="best")
    cw = carlini_wagner(Linf(0.3), restarts=2)
    assert (cw.steps, cw.restarts, cw.rule, cw.keep) == (120, 2, Adam(0.005), "best")
    assert cw.gain == confident_margin(3.0)


def _hinge(logits, y, kappa):
    """relu(z_y - max_j z_j + kappa), written with a mask."""
    other = logits.masked_fill(torch.nn.functional.one_hot(y, logits.shape[1]).bool(), -1e4).amax(1)
    return torch.relu(logits.gather(1, y[:, None])[:, 0] - other + kappa)


@pytest.mark.parametrize("kappa", [0.5, 50.0])
def test_pgd_cw_is_sign_descent_on_the_published_loss(kappa):
    x, y, eps, steps = images(16), torch.arange(16) % 5, 0.1, 8
    x_adv = x.clone()
    for _ in range(steps):
        point = x_adv.clone().requires_grad_()
        (g,) = torch.autograd.grad(_hinge(class_scores(point), y, kappa).sum(), point)
        x_adv = (x_adv - 2.5 * eps / steps * g.sign()).clamp(x - eps, x + eps).clamp(0, 1)
    attack = replace(pgd_cw(Linf(eps), steps, kappa), random_start=False, keep="last")
    torch.testing.assert_close(attack(class_scores, x, y), x_adv, rtol=0, atol=1e-6)


def test_carlini_wagner_is_adam_on_the_published_loss():
    x, y, eps, kappa = images(16).double(), torch.arange(16) % 5, 0.1, 3.0
    delta = torch.zeros_like(x, requires_grad=True)
    optimizer = torch.optim.Adam([delta], lr=0.02)
    for _ in range(12):
        optimizer.zero_grad()
        _hinge(class_scores(x + delta), y, kappa).sum().backward()
        optimizer.step()
        delta.data.copy_((x + delta.data.clamp(-eps, eps)).clamp(0, 1) - x)
    attack = replace(carlini_wagner(Linf(eps), 12, kappa=kappa, lr=0.02), random_start=False, keep="last")
    torch.testing.assert_close(attack(class_scores, x, y), x + delta.detach(), rtol=0, atol=1e-9)


def _linear(n=16):
    """A linear model of positive logits, and images in the middle of the range of margins from -4 to -0.5."""
    w = torch.randn(SHAPE, generator=torch.Generator().manual_seed(5))
    x = 0.5 + 0.02 * (images(n) - 0.5)
    score = x.flatten(1) @ w.flatten() + torch.linspace(0.5, 4, n)
    x = x - (score / w.square().sum())[:, None, None, None] * w
    linear = Linear(w)
    return lambda x: 50 + linear(x), w, x, torch.zeros(n, dtype=torch.long)


def test_carlini_wagner_is_the_corner_of_the_cube_on_a_linear_model():
    model, w, x, y = _linear()
    for attack in (carlini_wagner(Linf(0.1), kappa=100.0), pgd_cw(Linf(0.1), kappa=100.0)):
        torch.testing.assert_close(attack(model, x, y), x + 0.1 * w.sign())


def test_in_the_euclidean_ball_adam_moves_all_coordinates_alike():
    model, w, x, y = _linear()
    clean = margin(model(x), y)
    steepest = margin(model(replace(pgd_cw(L2(0.5)), random_start=False)(model, x, y)), y) - clean
    adam = margin(model(carlini_wagner(L2(0.5), 400, kappa=100.0)(model, x, y)), y) - clean
    torch.testing.assert_close(steepest, 0.5 * w.norm().expand(16), rtol=1e-4, atol=0)
    alike = 0.5 * w.abs().sum().expand(16) / math.sqrt(w.numel())
    torch.testing.assert_close(adam, alike, rtol=0.02, atol=0)
    assert (adam < steepest).all()


@pytest.mark.parametrize("kappa", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("ball", [Linf(0.3), L2(2.0)], ids=str)
def test_kappa_is_the_confidence_that_is_reached(kappa, ball):
    """The first iterate whose margin is at least kappa; a step of lr changes it by at most lr |w|_1."""
    model, w, x, y = _linear()
    x_adv = replace(carlini_wagner(ball, kappa=kappa), random_start=False)(model, x, y)
    margins = margin(model(x_adv), y)
    assert (margins >= kappa - 1e-4).all()
    assert (margins <= kappa + 0.005 * w.abs().sum() + 1e-4).all()


@pytest.mark.parametrize("space", ["pixels", "latent_tuple", "affine"])
@pytest.mark.parametrize("ball", ["Linf", "L2"])
@pytest.mark.parametrize("preset", [pgd_cw, carlini_wagner])
def test_carlini_wagner_in_every_space_raises_the_margin(preset, ball, space):
    x, y, code = batch(space, 12)
    attack = preset(threat_of(ball, space), 20)
    chart = attack.threat.space.chart(x, y, code)
    outcome = attack.run(class_scores, x, y, Context(code))
    assert attack.threat.admits(chart, outcome.delta).all()
    raised = margin(class_scores(outcome.x_adv), y).clamp(max=3) - margin(class_scores(chart.emit(chart.zero)), y)
    assert (raised[margin(class_scores(x), y) < 0] > 0).all()


@pytest.mark.parametrize(
    "attack",
    [
        from_torchattacks(torchattacks.CW, {"c": 1.0, "steps": 300, "lr": 0.003}),
        from_foolbox(foolbox.attacks.L2CarliniWagnerAttack(binary_search_steps=6, steps=150), eps=None),
    ],
    ids=["torchattacks", "foolbox"],
)
def test_attacks_of_minimum_norm_come_from_other_packages(attack):
    """On a linear model the nearest point with another label is |margin| / |w| away."""
    model, w, x, y = _linear(8)
    x_adv = attack(model, x, y)
    nearest = -margin(model(x), y) / w.norm()
    assert (model(x_adv).argmax(1) != y).all()
    ratio = L2(1.0).norm(x_adv - x) / nearest
    assert (ratio > 0.999).all()
    assert (ratio < 1.1).all(), ratio
