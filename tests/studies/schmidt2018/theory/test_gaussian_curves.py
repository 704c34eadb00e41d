"""Closed forms against Monte Carlo, against attacks written out here, and against optimality conditions."""

import math

import pytest
import torch
from scipy.stats import foldnorm
from torch import Generator

from lightning_robust_studies.schmidt2018 import theory
from tests.studies.schmidt2018.theory.helpers import normals

ORDERS = [math.inf, 2.0, 1.0, 1.5]


# ---- the mean estimator


def test_the_mean_estimator_without_samples_is_distributed_like_the_mean_of_samples():
    theta, sigma, n, draws = normals(32, seed=5), 3.0, 4, 1000
    exact = theory.mean_errors(n, theta, sigma, 0.1, normals(draws, 32, seed=1))
    generator = Generator().manual_seed(2)
    sampled = torch.stack(
        [
            theory.gaussian_error(
                theory.mean_learner(*theory.sample_gaussian(n, theta, sigma, generator=generator)), theta, sigma, 0.1
            )
            for _ in range(draws)
        ]
    )
    assert abs(exact.mean() - sampled.mean()) < 4 * (exact.var() / draws + sampled.var() / draws).sqrt()
    assert exact.std().item() == pytest.approx(sampled.std().item(), rel=0.08)


@pytest.mark.parametrize("p", ORDERS)
@pytest.mark.parametrize("eps", [0.0, 0.2])
def test_the_fast_curve_is_the_textbook_composition(p, eps):
    theta, noise = normals(64, seed=1), normals(7, 64, seed=2)
    curve = theory.mean_error_curve(theta, 2.0, eps, noise, p=p)
    for n in (1e-6, 0.3, 5.0, 1e6):
        direct = theory.gaussian_error(theory.mean_estimator(n, theta, 2.0, noise), theta, 2.0, eps, p=p)
        assert torch.allclose(curve(n), direct, rtol=1e-9)
        assert torch.equal(theory.mean_errors(n, theta, 2.0, eps, noise, p=p), direct)


def test_curves_have_the_shape_of_n_and_the_draws():
    n, noise = torch.tensor([[1.0, 2.0, 3.0]]), normals(5, 16)
    assert theory.mean_errors(n, torch.ones(16), 1.0, 0.1, noise).shape == (1, 3, 5)
    assert theory.bayes_errors(n, 1.0, 0.1, noise).shape == (1, 3, 5)
    assert theory.mean_prior_errors(n, 1.0, 0.1, noise).shape == (1, 3, 5)


def test_the_folded_mean_is_that_of_scipy():
    for s in (0.05, 0.5, 1.0, 7.0):
        assert theory.folded_mean(s).item() == pytest.approx(s * foldnorm.mean(1 / s), rel=1e-9)
    assert theory.folded_mean(0.0).item() == 1


@pytest.mark.parametrize("eps", [0.0, 0.25, 0.5])
def test_the_large_d_curve_of_the_mean_estimator_meets_the_draws(eps):
    d, n = 2**14, torch.tensor([0.5, 2.0, 8.0])
    sigma = 0.5 * d**0.25
    exact = theory.mean_errors(n, torch.ones(d), sigma, eps, normals(16, d))
    curve = theory.mean_error_large_d(n, d, sigma, eps)
    spread = 4 * exact.std(-1) / 4 + 0.05 * curve + 1e-6
    assert ((exact.mean(-1) - curve).abs() < spread).all()


# ---- the prior N(0, I)


def prior_draws(learner, n, d, sigma, eps, draws):
    generator = Generator().manual_seed(7)
    errors = []
    for _ in range(draws):
        theta = torch.randn(d, dtype=torch.float64, generator=generator)
        errors.append(
            theory.gaussian_error(
                learner(*theory.sample_gaussian(n, theta, sigma, generator=generator)), theta, sigma, eps
            )
        )
    return torch.stack(errors)


@pytest.mark.parametrize(
    ("learner", "curve"),
    [(theory.mean_learner, theory.mean_prior_errors), (theory.bayes_learner(2.0, 0.4), theory.bayes_errors)],
    ids=["mean", "bayes"],
)
def test_the_curves_under_the_prior_are_the_errors_of_their_learners(learner, curve):
    n, d, draws = 3, 48, 1000
    sampled = prior_draws(learner, n, d, 2.0, 0.4, draws)
    exact = curve(n, 2.0, 0.4, normals(draws, d, seed=8))
    assert abs(sampled.mean() - exact.mean()) < 4 * ((sampled.var() + exact.var()) / draws).sqrt()


def test_the_posterior_mean_and_predictive_noise_add_up_to_the_prior():
    n, sigma = 5.0, 2.0
    drawn = theory.posterior_mean(n, sigma, normals(400, 1000)).var()
    assert drawn.item() == pytest.approx(n / (sigma**2 + n), rel=0.02)
    total = n / (sigma**2 + n) + theory.predictive_sigma(n, sigma).item() ** 2
    assert total == pytest.approx(1 + sigma**2)  # the variance of a coordinate of y x, however it is split


@pytest.mark.parametrize("eps", [0.1, 0.5, 1.0])
def test_the_bayes_curve_lies_above_theorem_11_below_the_mean_estimator_and_at_most_at_a_half(eps):
    d, n, noise = 512, torch.logspace(-3, 2, 12), normals(200, 512)
    errors = theory.bayes_errors(n, 4.0, eps, noise)
    standard_errors = errors.std(-1) / noise.shape[0] ** 0.5
    assert (errors.mean(-1) >= theory.error_floor(n, d, 4.0, eps) - 3 * standard_errors - 1e-12).all()
    assert (errors <= 0.5).all()
    assert (errors <= theory.mean_prior_errors(n, 4.0, eps, noise) + 1e-14).all()
    assert (errors.mean(-1).diff() <= 0).all()


def test_nothing_is_learnt_from_no_samples():
    assert (theory.bayes_errors(0.0, 1.0, 0.0, normals(3, 8)) == 0.5).all()


def test_the_large_d_bayes_curve_meets_the_draws_where_many_coordinates_exceed_eps():
    d, n = 2**14, torch.tensor([1.0, 2.0, 4.0])
    exact = theory.bayes_errors(n, 0.5 * d**0.25, 0.5, normals(32, d)).mean(-1)
    assert torch.allclose(exact, theory.bayes_error_large_d(n, d, 0.5 * d**0.25, 0.5), rtol=0.05, atol=1e-5)


def test_the_mean_square_in_the_large_d_bayes_curve_is_that_of_a_soft_thresholded_normal():
    from scipy.integrate import quad
    from scipy.stats import norm

    n, sigma, eps = 3.0, 2.0, 0.6
    v = n / (sigma**2 + n)
    h = 2 * quad(lambda z: (math.sqrt(v) * z - eps) ** 2 * norm.pdf(z), eps / math.sqrt(v), 30)[0]
    expected = norm.cdf(-math.sqrt(50 * h) / theory.predictive_sigma(n, sigma).item())
    assert theory.bayes_error_large_d(n, 50, sigma, eps).item() == pytest.approx(expected, rel=1e-9, abs=0)
