"""Crossings: against closed forms, the published constants, and the laws in d and eps."""

import math

import numpy as np
import pytest
import torch

from lightning_robust_studies.schmidt2018 import theory
from tests.studies.schmidt2018.theory.helpers import normals

DIMENSIONS = [2**k for k in range(8, 17)]


def test_the_crossing_has_the_target_error():
    noise, theta = normals(32, 256), torch.ones(256)
    for target, eps in [(0.01, 0.25), (0.5, 0.25), (1e-6, 0.0)]:
        n = theory.n_robust(target, theta, 2.0, eps, noise)
        assert theory.mean_errors(n, theta, 2.0, eps, noise).mean().item() == pytest.approx(target, rel=1e-6)
    n = theory.n_bayes(0.1, 2.0, 0.5, noise)
    assert theory.bayes_errors(n, 2.0, 0.5, noise).mean().item() == pytest.approx(0.1, rel=1e-6)


def test_a_target_out_of_reach_takes_infinitely_many_samples_and_one_met_at_once_takes_none():
    noise, theta = normals(8, 64), torch.ones(64)
    assert theory.n_robust(0.01, theta, 1.0, 1.0, noise) == math.inf
    assert theory.n_standard_large_d(0.01, 64, 100.0) == math.inf
    assert theory.crossing(lambda n: 0.1, 0.5) == 0
    assert theory.n_robust_large_d(0.5, 64, 1.0, 1.5) == math.inf


@pytest.mark.parametrize(("eps", "factor"), [(0.1, 0.0064070), (0.25, 0.0414492), (0.5, 0.1903809), (0.75, 0.5864115)])
def test_the_half_crossing_is_sigma_squared_over_s_squared(eps, factor):
    for d in (2**8, 2**16):
        sigma = 0.5 * d**0.25
        assert theory.n_robust_large_d(0.5, d, sigma, eps) == pytest.approx(factor * sigma**2, rel=1e-5)


def test_the_standard_closed_form_solves_the_large_d_curve_and_has_its_limit():
    for d, expected in [(2**8, 0.3695), (2**10, 0.3532), (2**12, 0.3455), (2**14, 0.3419), (2**16, 0.3400)]:
        sigma = 0.5 * d**0.25
        assert theory.n_standard_large_d(0.01, d, sigma) == pytest.approx(expected, abs=5e-5)
        assert theory.n_standard_large_d(0.01, d, sigma) == pytest.approx(
            theory.n_robust_large_d(0.01, d, sigma, 0.0), rel=1e-7
        )
    assert theory.n_standard_large_d(0.01, 2**60, 0.6556 * 2**15) == pytest.approx(1, abs=1e-3)


def test_the_affine_law_is_the_leading_order_of_the_large_d_curve():
    d, eps = 2.0**60, 0.01
    assert theory.affine_law(0.01, d, 0.5, eps).item() == pytest.approx(
        theory.n_robust_large_d(0.01, d, 0.5 * d**0.25, eps), rel=1e-3
    )
    assert theory.affine_law(0.5, 16.0, 1.0, 1.0).item() == pytest.approx(4 * 2 / math.pi)


@pytest.mark.parametrize("eps", [0.1, 0.25, 0.5])
def test_the_slope_trap(eps):
    d = torch.tensor(DIMENSIONS)
    sigmas = [0.5 * k**0.25 for k in DIMENSIONS]
    half = torch.tensor([theory.n_robust_large_d(0.5, k, s, eps) for k, s in zip(DIMENSIONS, sigmas, strict=True)])
    strict = torch.tensor([theory.n_robust_large_d(0.01, k, s, eps) for k, s in zip(DIMENSIONS, sigmas, strict=True)])
    assert theory.loglog_slope(d, half) == pytest.approx(0.5, abs=1e-5)
    assert 0.1 < theory.loglog_slope(d, strict) < 0.35
    _, offset = np.polyfit(d**0.25, strict.sqrt(), 1)
    assert offset > 0.5  # the constant q c^2 = 0.58 of the affine law, which bends the line in log d


def test_the_bayes_optimal_need_lies_between_theorem_11_and_the_mean_estimator():
    sigma, eps, noise = 4.0, 0.5, normals(64, 4096)
    mean_need = theory.crossing(lambda n: float(theory.mean_prior_errors(n, sigma, eps, noise).mean()), 0.25)
    assert theory.error_floor_samples(0.25, 4096, sigma, eps) < theory.n_bayes(0.25, sigma, eps, noise) < mean_need


def test_fits_recover_a_law_that_is_known():
    x = torch.tensor([1.0, 3.0, 10.0, 40.0])
    assert theory.loglog_slope(x, 7 * x**-1.5) == pytest.approx(-1.5)
    noisy = torch.tensor([1.0, 2.5, 2.0, 9.0])
    assert theory.loglog_slope(x, noisy) == pytest.approx(np.polyfit(x.log(), noisy.log(), 1)[0], rel=1e-6)
