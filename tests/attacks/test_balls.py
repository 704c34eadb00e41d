import math

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from scipy.stats import ks_2samp, kstest

from lightning_robust.attacks import L1, L2, PGD, Box, Linf, Noise
from lightning_robust.attacks.balls import per_sample
from tests.helpers import BALLS, class_scores, images, widths

every_ball = pytest.mark.parametrize("name", BALLS)
shapes = pytest.mark.parametrize("shape", [(1,), (3,), (3, 4, 4)], ids=str)
SIZES = {"one": 0.7, "zero": 0.0, "scalar tensor": torch.tensor(0.7), "per sample": torch.linspace(0, 2, 40)}
sizes = pytest.mark.parametrize("size", SIZES)


def points(shape, n=40, dtype=torch.float64):
    """Perturbations of very different lengths, from inside the ball to far outside, some with zeros and ties."""
    delta = torch.randn(n, *shape, dtype=torch.float64) * torch.logspace(-3, 3, n).reshape(-1, *[1] * len(shape))
    delta[::5] = delta[::5].round()
    delta[7] = 0
    return delta.to(dtype)


def radii(name, size, shape):
    return torch.as_tensor(size, dtype=torch.float64) * BALLS[name].radius(shape)


@sizes
@shapes
@every_ball
def test_project_is_the_nearest_point(name, shape, size):
    """p in B is nearest to u if and only if no v in B lies further along u - p than p: a certificate, not a sample."""
    case, size = BALLS[name], SIZES[size]
    ball, u = case.make(shape, size), points(shape)
    p = ball.project(u)
    assert (case.norm(p) <= radii(name, size, shape) * (1 + 1e-6) + 1e-12).all()
    slack = case.dual(u - p) * torch.as_tensor(size) - ((u - p) * p).flatten(1).sum(1)
    assert (slack.abs() <= 1e-6 * (1 + u.flatten(1).square().sum(1))).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@sizes
@shapes
@every_ball
def test_project_is_idempotent_and_the_identity_inside(name, shape, size, dtype):
    case, size = BALLS[name], SIZES[size]
    ball, u = case.make(shape, size), (points(shape) / 100).to(dtype)
    once = ball.project(u)
    torch.testing.assert_close(ball.project(once), once, rtol=1e-6, atol=0)
    inside = case.norm(u) <= radii(name, size, shape)
    assert torch.equal(once[inside], u[inside])
    assert once.dtype == dtype
    assert ball.contains(once).all()


def test_project_l1_by_bisection():
    u, eps = points((3, 4, 4)), 2.0
    low, high = torch.zeros(40, 1, dtype=torch.float64), u.flatten(1).abs().amax(1, keepdim=True)
    for _ in range(100):
        tau = (low + high) / 2
        long = (u.flatten(1).abs() - tau).clamp(min=0).sum(1, keepdim=True) > eps
        low, high = torch.where(long, tau, low), torch.where(long, high, tau)
    outside = u.flatten(1).abs().sum(1, keepdim=True) > eps
    expected = torch.where(outside, u.flatten(1).sign() * (u.flatten(1).abs() - high).clamp(min=0), u.flatten(1))
    torch.testing.assert_close(L1(eps).project(u).flatten(1), expected)


@sizes
@shapes
@every_ball
def test_support_is_the_furthest_point(name, shape, size):
    case, size = BALLS[name], SIZES[size]
    ball, g = case.make(shape, size), points(shape)
    for scale in (1.0, 0.25, 3.0):
        v = ball.support(g.clone(), scale)
        assert (case.norm(v) <= scale * radii(name, size, shape) * (1 + 1e-6) + 1e-12).all()
        torch.testing.assert_close(
            (g * v).flatten(1).sum(1), scale * torch.as_tensor(size) * case.dual(g), rtol=1e-6, atol=0
        )
        assert (v[7] == 0).all(), "no direction, no step"


@every_ball
def test_support_ignores_the_length_of_the_gradient(name):
    ball, g = BALLS[name].make((3, 4, 4), 1.0), torch.randn(40, 3, 4, 4)
    for length in (1e-30, 1e30):
        torch.testing.assert_close(ball.support(g * length), ball.support(g.clone()))


@every_ball
def test_support_and_projection_beat_all_samples(name):
    shape = (3,)
    ball = BALLS[name].make(shape, 1.0)
    v = ball.sample(Noise(torch.arange(4000, dtype=torch.int32)), torch.zeros(4000, 3, dtype=torch.float64))
    u = points(shape)
    assert ((u[:, None] * v).sum(2).amax(1) <= (u * ball.support(u)).sum(1) + 1e-9).all()
    assert ((u[:, None] - v).norm(dim=2).amin(1) >= (u - ball.project(u)).norm(dim=1) - 1e-6 * u.norm(dim=1)).all()


@pytest.mark.parametrize("eps", [0.3, 2.0, 50.0])
def test_support_l1_with_room_solves_the_linear_program(eps):
    g = torch.randn(20, 12, dtype=torch.float64)
    g[:, 3] = 0
    room = torch.rand(20, 12, dtype=torch.float64) * (torch.rand(20, 12) < 0.8)
    v = L1(eps).support(g, 1.0, room)
    assert (v.abs() <= room + 1e-12).all()
    assert (v.abs().sum(1) <= eps + 1e-9).all()
    for row, space, step in zip(g, room, v, strict=True):
        bounds = [(0.0, float(r)) for r in space]
        best = linprog(-row.abs().numpy(), A_ub=np.ones((1, 12)), b_ub=[eps], bounds=bounds)
        assert math.isclose(float(row @ step), -best.fun, rel_tol=1e-6, abs_tol=1e-9)


def test_support_with_infinite_room_is_support_without():
    g = torch.randn(20, 3, 4, 4)
    for ball in (L1(0.7), L2(0.7), L1(torch.linspace(0, 1, 20))):
        torch.testing.assert_close(ball.support(g, 0.5, torch.full_like(g, math.inf)), ball.support(g, 0.5))


def test_support_l2_leaves_pinned_coordinates_alone():
    g, room = torch.randn(20, 12), (torch.rand(20, 12) < 0.7).float()
    v = L2(0.7).support(g, 1.0, room)
    assert (v[room == 0] == 0).all()
    torch.testing.assert_close(v.norm(dim=1), torch.full((20,), 0.7))
    torch.testing.assert_close((v * g).sum(1), 0.7 * (g * room).norm(dim=1))


@pytest.mark.parametrize("dimension", [1, 3, 48])
@every_ball
def test_samples_are_uniform_in_the_ball(name, dimension):
    """P(norm <= r) = (r / eps)^d; every coordinate is as often negative as positive, and no two go together."""
    n, shape = 4000, (dimension,)
    ball = BALLS[name].make(shape, 0.7)
    v = ball.sample(Noise(torch.arange(n, dtype=torch.int32)), torch.zeros(n, dimension, dtype=torch.float64))
    share = (BALLS[name].norm(v) / (0.7 * BALLS[name].radius(shape))) ** dimension
    assert kstest(share.numpy(), "uniform").pvalue > 1e-4
    assert ball.contains(v).all()
    unit = v / v.std(0)
    assert unit.mean(0).abs().max() < 5 / math.sqrt(n)
    assert (unit.sign().mean(0).abs() < 5 / math.sqrt(n)).all()
    if dimension > 1:
        assert (torch.corrcoef(unit.T) - torch.eye(dimension)).abs().max() < 6 / math.sqrt(n)
        sizes = torch.corrcoef(unit.abs().T)[~torch.eye(dimension, dtype=torch.bool)]
        assert name == "Halves" or sizes.std() < 0.06, "all pairs of coordinates are alike"


@every_ball
def test_samples_are_those_of_rejection_sampling(name):
    ball = BALLS[name].make((3,), 1.0)
    v = ball.sample(Noise(torch.arange(4000, dtype=torch.int32)), torch.zeros(4000, 3))
    cube = (2 * torch.rand(200_000, 3) - 1) * BALLS[name].radius((3,))
    accepted = cube[BALLS[name].norm(cube) <= BALLS[name].radius((3,))]
    for statistic in (lambda t: t[:, 0], lambda t: t[:, 2], lambda t: t[:, 0] + t[:, 1], lambda t: t.abs().amax(1)):
        assert ks_2samp(statistic(v).numpy(), statistic(accepted).numpy()).pvalue > 1e-4


@sizes
@every_ball
def test_samples_have_the_type_of_zero_and_one_radius_each(name, size):
    size = SIZES[size]
    ball = BALLS[name].make((3, 4), size)
    for dtype in (torch.float32, torch.float64):
        v = ball.sample(Noise(torch.arange(40, dtype=torch.int32)), torch.zeros(40, 3, 4, dtype=dtype))
        assert v.dtype == dtype
        assert (BALLS[name].norm(v) <= radii(name, size, (3, 4)) * (1 + 1e-6)).all()


@every_ball
def test_samples_stay_finite_where_a_uniform_number_is_extreme(name):
    """These words give the largest and the least of the 2^24 uniform numbers."""
    words = torch.tensor([4188202, 1363743, 0, -1, 2**31 - 1, -(2**31)], dtype=torch.int32)
    v = BALLS[name].make((4,), 1.0).sample(Noise(words), torch.zeros(len(words), 4))
    assert v.isfinite().all()


@every_ball
def test_norm_contains_radius_and_scaled_agree(name):
    case, u = BALLS[name], points((3, 4, 4))
    ball = case.make((3, 4, 4), 0.7)
    torch.testing.assert_close(ball.norm(u) / ball.radius, case.norm(u) / (0.7 * case.radius((3, 4, 4))))
    assert torch.equal(ball.contains(u), ball.norm(u) <= ball.radius * (1 + 1e-6))
    half = ball.scaled(0.5)
    assert half.radius == 0.5 * ball.radius
    torch.testing.assert_close(half.project(u), 0.5 * ball.project(2 * u))
    assert type(half) is type(ball)


@pytest.mark.parametrize("dimension", [3072, 150_528])
@pytest.mark.parametrize("ball", [Linf(0.1), L2(0.5), L1(12.0), Box([0.1])], ids=lambda ball: type(ball).__name__)
def test_a_projected_point_is_contained_also_in_large_images(ball, dimension):
    u = torch.randn(8, dimension)
    u *= (1.5 * torch.as_tensor(ball.radius) / ball.norm(u))[:, None]
    p = ball.project(u)
    assert ball.contains(p).all()
    assert (ball.norm(p.double()) <= ball.radius * (1 + 2e-6)).all()


def test_box_with_a_coordinate_of_width_zero():
    ball = Box([0.0, 1.0])
    assert torch.equal(ball.project(torch.tensor([[3.0, 3.0]])), torch.tensor([[0.0, 1.0]]))
    assert torch.equal(ball.norm(torch.tensor([[0.0, 0.5], [1e-6, 0.5]])), torch.tensor([0.5, math.inf]))
    assert torch.equal(ball.support(torch.tensor([[3.0, -3.0]])), torch.tensor([[0.0, -1.0]]))


def test_box_in_pixels_takes_a_width_per_pixel():
    x, y = images(4), torch.zeros(4).long()
    x_adv = PGD(Box(0.1 * widths((3, 6, 6))), steps=3)(class_scores, x, y)
    assert ((x_adv - x).abs() <= 0.1 * widths((3, 6, 6)) + 1e-7).all()


@pytest.mark.parametrize("make", [Linf, L2, L1, lambda eps: Box([1.0, 2.0], eps)], ids=["Linf", "L2", "L1", "Box"])
@pytest.mark.parametrize(
    ("eps", "error"),
    [
        ([0.1], TypeError),
        (torch.tensor([0.1, -0.1]), ValueError),
        (torch.tensor([0.1, math.nan]), ValueError),
        (torch.tensor([1, 2]), ValueError),
        (torch.tensor([True, False]), ValueError),
        (torch.ones(2, 1), ValueError),
    ],
    ids=str,
)
def test_a_radius_that_cannot_be_meant_is_refused(make, eps, error):
    with pytest.raises(error, match=r"Expected argument `eps` to be .*, but got "):
        make(eps)


@pytest.mark.parametrize("half_widths", [[-1.0], [math.nan], torch.tensor([math.inf, 1.0])], ids=str)
def test_half_widths_that_cannot_be_meant_are_refused(half_widths):
    with pytest.raises(
        ValueError, match=r"Expected argument `half_widths` to be numbers that are finite and not negative, but got"
    ):
        Box(half_widths)


@every_ball
def test_a_radius_per_sample_must_fit_the_batch(name):
    ball = BALLS[name].make((3, 6, 6), torch.full((5,), 0.1))
    with pytest.raises(ValueError, match=r"`eps` .* shape \(4,\) for this batch, but got shape \(5,\)"):
        PGD(ball)(class_scores, images(4), torch.zeros(4).long())


def test_a_factor_per_sample_has_the_shape_of_a_radius():
    assert L2(2.0).scaled(torch.tensor([0.5, 1.0])) == L2(torch.tensor([1.0, 2.0]))
    with pytest.raises(ValueError, match=r"`eps` to be a number or a float tensor of shape \(N,\)"):
        L2(2.0).scaled(torch.ones(2, 3))


def test_per_sample_radius_broadcasts():
    assert per_sample(0.5, torch.zeros(2, 3)) == 0.5
    assert per_sample(torch.tensor([1.0, 2.0]), torch.zeros(2, 3, 4)).shape == (2, 1, 1)
