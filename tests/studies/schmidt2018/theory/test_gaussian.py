"""Closed forms against Monte Carlo, against attacks written out here, and against optimality conditions."""

import math

import pytest
import torch
from scipy.stats import norm
from torch import Generator, Tensor

from lightning_robust_studies.schmidt2018 import theory
from lightning_robust_studies.schmidt2018.theory.gaussian import normal_cdf
from tests.studies.schmidt2018.theory.helpers import normals

ORDERS = [math.inf, 2.0, 1.0, 1.5]


def steepest(w: Tensor, p: float) -> Tensor:
    """The unit l_p vector of largest inner product with w, straight from the equality case of Hoelder's inequality."""
    if math.isinf(p):
        return w.sign()
    if p == 1:
        return torch.zeros_like(w).index_put((w.abs().argmax(),), w[w.abs().argmax()].sign())
    q = p / (p - 1)
    direction = w.sign() * w.abs() ** (q - 1)
    return direction / direction.abs().pow(p).sum() ** (1 / p)


def measured_error(w: Tensor, bias: float, x: Tensor, y: Tensor) -> tuple[float, float]:
    predictions = torch.where(x @ w + bias >= 0, 1.0, -1.0)
    wrong = (predictions != y).double()
    return wrong.mean().item(), wrong.std().item() / len(y) ** 0.5


@pytest.mark.parametrize("p", ORDERS)
@pytest.mark.parametrize(("eps", "bias"), [(0.0, 0.0), (0.0, 0.7), (0.15, 0.0), (0.15, -0.9)])
def test_the_closed_form_is_the_error_of_attacked_samples(p, eps, bias):
    theta, w = normals(16, seed=1), normals(16, seed=1) + 0.8 * normals(16, seed=2)
    x, y = theory.sample_gaussian(100_000, theta, 2.0, generator=Generator().manual_seed(3))
    attacked = x - eps * y[:, None] * steepest(w, p)
    error, standard_error = measured_error(w, bias, attacked, y)
    assert abs(theory.gaussian_error(w, theta, 2.0, eps, p=p, bias=bias).item() - error) < 4 * standard_error


@pytest.mark.parametrize("p", ORDERS)
def test_the_dual_norm_is_what_the_steepest_unit_vector_gains(p):
    w = normals(9)
    v = steepest(w, p)
    assert torch.linalg.vector_norm(v, ord=p).item() == pytest.approx(1)
    assert theory.dual_norm(w, p).item() == pytest.approx((w @ v).item())


def test_pgd_on_the_linear_model_reaches_the_loss_of_one_sign_step_and_the_closed_form():
    d, n, eps, steps = 256, 64, 0.2, 10
    theta = torch.ones(d, dtype=torch.float64)
    w = theory.mean_learner(*theory.sample_gaussian(n, theta, 8.0, generator=Generator().manual_seed(0)))
    x, y = theory.sample_gaussian(5_000, theta, 8.0, generator=Generator().manual_seed(1))

    def losses(points: Tensor) -> Tensor:
        return torch.nn.functional.softplus(-y * (points @ w))

    delta = eps * (2 * torch.rand(x.shape, dtype=torch.float64, generator=Generator().manual_seed(2)) - 1)
    for _ in range(steps):
        delta.requires_grad_(True)
        (gradient,) = torch.autograd.grad(losses(x + delta).sum(), delta)
        delta = (delta.detach() + 2.5 * eps / steps * gradient.sign()).clamp(-eps, eps)
    one_step = x - eps * y[:, None] * w.sign()
    assert torch.allclose(losses(x + delta), losses(one_step), rtol=1e-12)
    error, standard_error = measured_error(w, 0.0, x + delta, y)
    assert abs(theory.gaussian_error(w, theta, 8.0, eps).item() - error) < 4 * standard_error


def test_the_error_does_not_depend_on_the_scale_of_the_weights_and_broadcasts():
    theta, w = normals(8), normals(5, 8, seed=1)
    radii = torch.tensor([[0.0], [0.1]], dtype=torch.float64)
    errors = theory.gaussian_error(w, theta, 1.0, radii)
    assert errors.shape == (2, 5)
    assert torch.allclose(errors, theory.gaussian_error(1e-6 * w, theta, 1.0, radii))
    assert errors[1, 3].item() == pytest.approx(theory.gaussian_error(w[3], theta, 1.0, 0.1).item(), rel=1e-12)


def test_a_constant_classifier_errs_half_the_time():
    assert theory.gaussian_error(torch.zeros(4), torch.ones(4), 1.0, 0.3, bias=2.0).item() == 0.5


def test_tiny_errors_keep_their_digits():
    x = torch.linspace(-37, 9, 200, dtype=torch.float64)
    assert torch.allclose(normal_cdf(x), torch.from_numpy(norm.cdf(x.numpy())), rtol=1e-11, atol=0)
    error = theory.gaussian_error(torch.ones(900), torch.ones(900), 1.0).item()
    assert error == pytest.approx(math.erfc(30 / math.sqrt(2)) / 2, rel=1e-9, abs=0)
    assert 0 < error < 1e-190


# ---- the optimum


@pytest.mark.parametrize("p", [math.inf, 2.0, 1.0])
@pytest.mark.parametrize("eps", [0.0, 0.3, 1.0])
def test_the_optimal_weights_are_theta_minus_its_projection_and_reach_the_optimal_error(p, eps):
    theta = normals(4, 12)
    w = theory.optimal_weights(theta, eps, p=p)
    nearest = theta - w
    assert (torch.linalg.vector_norm(nearest, ord=p, dim=-1) <= eps + 1e-12).all()
    assert torch.allclose(
        (w * nearest).sum(-1), eps * theory.dual_norm(w, p)
    )  # w is normal to the ball there: a projection
    assert torch.allclose(theory.gaussian_error(w, theta, 1.3, eps, p=p), theory.optimal_error(theta, 1.3, eps, p=p))


@pytest.mark.parametrize("p", [math.inf, 2.0, 1.0])
def test_no_weights_found_by_descent_beat_the_optimal_error(p):
    theta, eps = normals(12), 0.4
    best = theory.optimal_error(theta, 1.0, eps, p=p)
    w = (theory.optimal_weights(theta, eps, p=p) + 0.3 * normals(64, 12, seed=1)).requires_grad_(True)
    for _ in range(50):
        (gradient,) = torch.autograd.grad(theory.gaussian_error(w, theta, 1.0, eps, p=p).sum(), w)
        w = (w - gradient).detach().requires_grad_(True)
        assert (theory.gaussian_error(w, theta, 1.0, eps, p=p) >= best - 1e-14).all()


@pytest.mark.parametrize("p", [math.inf, 2.0, 1.0])
def test_nothing_beats_a_coin_once_the_ball_holds_theta(p):
    assert theory.optimal_error(0.1 * torch.ones(3), 1.0, 0.5, p=p).item() == 0.5


def test_a_flat_theta_has_optimal_error_phi_of_one_minus_eps():
    for eps in (0.0, 0.25, 0.9):
        expected = math.erfc((1 - eps) * 10 / 4 / math.sqrt(2)) / 2
        assert theory.optimal_error(torch.ones(100), 4.0, eps).item() == pytest.approx(expected, rel=1e-12)
