"""The Bernoulli theorems: values worked out independently, and never violated by exact errors."""

import itertools
import math

import pytest
import torch
from torch import Generator

from lightning_robust_studies.schmidt2018 import theory


@pytest.mark.parametrize(("d", "tau"), [(16, 0.3), (100, 0.1), (400, 0.25)])
def test_theorem_27_holds_for_the_drawn_one_sample_estimator(d, tau):
    theta = torch.ones(d, dtype=torch.float64)
    w = theory.bernoulli_mean_estimator(1, theta, tau, draws=1000, generator=Generator().manual_seed(0))
    bound = theory.STATEMENTS["Theorem 27"](d=d, tau=tau)
    assert bound.error == pytest.approx(math.exp(-2 * tau**4 * d))
    assert bound.probability == pytest.approx(1 - math.exp(-(tau**2) * d / 2))
    violations = (theory.bernoulli_error(w, theta, tau) > bound.error).double().mean()
    assert violations <= 1 - bound.probability + 3 / math.sqrt(1000)


@pytest.mark.parametrize("beta", [0.3, 0.01, 1e-6])
def test_corollary_28_and_theorem_8_follow_from_theorem_27(beta):
    corollary, theorem = theory.STATEMENTS["Corollary 28"], theory.STATEMENTS["Theorem 27"]
    for d in (256, 10_000):
        tau = corollary.limit("tau", d=d, beta=beta)
        assert theorem(d=d, tau=tau).error == pytest.approx(beta)
        assert corollary(d=d, tau=1.001 * tau, beta=beta).probability == theorem(d=d, tau=1.001 * tau).probability
    assert theory.STATEMENTS["Theorem 8"].limit("tau", d=16) == pytest.approx(1.2318 / 2, rel=1e-4)
    assert theory.STATEMENTS["Theorem 8"](d=10_000, tau=0.12319) == corollary(d=10_000, tau=0.12319, beta=0.01)


def test_theorem_10_holds_for_the_drawn_one_sample_estimator_at_every_radius_below_one():
    d = 1024
    tau = 1.0001 * theory.STATEMENTS["Theorem 10"].limit("tau", d=d, eps=0.5)
    theta = torch.ones(d, dtype=torch.float64)
    w = theory.bernoulli_mean_estimator(1, theta, tau, draws=20, generator=Generator().manual_seed(0))
    for eps in (0.0, 0.5, 0.999):
        assert theory.STATEMENTS["Theorem 10"](d=d, tau=tau, eps=eps).error == 0.01
        assert all(theory.thresholded_error(row, theta, tau, eps) <= 0.01 for row in w)


def test_lemma_29_bounds_the_posterior_log_odds():
    n, tau, delta = 100, 0.05, 0.05
    right = torch.binomial(
        torch.full((20_000,), float(n)), torch.tensor(0.5 + tau), generator=Generator().manual_seed(0)
    )
    log_odds = (2 * right - n) * math.log((0.5 + tau) / (0.5 - tau))
    bound = theory.STATEMENTS["Lemma 29"](n=n, tau=tau, delta=delta)
    assert bound == pytest.approx(15 * 0.05 * math.sqrt(200 * math.log(40)))
    assert (log_odds.abs() > bound).double().mean() <= delta


def test_the_samples_of_theorem_31_at_numbers_worked_out_by_hand():
    # eps^2 gamma^2 = 0.04 / 16, 5000 tau^4 = 0.5, log(4 d / gamma) = log(16 d)
    at = {"d": 100, "tau": 0.1, "eps": 0.2, "gamma": 0.25}
    assert theory.STATEMENTS["Theorem 31"].limit("n", **at) == pytest.approx(0.0025 / (0.5 * math.log(1600)))
    assert theory.STATEMENTS["Theorem 31"](n=1e-4, **at) == 0.25


def enumerated_robust_error(w, tau, eps):
    """By Definition 3: the chance of an x for which some x' with |x'_i - x_i| <= eps is misclassified; theta = 1."""
    signs = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=len(w))), dtype=torch.float64)
    deltas = abs(eps) * torch.tensor(list(itertools.product([-1.0, 0.0, 1.0], repeat=len(w))), dtype=torch.float64)
    allowed = (deltas.abs() <= eps).all(-1)
    error = 0.0
    for y in (1.0, -1.0):
        scores = (y * signs[:, None] + deltas) @ w
        wrong = torch.where(scores >= 0, 1.0, -1.0) != y
        error += 0.5 * (0.5 + tau * signs).prod(-1)[(wrong & allowed).any(-1)].sum().item()
    return error


def test_theorem_31_is_false_for_negative_radii_which_the_paper_allows():
    d, tau, gamma, w = 4, 0.02, 0.25, torch.tensor([3.0, -1.0, 1.0, 2.0], dtype=torch.float64)
    theta = torch.ones(d)
    for eps in (0.0, 0.05):
        assert enumerated_robust_error(w, tau, eps) == pytest.approx(theory.bernoulli_error(w, theta, tau, eps).item())
    eps = -1.0  # below 3 tau, and the printed bound allows ten samples; but no x' is so near, and nothing errs
    assert eps**2 * gamma**2 / (5000 * tau**4 * math.log(4 * d / gamma)) > 10
    assert enumerated_robust_error(w, tau, eps) == 0 < 0.5 - gamma
    with pytest.raises(ValueError, match="`eps` to be at least 0"):
        theory.STATEMENTS["Theorem 31"](n=10, d=d, tau=tau, eps=eps, gamma=gamma)


def test_theorem_9_is_theorem_31_at_tau_of_order_d_to_minus_a_quarter():
    d, scale, eps, gamma = 10**8, 0.5, 0.012, 0.4
    limit = theory.STATEMENTS["Theorem 31"].limit("n", d=d, tau=0.005, eps=eps, gamma=gamma)
    assert limit == pytest.approx(eps**2 * gamma**2 * d / (5000 * scale**4 * math.log(4 * d / gamma)))
    at = {"d": d, "tau_scale": scale, "eps": eps, "gamma": gamma}
    assert theory.STATEMENTS["Theorem 9"](n=0.999 * limit, **at) == pytest.approx(0.1)
    with pytest.raises(ValueError, match="`n`"):
        theory.STATEMENTS["Theorem 9"](n=1.001 * limit, **at)


def test_theorem_31_holds_for_the_mean_estimator_at_its_last_whole_sample():
    """Where the theorem allows one sample, d is astronomical: the drawn margin is then that of the normal limit."""
    d, tau, gamma = 10**14, 10**-3.5, 0.4
    at = {"d": d, "tau": tau, "eps": 2.9 * tau, "gamma": gamma}
    assert theory.STATEMENTS["Theorem 31"].limit("n", **at) > 1
    part = torch.ones(10**6, dtype=torch.float64)  # a part of the coordinates; margins scale with the root of d
    w = theory.bernoulli_mean_estimator(1, part, tau, draws=4, generator=Generator().manual_seed(0))
    errors = theory.bernoulli_error_normal(w, part, tau, 2.9 * tau)
    assert errors.mean() >= theory.STATEMENTS["Theorem 31"](n=1, **at)
