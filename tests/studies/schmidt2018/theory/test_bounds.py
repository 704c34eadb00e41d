"""Every bound: its value worked out independently, and never violated by exact or drawn errors."""

import math

import pytest
import torch
from scipy.stats import norm
from torch import Generator

from lightning_robust_studies.schmidt2018.theory import (
    Guarantee,
    bayes_errors,
    corollary_19,
    corollary_19_sigma,
    corollary_22,
    corollary_22_samples,
    corollary_23,
    corollary_23_samples,
    mean_errors,
    theorem_4,
    theorem_5,
    theorem_6,
    theorem_11,
    theorem_11_samples,
    theorem_18,
    theorem_21,
    theorem_21_radius,
)

GRID = [(n, d, sigma) for n in (1, 7, 64) for d in (16, 400) for sigma in (0.3, 1.0, 4.0)]


def normals(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=Generator().manual_seed(seed))


# ---- upper bounds


def test_theorem_18_at_numbers_worked_out_by_hand():
    bound = theorem_18(4, 200, 2.0)  # ratio (4 - 1) / (4 + 8) = 1/4; exponent 200 / 16 / (2 * 4)
    assert bound.error == pytest.approx(math.exp(-200 / 128))
    assert bound.probability == pytest.approx(1 - 2 * math.exp(-5))
    assert theorem_18(1, 1, 1.0).probability == 0


@pytest.mark.parametrize("beta", [0.5, 0.1, 0.01, 1e-6])
def test_corollary_19_follows_from_theorem_18(beta):
    for d in (1, 4, 100, 10_000, 10**8):
        sigma = corollary_19_sigma(d, beta)
        assert sigma == pytest.approx(d**0.25 / 5 / math.sqrt(-math.log(beta)))
        assert theorem_18(1, d, sigma).error <= beta
        assert corollary_19(d, sigma, beta) == Guarantee(beta, theorem_18(1, d, sigma).probability)


def test_theorem_4_is_one_percent_from_one_sample():
    d = 4096
    sigma = corollary_19_sigma(d, 0.01)
    assert theorem_4(d, sigma).error == 0.01
    assert mean_errors(1, torch.ones(d), sigma, 0.0, normals(50, d)).max() <= 0.01


def test_theorem_21_at_numbers_worked_out_by_hand():
    radius = theorem_21_radius(4, 400, 2.0, math.exp(-2))  # 3 / 12 - 2 * 2 / 20
    assert radius == pytest.approx(0.05)
    assert theorem_21(4, 400, 2.0, radius, math.exp(-2)) == Guarantee(
        math.exp(-2), pytest.approx(1 - 2 * math.exp(-10))
    )


def test_corollary_22_follows_from_theorem_21_and_holds_in_every_draw():
    for d in (16, 256, 4096, 2**16, 2**24):
        for eps in (0.0, d**-0.25 / 4, 1.001 * d**-0.25 / 4, 0.1, 0.25):
            if eps <= 0.25:
                assert theorem_21_radius(corollary_22_samples(d, eps), d, d**0.25 / 32, 0.01) >= eps
    d = 4096
    for eps in (d**-0.25 / 4, 0.1, 0.25):
        n, sigma = max(1, math.ceil(64 * eps**2 * math.sqrt(d))), d**0.25 / 32
        assert corollary_22(n, d, sigma, eps).error == 0.01 == theorem_5(n, d, sigma, eps).error
        assert mean_errors(n, torch.ones(d), sigma, eps, normals(20, d)).max() <= 0.01


def test_the_samples_of_corollary_22_are_64_eps_squared_root_d():
    assert corollary_22_samples(10_000, 0.2) == pytest.approx(256)
    assert corollary_22_samples(10_000, 0.025) == 1


# ---- lower bounds


def test_theorem_11_is_half_the_probability_of_a_small_posterior_mean():
    n, d, sigma, eps = 0.5, 20, 2.0, 0.6
    v = normals(100_000, d)
    small = ((n / (sigma**2 + n)) ** 0.5 * v.abs().amax(-1) <= eps).double()
    assert abs(theorem_11(n, d, sigma, eps).item() - 0.5 * small.mean().item()) < 2 * small.std().item() / 100_000**0.5


def test_theorem_11_is_stable_where_the_plain_formula_is_not():
    u, d = 9.0, 1e15  # eps sqrt((sigma^2 + n) / n) = 9: 2 Phi(9) - 1 rounds to 1
    bound = theorem_11(1.0, d, 1.0, u / math.sqrt(2)).item()
    assert 0.5 - bound == pytest.approx(d * norm.sf(9), rel=1e-2)
    assert theorem_11(0.0, 10, 1.0, 0.0).item() == 0.5
    assert theorem_11(1.0, 10, 1.0, 0.0).item() == 0


def test_theorem_11_is_inverted_exactly():
    for d, level, eps in [(2, 0.4, 0.1), (2**16, 0.25, 0.5), (2**10, 1e-9, 0.3)]:
        n = theorem_11_samples(level, d, 4.0, eps)
        assert theorem_11(n, d, 4.0, eps).item() == pytest.approx(level, rel=1e-9, abs=0)
    assert theorem_11_samples(0.1, 2, 1.0, 5.0) == math.inf
    assert theorem_11(1e12, 2, 1.0, 5.0) > 0.1


def test_corollary_23_and_theorem_6_follow_from_theorem_11():
    for d in (2, 10, 1000, 2**16):
        for sigma, eps in [(1.0, 0.1), (8.0, 0.5), (2.0, 2.0)]:
            n = corollary_23_samples(d, sigma, eps)
            assert n == pytest.approx((eps * sigma) ** 2 / 8 / math.log(d))
            assert corollary_23(n, d, sigma, eps) == (1 - 1 / d) / 2 <= theorem_11(n, d, sigma, eps).item()
    n = 0.25 / 8 * 0.5**2 * 64 / math.log(4096)
    assert theorem_6(0.999 * n, 4096, 0.5, 0.5) == (1 - 1 / 4096) / 2
    with pytest.raises(ValueError, match="`n`"):
        theorem_6(1.001 * n, 4096, 0.5, 0.5)


def test_the_threshold_of_theorem_11_is_several_times_that_of_corollary_23():
    ratio = theorem_11_samples(0.25, 2**16, 8.0, 0.5) / corollary_23_samples(2**16, 8.0, 0.5)
    assert ratio == pytest.approx(4.6, abs=0.1)


def test_the_bayes_curve_respects_corollary_23():
    d, sigma, eps = 1024, 4.0, 0.5
    n = corollary_23_samples(d, sigma, eps)
    assert bayes_errors(n, sigma, eps, normals(100, d)).mean() >= corollary_23(n, d, sigma, eps)
