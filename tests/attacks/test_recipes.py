import pytest
import torch

from lightning_robust.attacks import L2, PGD, Adam, Linf, Steepest, bim, fgsm, mim, rs_fgsm, stutz
from lightning_robust.attacks.starts import norm_uniform
from tests.helpers import class_scores, images, net


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
    (start,) = attack._starts(chart, x, 0)
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


def test_recipes_are_settings():
    assert fgsm(Linf(0.1)) == PGD(Linf(0.1), steps=1, rel_step_size=1.0, random_start=False)
    assert mim(Linf(0.1), 7, 0.5).rule == Steepest(0.5)
    paper = stutz(Linf(0.3))
    assert (paper.steps, paper.restarts, paper.rule, paper.keep) == (40, 5, Adam(0.005), "best")
    assert paper.random_start is norm_uniform
