"""Every bound: its value worked out independently, never violated by exact or drawn errors; the paper's slips."""

import math

import pytest
import torch
from scipy.stats import chi, nct, ncx2, norm
from torch import Generator

from lightning_robust_studies.schmidt2018 import theory
from tests.studies.schmidt2018.theory.helpers import normals

GRID = [(n, d, sigma) for n in (1, 7, 64) for d in (16, 400) for sigma in (0.3, 1.0, 4.0)]


# ---- lemmas


def test_fact_12_bounds_the_tail_of_a_chi_variable_but_not_for_negative_t_and_not_for_sigma_as_a_variance():
    fact = theory.STATEMENTS["Fact 12"]
    for d in (1, 10, 1000):
        for t in (0.0, 0.5, 2.0, 4.0):
            assert chi.sf((2.0 * math.sqrt(d) + t) / 2.0, d) <= fact(t=t, sigma=2.0)
    assert fact(t=3.0, sigma=1.5) == pytest.approx(math.exp(-2))
    # the paper gives no range of t: at t = -sigma sqrt(d) every length reaches 0
    for d in (1, 10, 1000):
        assert chi.sf(0.0, d) == 1 > math.exp(-d / 2)
    with pytest.raises(ValueError, match="`t` to be at least 0"):
        fact(t=-0.1, sigma=2.0)
    # Definition 1 calls sigma the variance parameter; if it were the variance, the bound would fail for sigma < 1
    sigma, d = 0.1, 10
    t = 3 * sigma
    assert chi.sf((sigma * math.sqrt(d) + t) / math.sqrt(sigma), d) > fact(t=t, sigma=sigma)
    assert chi.sf((sigma * math.sqrt(d) + t) / sigma, d) <= fact(t=t, sigma=sigma)


@pytest.mark.parametrize(("n", "d", "sigma"), GRID)
def test_lemmas_13_and_14_bound_the_length_of_the_mean(n, d, sigma):
    def exceeds(length, norm_of_mean):  # n |z|^2 / sigma^2 is noncentral chi-squared
        return ncx2.sf(n * length**2 / sigma**2, d, n * norm_of_mean**2 / sigma**2)

    for delta in (0.5, 0.01):
        length = theory.STATEMENTS["Lemma 13"](n=n, d=d, sigma=sigma, norm=3.0, delta=delta)
        assert exceeds(length, 3.0) <= delta
    length, probability = theory.STATEMENTS["Lemma 14"](n=n, d=d, sigma=sigma)
    assert length == pytest.approx(math.sqrt(d) + 2 * sigma * math.sqrt(d / n))
    assert exceeds(length, math.sqrt(d)) <= probability == pytest.approx(math.exp(-d / 2))


def test_lemma_15_bounds_the_alignment_of_the_mean_but_not_at_mean_zero():
    lemma = theory.STATEMENTS["Lemma 15"]
    for delta in (0.5, 0.01, 1e-6):
        alignment = lemma(n=9, sigma=2.0, norm=5.0, delta=delta)  # <z, mu> ~ N(25, (2 * 5 / 3)^2)
        assert norm.cdf(alignment, 25, 10 / 3) <= delta
        assert alignment == pytest.approx(25 - 10 / 3 * math.sqrt(-2 * math.log(delta)))
    # at mu = 0 the alignment is 0 in every draw and the bound is 0, so that "at most" has probability 1
    mu, delta = torch.zeros(8, dtype=torch.float64), 0.01
    means = theory.mean_estimator(9, mu, 2.0, normals(100, 8))
    bound = mu.norm() ** 2 - 2.0 * mu.norm() * math.sqrt(2 * math.log(1 / delta) / 9)
    assert (means @ mu <= bound).double().mean() == 1 > delta
    with pytest.raises(ValueError, match="`norm` to be greater than 0"):
        lemma(n=9, sigma=2.0, norm=0.0, delta=delta)


def _at_most(alignment, n, d, sigma):
    """P(<w, mu> <= alignment) for the mean estimator and |mu| = sqrt(d), by the noncentral t distribution of the ratio
    of the mean along mu and across it."""
    cosine = alignment / math.sqrt(d)
    return nct.cdf(cosine / math.sqrt(1 - cosine**2) * math.sqrt(d - 1), d - 1, math.sqrt(n * d) / sigma)


def test_lemma_16_is_false_for_less_than_a_quarter_of_a_sample():
    lemma, (n, d, sigma) = theory.STATEMENTS["Lemma 16"], (1e-4, 200, 1.0)
    alignment = (2 * math.sqrt(n) - 1) / (2 * math.sqrt(n) + 4 * sigma) * math.sqrt(d)
    assert alignment < 0
    assert _at_most(alignment, n, d, sigma) > 19 * 2 * math.exp(-d / (8 * (sigma**2 + 1)))
    for below in (n, 0.2499):
        with pytest.raises(ValueError, match="`n` to be at least 1/4"):
            lemma(n=below, d=d, sigma=sigma)
    for at in (0.25, 0.3, 1, 16):
        for d in (2, 50, 200):
            for sigma in (0.3, 1.0, 4.0):
                alignment, missed = lemma(n=at, d=d, sigma=sigma)
                assert _at_most(alignment, at, d, sigma) <= missed


@pytest.mark.parametrize(("n", "d", "sigma"), [(1, 64, 0.5), (1, 256, 2.0), (16, 64, 1.0), (100, 64, 3.0)])
def test_lemma_16_and_theorems_18_and_21_hold_for_the_drawn_mean_estimator(n, d, sigma):
    theta, noise, at = torch.ones(d, dtype=torch.float64), normals(2000, d), {"n": n, "d": d, "sigma": sigma}
    w = theory.mean_estimator(n, theta, sigma, noise)
    alignment, missed = theory.STATEMENTS["Lemma 16"](**at)
    slack = 3 / math.sqrt(2000)
    assert ((w @ theta) / w.norm(dim=-1) <= alignment).double().mean() <= missed + slack
    standard = theory.STATEMENTS["Theorem 18"](**at)
    assert standard.probability == max(0, 1 - missed)
    assert (theory.gaussian_error(w, theta, sigma) > standard.error).double().mean() <= 1 - standard.probability + slack
    radius = theory.STATEMENTS["Theorem 21"].limit("eps", **at, beta=0.1)
    if radius > 0:
        robust = theory.STATEMENTS["Theorem 21"](**at, eps=radius, beta=0.1)
        assert (theory.gaussian_error(w, theta, sigma, radius) > 0.1).double().mean() <= 1 - robust.probability + slack


def test_lemma_17_is_a_normal_tail_bound_and_lemma_20_its_robust_form():
    for alignment, rho in [(3.0, 0.0), (3.0, 2.5), (1.0, 1.0)]:
        bound = theory.STATEMENTS["Lemma 17"](alignment=alignment, rho=rho, sigma=1.5)
        assert norm.cdf((rho - alignment) / 1.5) <= bound == pytest.approx(math.exp(-((alignment - rho) ** 2) / 4.5))
    theta, w = normals(20), normals(20) + 0.5 * normals(20, seed=1)
    lemma, at = theory.STATEMENTS["Lemma 20"], {"w": w, "theta": theta, "sigma": 1.5}
    for p in (math.inf, 2.0, 1.0, 3.0):
        for eps in (0.0, 0.1, 0.2):
            assert theory.gaussian_error(w, theta, 1.5, eps, p=p).item() <= lemma(**at, eps=eps, p=p)
    unit, margin = w / w.norm(), (w @ theta - 0.2 * w.abs().sum()).item() / w.norm().item()
    assert lemma(w=unit, theta=theta, sigma=1.5, eps=0.2, p=math.inf) == pytest.approx(math.exp(-(margin**2) / 4.5))
    with pytest.raises(ValueError, match="`theta` to be of shape"):
        lemma(w=w, theta=theta[1:], sigma=1.5, eps=0.2, p=2)


# ---- upper bounds


def test_theorem_18_at_numbers_worked_out_by_hand():
    bound = theory.STATEMENTS["Theorem 18"](
        n=4, d=200, sigma=2.0
    )  # ratio (4 - 1) / (4 + 8) = 1/4; exponent 200 / 16 / (2 * 4)
    assert bound.error == pytest.approx(math.exp(-200 / 128))
    assert bound.probability == pytest.approx(1 - 2 * math.exp(-5))
    assert theory.STATEMENTS["Theorem 18"](n=1, d=1, sigma=1.0).probability == 0


@pytest.mark.parametrize("beta", [0.5, 0.1, 0.01, 1e-6])
def test_corollary_19_follows_from_theorem_18(beta):
    for d in (1, 4, 100, 10_000, 10**8):
        sigma = theory.STATEMENTS["Corollary 19"].limit("sigma", d=d, beta=beta)
        assert sigma == pytest.approx(d**0.25 / 5 / math.sqrt(-math.log(beta)))
        general = theory.STATEMENTS["Theorem 18"](n=1, d=d, sigma=sigma)
        assert general.error <= beta
        assert theory.STATEMENTS["Corollary 19"](d=d, sigma=sigma, beta=beta) == theory.Guarantee(
            beta, general.probability
        )


def test_theorem_4_is_one_percent_from_one_sample():
    sigma = theory.STATEMENTS["Theorem 4"].limit("sigma", d=4096)
    assert sigma == theory.STATEMENTS["Corollary 19"].limit("sigma", d=4096, beta=0.01)
    assert theory.STATEMENTS["Theorem 4"](d=4096, sigma=sigma).error == 0.01
    assert theory.mean_errors(1, torch.ones(4096), sigma, 0.0, normals(50, 4096)).max() <= 0.01


def test_theorem_21_at_numbers_worked_out_by_hand():
    at = {"n": 4, "d": 400, "sigma": 2.0, "beta": math.exp(-2)}
    radius = theory.STATEMENTS["Theorem 21"].limit("eps", **at)  # 3 / 12 - 2 * 2 / 20
    assert radius == pytest.approx(0.05)
    expected = theory.Guarantee(math.exp(-2), pytest.approx(1 - 2 * math.exp(-10)))
    assert theory.STATEMENTS["Theorem 21"](**at, eps=radius) == expected


def test_corollary_22_follows_from_theorem_21_and_holds_in_every_draw():
    for d in (16, 256, 4096, 2**16, 2**24):
        sigma = d**0.25 / 32
        for eps in (0.0, d**-0.25 / 4, 1.001 * d**-0.25 / 4, 0.1, 0.25):
            if eps <= 0.25:
                n = theory.STATEMENTS["Corollary 22"].limit("n", d=d, sigma=sigma, eps=eps)
                assert theory.STATEMENTS["Theorem 21"].limit("eps", n=n, d=d, sigma=sigma, beta=0.01) >= eps
    d, sigma = 4096, 4096**0.25 / 32
    for eps in (d**-0.25 / 4, 0.1, 0.25):
        n = max(1, math.ceil(64 * eps**2 * math.sqrt(d)))
        for name in ("Corollary 22", "Theorem 5"):
            assert theory.STATEMENTS[name](n=n, d=d, sigma=sigma, eps=eps).error == 0.01
        assert theory.mean_errors(n, torch.ones(d), sigma, eps, normals(20, d)).max() <= 0.01


def test_the_samples_of_corollary_22_are_64_eps_squared_root_d():
    corollary = theory.STATEMENTS["Corollary 22"]
    assert corollary.limit("n", d=10_000, sigma=0.1, eps=0.2) == pytest.approx(256)
    assert corollary.limit("n", d=10_000, sigma=0.1, eps=0.025) == 1


# ---- lower bounds


def test_theorem_11_is_half_the_probability_of_a_small_posterior_mean():
    n, d, sigma, eps = 0.5, 20, 2.0, 0.6
    v = normals(100_000, d)
    small = ((n / (sigma**2 + n)) ** 0.5 * v.abs().amax(-1) <= eps).double()
    bound = theory.STATEMENTS["Theorem 11"](n=n, d=d, sigma=sigma, eps=eps)
    assert bound == theory.error_floor(n, d, sigma, eps).item()
    assert abs(bound - 0.5 * small.mean().item()) < 2 * small.std().item() / 100_000**0.5


def test_the_posterior_mean_of_theorem_11_is_a_multiple_of_the_mean_and_not_of_the_sum_that_is_printed():
    n, d, sigma, generator = 4, 20_000, 2.0, Generator().manual_seed(0)
    theta = normals(d, seed=1)
    x, y = theory.sample_gaussian(n, theta, sigma, generator=generator)
    total = (y[:, None] * x).sum(0)
    fitted = (theta @ total) / (total @ total)  # regression of theta on what was seen: the posterior mean's factor
    printed = n / (sigma**2 + n)
    assert fitted.item() == pytest.approx(printed / n, abs=4 / d**0.5 / total.std().item())
    assert fitted.item() < 0.3 * printed
    # with the sum the posterior mean would vary more than theta itself does, which no conditional mean can
    assert (printed * total).var() > 2 * theta.var() > 2 * (printed * total / n).var()


def test_theorem_11_is_stable_where_the_plain_formula_is_not():
    u, d = 9.0, 1e15  # eps sqrt((sigma^2 + n) / n) = 9: 2 Phi(9) - 1 rounds to 1
    bound = theory.error_floor(1.0, d, 1.0, u / math.sqrt(2)).item()
    assert 0.5 - bound == pytest.approx(d * norm.sf(9), rel=1e-2)
    assert theory.error_floor(0.0, 10, 1.0, 0.0).item() == 0.5
    assert theory.error_floor(1.0, 10, 1.0, 0.0).item() == 0


def test_theorem_11_is_inverted_exactly():
    theorem = theory.STATEMENTS["Theorem 11"]
    for d, level, eps in [(2, 0.4, 0.1), (2**16, 0.25, 0.5), (2**10, 1e-9, 0.3)]:
        n = theorem.limit("n", level=level, d=d, sigma=4.0, eps=eps)
        assert theorem(n=n, d=d, sigma=4.0, eps=eps) == pytest.approx(level, rel=1e-9, abs=0)
    assert theory.error_floor_samples(0.1, 2, 1.0, 5.0) == math.inf
    assert theorem(n=1e12, d=2, sigma=1.0, eps=5.0) > 0.1


def test_corollary_23_and_theorem_6_follow_from_theorem_11():
    corollary = theory.STATEMENTS["Corollary 23"]
    for d in (2, 10, 1000, 2**16):
        for sigma, eps in [(1.0, 0.1), (8.0, 0.5), (2.0, 2.0)]:
            at = {"d": d, "sigma": sigma, "eps": eps}
            n = corollary.limit("n", **at)
            assert n == pytest.approx((eps * sigma) ** 2 / 8 / math.log(d))
            assert corollary(n=n, **at) == (1 - 1 / d) / 2 <= theory.STATEMENTS["Theorem 11"](n=n, **at)
    n, at = 0.25 / 8 * 0.5**2 * 64 / math.log(4096), {"d": 4096, "sigma_scale": 0.5, "eps": 0.5}
    assert theory.STATEMENTS["Theorem 6"](n=0.999 * n, **at) == (1 - 1 / 4096) / 2
    with pytest.raises(ValueError, match="`n`"):
        theory.STATEMENTS["Theorem 6"](n=1.001 * n, **at)


def test_the_threshold_of_theorem_11_is_several_times_that_of_corollary_23():
    corollary = theory.STATEMENTS["Corollary 23"].limit("n", d=2**16, sigma=8.0, eps=0.5)
    assert theory.error_floor_samples(0.25, 2**16, 8.0, 0.5) / corollary == pytest.approx(4.6, abs=0.1)


def test_the_bayes_curve_respects_corollary_23():
    at = {"d": 1024, "sigma": 4.0, "eps": 0.5}
    n = theory.STATEMENTS["Corollary 23"].limit("n", **at)
    assert theory.bayes_errors(n, 4.0, 0.5, normals(100, 1024)).mean() >= theory.STATEMENTS["Corollary 23"](n=n, **at)


# ---- self-training


def test_the_counts_of_carmon_et_al():
    at = {"d": 10**6, "n0": 4.0, "eps": 0.2}  # n0 eps^2 sqrt(d / n0) = 4 * 0.04 * 500 = 80
    assert theory.STATEMENTS["Carmon et al., Proposition 1"](**at) == pytest.approx(320)
    assert theory.STATEMENTS["Carmon et al., Theorem 2"](**at) == pytest.approx(288 * 80)
    lower = theory.STATEMENTS["Corollary 23"].limit("n", d=10**6, sigma=theory.carmon_sigma(10**6, 4.0), eps=0.2)
    assert theory.STATEMENTS["Carmon et al., Theorem 1"](**at) == pytest.approx(lower)
    assert theory.carmon_sigma(10**6, 4.0) == pytest.approx(2000**0.5)
