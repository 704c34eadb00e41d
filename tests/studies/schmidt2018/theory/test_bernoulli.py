"""Exact Bernoulli errors against enumeration, Monte Carlo and the normal approximation."""

import itertools
import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from lightning_robust_studies.schmidt2018 import theory

TAU = 0.15
W = torch.tensor([3, -1, 0, 2, -2, 1, 1, -3], dtype=torch.float64)
THETA = torch.tensor([1, 1, -1, 1, -1, -1, 1, -1], dtype=torch.float64)


def corners(d: int) -> Tensor:
    return torch.tensor(list(itertools.product([-1.0, 1.0], repeat=d)), dtype=torch.float64)


def weights_of(b: Tensor, tau: float) -> Tensor:
    return (0.5 + tau * b).prod(-1)


def enumerated_error(w: Tensor, theta: Tensor, tau: float, score) -> float:
    """Sum over both classes and every corner; score(x, y) is <w, .> after the attack."""
    b = corners(len(w))
    mass, error = weights_of(b, tau), 0.0
    for y in (1.0, -1.0):
        predictions = torch.where(score(y * theta * b, y) >= 0, 1.0, -1.0)
        error += 0.5 * mass[predictions != y].sum().item()
    return error


@pytest.mark.parametrize("tau", [0.01, TAU, 0.5])
def test_the_pmf_is_that_of_an_enumeration(tau):
    v = W * THETA
    values, pmf = theory.margin_pmf(v, tau)
    b = corners(len(v))
    margins, mass = b @ v, weights_of(b, tau)
    assert torch.allclose(pmf, torch.stack([mass[margins == value].sum() for value in values]), atol=1e-15)
    assert pmf.sum().item() == pytest.approx(1)


def test_the_tails_of_the_pmf_keep_their_digits():
    v = torch.tensor([1.0, 2.0, 3.0, -2.0]).repeat(60)
    _, pmf = theory.margin_pmf(v, 0.4)
    assert pmf[0].item() == pytest.approx(0.1**180 * 0.9**60, rel=1e-10, abs=0)
    assert pmf[-1].item() == pytest.approx(0.9**180 * 0.1**60, rel=1e-10, abs=0)


@pytest.mark.parametrize("eps", [0.0, 0.1, 3 / 13, 5 / 13, 0.7, 1.5])
def test_the_robust_error_is_that_of_an_enumeration_with_the_worst_perturbation(eps):
    def score(x, y):
        taken = eps * W.abs().sum()
        return x @ W - y * (taken.round() if (taken - taken.round()).abs() < 1e-9 else taken)

    assert theory.bernoulli_error(W, THETA, TAU, eps).item() == pytest.approx(
        enumerated_error(W, THETA, TAU, score), abs=1e-14
    )


def test_a_radius_written_in_decimals_is_taken_as_that_decimal():
    w = torch.ones(10)  # a tie at M = 2 for eps = 0.2, although ten times the float 0.2 need not be 2
    below, at, above = (theory.bernoulli_error(w, w, TAU, eps).item() for eps in (0.19, 0.2, 0.21))
    values, pmf = theory.margin_pmf(w, TAU)
    assert at - below == pytest.approx(above - at) == pytest.approx(pmf[values == 2].item() / 2)


def test_the_error_is_that_of_attacked_samples():
    theta = torch.ones(100, dtype=torch.float64)
    w = theory.bernoulli_mean_estimator(5, theta, TAU, draws=1, generator=Generator().manual_seed(0))[0]
    x, y = theory.sample_bernoulli(50_000, theta, TAU, generator=Generator().manual_seed(1))
    for eps in (0.0, 0.13):
        wrong = (torch.where((x - eps * y[:, None] * w.sign()) @ w >= 0, 1.0, -1.0) != y).double()
        assert abs(theory.bernoulli_error(w, theta, TAU, eps).item() - wrong.mean()) < 4 * wrong.std() / 50_000**0.5


def test_the_normal_approximation_is_within_half_a_percent_at_a_thousand_dimensions():
    theta = torch.ones(1000, dtype=torch.float64)
    w = theory.bernoulli_mean_estimator(5, theta, 0.1, draws=4, generator=Generator().manual_seed(0))
    for eps in (0.0, 0.05, 0.1):
        exact, normal = theory.bernoulli_error(w, theta, 0.1, eps), theory.bernoulli_error_normal(w, theta, 0.1, eps)
        assert torch.allclose(exact, normal, rtol=0, atol=5e-3)
        assert (exact != normal).all()


def test_zero_weights_are_a_coin():
    for error in (theory.bernoulli_error, theory.bernoulli_error_normal, theory.thresholded_error):
        assert error(torch.zeros(3), torch.ones(3), 0.2, 0.5).item() == 0.5
    assert theory.thresholded_error(torch.zeros(3), torch.ones(3), 0.2, 2.0).item() == 0.5


def test_the_mean_estimator_without_samples_is_distributed_like_the_sum_of_samples():
    theta, n, draws = torch.tensor([1.0, -1.0]), 3, 20_000
    direct = theory.bernoulli_mean_estimator(n, theta, TAU, draws=draws, generator=Generator().manual_seed(0))
    x, y = theory.sample_bernoulli(n * draws, theta, TAU, generator=Generator().manual_seed(1))
    summed = (y[:, None] * x).reshape(draws, n, 2).sum(1)
    for value in (-3, -1, 1, 3):
        shares = (direct == value).double().mean(0), (summed == value).double().mean(0)
        assert torch.allclose(*shares, atol=4 * (2 * 0.25 / draws) ** 0.5)


def test_the_one_sample_error_is_the_average_over_draws_and_has_its_limit():
    d, tau = 60, 0.2
    theta = torch.ones(d, dtype=torch.float64)
    w = theory.bernoulli_mean_estimator(1, theta, tau, draws=500, generator=Generator().manual_seed(0))
    for eps in (0.0, 0.1):
        drawn = theory.bernoulli_error(w, theta, tau, eps)
        assert abs(drawn.mean() - theory.one_sample_error(d, tau, eps)) < 4 * drawn.std() / 500**0.5
    limit = math.erfc(4 * 0.7626**2 / math.sqrt(2)) / 2
    assert limit == pytest.approx(0.01, rel=1e-3)
    assert theory.one_sample_error(10**6, 0.7626 * 10**-1.5).item() == pytest.approx(limit, rel=0.01)


# ---- the theory.threshold


def test_behind_the_threshold_the_robust_error_is_the_standard_error_below_one_and_one_above():
    standard = theory.bernoulli_error(W, THETA, TAU)
    for eps in (0.0, 0.5, 0.999999):
        assert torch.equal(theory.thresholded_error(W, THETA, TAU, eps), standard)
    assert theory.thresholded_error(W, THETA, TAU, 1.000001).item() == 1
    assert theory.bernoulli_error(W, THETA, TAU, 0.999999) > 0.9  # without the theory.threshold


@pytest.mark.parametrize("w", [W, W - torch.eye(8, dtype=torch.float64)[0], W.abs(), -W.abs()])  # the second has ties
def test_at_radius_one_the_tie_rule_decides(w):
    def score(x, y):  # -1 can become 0, hence +1; +1 can become 0, which stays +1
        flippable = (x < 0) & (-y * w.sign() > 0)
        return torch.where(flippable, 1.0, x) @ w

    expected = enumerated_error(w, THETA, TAU, score)
    assert theory.thresholded_error(w, THETA, TAU, 1.0).item() == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("eps", [0.4, 1.0, 1.2])
def test_the_thresholded_error_is_that_of_attacked_samples(eps):
    x, y = theory.sample_bernoulli(50_000, THETA, TAU, generator=Generator().manual_seed(0))
    measured = theory.monotone_error(W, theory.threshold, x, y, eps).item()
    assert abs(theory.thresholded_error(W, THETA, TAU, eps).item() - measured) < 4 * 0.5 / 50_000**0.5


# ---- what linear classifiers cannot do


@pytest.mark.parametrize("tau", [0.05, 0.2, 0.4])
def test_no_linear_classifier_is_below_the_floor_from_two_tau_on(tau):
    grid = torch.tensor(list(itertools.product(range(-1, 3), repeat=4)), dtype=torch.float64)
    errors = theory.bernoulli_error(grid, torch.ones(4), tau, 2 * tau)
    assert errors.min() >= theory.linear_error_floor(tau, 2 * tau)
    one_coordinate = theory.bernoulli_error(torch.eye(4)[0], torch.ones(4), tau, 2 * tau)
    assert one_coordinate.item() == pytest.approx(0.5 - tau)  # so the floor is not 1/2


def test_the_floor_is_a_quarter_of_the_inverse_kurtosis():
    for tau in (0.1, 0.288, 0.45):
        b = torch.tensor([1 - 2 * tau, -1 - 2 * tau], dtype=torch.float64)
        p = torch.tensor([0.5 + tau, 0.5 - tau], dtype=torch.float64)
        kurtosis = ((p * b**4).sum() / (p * b**2).sum() ** 2).item()
        assert theory.linear_error_floor(tau, 2 * tau) == pytest.approx(1 / (4 * max(3, kurtosis)))


def test_knowing_theta_is_enough_below_two_tau_and_useless_above_in_high_dimension():
    d, tau = 10_000, 0.1
    theta = torch.ones(d)
    assert theory.bernoulli_error(theta, theta, tau, 1.5 * tau) < 1e-5
    assert theory.bernoulli_error(theta, theta, tau, 2 * tau).item() == pytest.approx(0.5, abs=0.01)
    assert theory.bernoulli_error(theta, theta, tau, 2.5 * tau) > 0.99999


def test_the_large_d_curve_meets_the_drawn_mean_estimator():
    d, tau = 2**14, 0.8 * 2**-3.5
    theta = torch.ones(d, dtype=torch.float64)
    for n, eps in [(64, tau), (16, 0.0), (32, tau / 2)]:
        w = theory.bernoulli_mean_estimator(n, theta, tau, draws=16, generator=Generator().manual_seed(0))
        drawn = theory.bernoulli_error_normal(w, theta, tau, eps).mean().item()
        assert theory.bernoulli_mean_error_large_d(n, d, tau, eps).item() == pytest.approx(drawn, rel=0.15, abs=2e-3)


def test_linear_needs_grow_in_the_fourth_root_of_d_while_a_threshold_needs_one_sample():
    """sqrt(n) = kappa sqrt(2 / pi) d^(1/4) / (4 c) + q / (4 c^2) roughly; tau = c d^(-1/4), eps = kappa tau.

    Here kappa = 1.
    """
    c, dimensions = 0.8, [2**k for k in range(10, 23, 2)]
    roots = torch.tensor([d**0.25 for d in dimensions])
    for target, q in [(0.5, 0.0), (0.01, 2.3263)]:
        curves = [
            partial(theory.bernoulli_mean_error_large_d, d=d, tau=c * d**-0.25, eps=c * d**-0.25) for d in dimensions
        ]
        needs = torch.tensor(
            [theory.crossing(lambda n, curve=curve: float(curve(n)), target) for curve in curves]
        ).sqrt()
        slope, intercept = np.polyfit(roots, needs, 1)
        residual = needs - slope * roots - intercept
        assert 1 - residual.var() / needs.var() > 0.99
        assert slope == pytest.approx(math.sqrt(2 / math.pi) / (4 * c), rel=0.15)
        assert intercept == pytest.approx(q / (4 * c**2), rel=0.6, abs=0.1)
    for d in dimensions[:3]:
        w = theory.bernoulli_mean_estimator(
            1, torch.ones(d), c * d**-0.25, draws=4, generator=Generator().manual_seed(0)
        )
        errors = torch.stack([theory.thresholded_error(row, torch.ones(d), c * d**-0.25, 0.99) for row in w])
        assert errors.mean() < 0.02
