import pytest
import torch
from scipy.stats import kstest

from lightning_robust.attacks import Box, Linf, Noise
from lightning_robust.attacks.starts import norm_uniform, patches, uniform
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
    for start in (uniform, norm_uniform, patches):
        assert torch.equal(start(ball, NOISE, zero), zero)


@every_ball
def test_patches_lie_on_the_surface_with_one_sign_each(name):
    ball = BALLS[name].make((2, 8, 12), 0.7)
    delta = patches(ball, Noise(torch.arange(200, dtype=torch.int32)), torch.zeros(200, 2, 8, 12))
    torch.testing.assert_close(ball.norm(delta), ball.norm(delta).max().expand(200))
    assert ball.norm(delta).max() > 0
    signs = delta.sign()
    assert signs.abs().eq(1).all()
    assert signs.mean(0).abs().max() < 0.3
    wide = (signs == signs[:, :, :1, :1]).all((1, 2, 3)).float().mean()
    assert 0 < wide < 0.2  # one patch alone
    same_column, same_row = ((signs.diff(dim=dim) == 0).float().mean((1, 2, 3)) for dim in (2, 3))
    assert torch.corrcoef(torch.stack([same_column, same_row]))[0, 1] > 0.5  # squares
    assert same_row.mean() > 0.6  # 0.5 for independent signs


def test_patches_of_what_is_no_image_have_a_sign_for_each_coordinate():
    delta = patches(Linf(0.7), NOISE, torch.zeros(3000, 5))
    assert torch.equal(delta.abs(), torch.full_like(delta, 0.7))
    assert torch.corrcoef(delta.T).fill_diagonal_(0).abs().max() < 0.1
