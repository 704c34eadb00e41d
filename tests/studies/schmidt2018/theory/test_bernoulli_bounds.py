"""The Bernoulli theorems: values worked out independently, and never violated by exact errors."""

import math

import pytest
import torch
from torch import Generator

from lightning_robust_studies.schmidt2018.theory import (
    bernoulli_error,
    bernoulli_error_normal,
    bernoulli_mean_estimator,
    corollary_28,
    corollary_28_tau,
    lemma_29,
    theorem_8,
    theorem_9,
    theorem_10,
    theorem_27,
    theorem_31,
    theorem_31_samples,
    thresholded_error,
)


@pytest.mark.parametrize(("d", "tau"), [(16, 0.3), (100, 0.1), (400, 0.25)])
def test_theorem_27_holds_for_the_drawn_one_sample_estimator(d, tau):
    theta = torch.ones(d, dtype=torch.float64)
    w = bernoulli_mean_estimator(1, theta, tau, draws=1000, generator=Generator().manual_seed(0))
    bound = theorem_27(d, tau)
    assert bound.error == pytest.approx(math.exp(-2 * tau**4 * d))
    assert bound.probability == pytest.approx(1 - math.exp(-(tau**2) * d / 2))
    violations = (bernoulli_error(w, theta, tau) > bound.error).double().mean()
    assert violations <= 1 - bound.probability + 3 / math.sqrt(1000)


@pytest.mark.parametrize("beta", [0.3, 0.01, 1e-6])
def test_corollary_28_and_theorem_8_follow_from_theorem_27(beta):
    for d in (256, 10_000):
        tau = corollary_28_tau(d, beta)
        assert theorem_27(d, tau).error == pytest.approx(beta)
        assert corollary_28(d, 1.001 * tau, beta).probability == theorem_27(d, 1.001 * tau).probability
    assert corollary_28_tau(16, 0.01) == pytest.approx(1.2318 / 2, rel=1e-4)
    assert theorem_8(10_000, 0.12319) == corollary_28(10_000, 0.12319, 0.01)


def test_theorem_10_holds_for_the_drawn_one_sample_estimator_at_every_radius_below_one():
    d = 1024
    tau = corollary_28_tau(d, 0.01)
    theta = torch.ones(d, dtype=torch.float64)
    w = bernoulli_mean_estimator(1, theta, 1.0001 * tau, draws=20, generator=Generator().manual_seed(0))
    for eps in (0.0, 0.5, 0.999):
        assert theorem_10(d, 1.0001 * tau, eps).error == 0.01
        assert all(thresholded_error(row, theta, tau, eps) <= 0.01 for row in w)


def test_lemma_29_bounds_the_posterior_log_odds():
    n, tau, delta = 100, 0.05, 0.05
    right = torch.binomial(
        torch.full((20_000,), float(n)), torch.tensor(0.5 + tau), generator=Generator().manual_seed(0)
    )
    log_odds = (2 * right - n) * math.log((0.5 + tau) / (0.5 - tau))
    bound = lemma_29(n, tau, delta)
    assert bound == pytest.approx(15 * 0.05 * math.sqrt(200 * math.log(40)))
    assert (log_odds.abs() > bound).double().mean() <= delta


def test_the_samples_of_theorem_31_at_numbers_worked_out_by_hand():
    # eps^2 gamma^2 = 0.04 / 16, 5000 tau^4 = 0.5, log(4 d / gamma) = log(16 d)
    assert theorem_31_samples(100, 0.1, 0.2, 0.25) == pytest.approx(0.0025 / (0.5 * math.log(1600)))
    assert theorem_31(1e-4, 100, 0.1, 0.2, 0.25) == 0.25


def test_theorem_9_is_theorem_31_at_tau_of_order_d_to_minus_a_quarter():
    d, scale, eps, gamma = 10**8, 0.5, 0.012, 0.4
    limit = theorem_31_samples(d, 0.005, eps, gamma)
    assert limit == pytest.approx(eps**2 * gamma**2 * d / (5000 * scale**4 * math.log(4 * d / gamma)))
    assert theorem_9(0.999 * limit, d, scale, eps, gamma) == pytest.approx(0.1)
    with pytest.raises(ValueError, match="`n`"):
        theorem_9(1.001 * limit, d, scale, eps, gamma)


def test_theorem_31_holds_for_the_mean_estimator_at_its_last_whole_sample():
    """Where the theorem allows one sample, d is astronomical: the drawn margin is then that of the normal limit."""
    d, tau, gamma = 10**14, 10**-3.5, 0.4
    assert theorem_31_samples(d, tau, 2.9 * tau, gamma) > 1
    part = torch.ones(10**6, dtype=torch.float64)  # a part of the coordinates; margins scale with the root of d
    w = bernoulli_mean_estimator(1, part, tau, draws=4, generator=Generator().manual_seed(0))
    errors = bernoulli_error_normal(w, part, tau, 2.9 * tau)
    assert errors.mean() >= theorem_31(1, d, tau, 2.9 * tau, gamma)
