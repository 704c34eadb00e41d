import pytest
import torch
from scipy.stats import kstest

from lightning_robust.attacks import Box, Noise
from lightning_robust.attacks.starts import norm_uniform, uniform
from tests.helpers import BALLS

every_ball = pytest.mark.parametrize("name", BALLS)
NOISE = Noise(torch.arange(3000, dtype=torch.int32))


@every_ball
def test_uniform_is_the_sample_of_the_ball(name):
    ball, zero = BALLS[name].make((5,), 0.7), torch.zeros(3000, 5)
    assert torch.equal(uniform(ball, NOISE, zero), ball.sample(NOISE, zero))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@every_ball
def test_norm_uniform_has_a_uniform_norm_and_no_preferred_orthant(name, dtype):
    ball = BALLS[name].make((5,), 0.7)
    delta = norm_uniform(ball, NOISE, torch.zeros(3000, 5, dtype=dtype))
    share = BALLS[name].norm(delta) / (0.7 * BALLS[name].radius((5,)))
    assert delta.dtype == dtype
    assert kstest(share.double().numpy(), "uniform").pvalue > 1e-4
    assert delta.sign().mean(0).abs().max() < 0.1


def test_norm_uniform_in_a_box_with_a_pinned_coordinate():
    delta = norm_uniform(Box([0.0, 1.0, 2.0]), NOISE, torch.zeros(3000, 3))
    assert (delta[:, 0] == 0).all()
    assert kstest(Box([0.0, 1.0, 2.0]).norm(delta).numpy(), "uniform").pvalue > 1e-4


@every_ball
def test_starts_in_a_ball_of_radius_zero(name):
    ball, zero = BALLS[name].make((5,), 0.0), torch.zeros(3000, 5)
    for start in (uniform, norm_uniform):
        assert torch.equal(start(ball, NOISE, zero), zero)
