import math

import pytest
import torch

from lightning_robust._noise import Noise
from lightning_robust.attacks import L1, L2, PGD, Adam, Linf, PixelSpace, Steepest, Threat
from tests.helpers import BALLS, class_scores, images


def test_adam_is_that_of_torch():
    """Far from every bound; the perturbation as a parameter, with `maximize`."""
    x, y = images(4, dtype=torch.float64), torch.arange(4)
    settings = {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-6}
    parameter = torch.nn.Parameter(torch.zeros_like(x))
    optimiser = torch.optim.Adam([parameter], maximize=True, **settings)
    for _ in range(12):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(class_scores(x + parameter), y, reduction="sum").backward()
        optimiser.step()
    from lightning_robust.attacks import cross_entropy

    threat = Threat(Linf(100.0), PixelSpace(-1000, 1000))
    attack = PGD(threat, 12, random_start=False, gain=cross_entropy, rule=Adam(**settings))
    outcome = attack.run(class_scores, x, y)
    torch.testing.assert_close(outcome.delta, parameter.detach(), rtol=1e-9, atol=1e-12)


def test_adam_moves_by_about_lr_in_each_coordinate_at_first():
    x, y = torch.full((2, 3, 6, 6), 0.5), torch.zeros(2).long()
    delta = PGD(Linf(0.3), steps=1, random_start=False, rule=Adam(0.02)).run(class_scores, x, y).delta
    torch.testing.assert_close(delta.abs(), torch.full_like(delta, 0.02), rtol=1e-3, atol=0)


def run(rule, grads, ball):
    chart = PixelSpace().chart(torch.full_like(grads[0], 0.5), torch.zeros(len(grads[0])))
    state, steps = rule.init(grads[0]), []
    for grad in grads:
        step, state = rule(grad, state, delta=torch.zeros_like(grad), ball=ball, chart=chart, size=0.5)
        steps.append(step)
    return steps


@pytest.mark.parametrize("name", BALLS)
def test_steepest_without_momentum_is_the_support(name):
    grads = [torch.randn(4, 3, 6, 6) for _ in range(3)]
    ball = BALLS[name].make((3, 6, 6), 0.05)
    for step, grad in zip(run(Steepest(), grads, ball), grads, strict=True):
        torch.testing.assert_close(step, ball.support(grad, 0.5))


def test_steepest_with_momentum_is_the_published_recursion():
    grads = [10.0**k * torch.randn(4, 3, 6, 6) for k in (-2, 3, 0, 1)]
    m = torch.zeros(4, 3, 6, 6)
    for step, grad in zip(run(Steepest(0.7), grads, L2(0.1)), grads, strict=True):
        m = 0.7 * m + grad / grad.flatten(1).abs().sum(1).reshape(-1, 1, 1, 1)
        torch.testing.assert_close(step, L2(0.1).support(m, 0.5), rtol=1e-4, atol=1e-7)


def test_momentum_takes_a_gradient_of_zero():
    steps = run(Steepest(0.5), [torch.zeros(2, 3), torch.ones(2, 3), torch.zeros(2, 3)], Linf(0.1))
    assert torch.equal(steps[0], torch.zeros(2, 3))
    assert torch.equal(steps[1], torch.full((2, 3), 0.05))
    assert torch.equal(steps[2], torch.full((2, 3), 0.05))


def test_l1_steps_do_not_press_against_the_pixel_range():
    x = torch.tensor([[1.0, 0.9, 0.5, 0.0]])
    chart = PixelSpace().chart(x, torch.zeros(1))
    grad = torch.tensor([[4.0, 3.0, 2.0, -1.0]])
    step, _ = Steepest()(grad, None, delta=chart.zero, ball=L1(0.3), chart=chart, size=1.0)
    torch.testing.assert_close(step, torch.tensor([[0.0, 0.1, 0.2, 0.0]]))


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: Steepest(-0.1), "momentum"),
        (lambda: Steepest(math.nan), "momentum"),
        (lambda: Steepest(math.inf), "momentum"),
        (lambda: Adam(0.0), "lr"),
        (lambda: Adam(math.nan), "lr"),
        (lambda: Adam(math.inf), "lr"),
        (lambda: Adam(betas=(1.0, 0.9)), "betas"),
        (lambda: Adam(betas=(0.9, -0.1)), "betas"),
        (lambda: Adam(eps=-1.0), "eps"),
    ],
    ids=["negative", "nan", "inf", "lr 0", "lr nan", "lr inf", "beta 1", "beta negative", "eps negative"],
)
def test_wrong_arguments_fail_at_construction(make, name):
    with pytest.raises(ValueError, match=rf"Expected argument `{name}` to be .*, but got"):
        make()


def test_a_new_rule_is_one_class():
    class Plain:
        def init(self, delta):
            return None

        def __call__(self, grad, state, *, delta, ball, chart, size):
            return 0.01 * grad.sign(), state

    x, y = images(3), torch.zeros(3).long()
    delta = PGD(Linf(0.3), steps=2, random_start=False, rule=Plain()).run(class_scores, x, y).delta
    assert 0.019 < delta.abs().max() < 0.021
    assert Noise.of(x, 0).words.shape == (3,)
