"""Every bound: its value worked out independently, and never violated by exact or drawn errors."""

import math

import pytest
import torch
from scipy.stats import chi, ncx2, norm
from torch import Generator

from lightning_robust_studies.schmidt2018.theory import (
    fact_12,
    gaussian_error,
    lemma_13,
    lemma_14,
    lemma_15,
    lemma_16,
    lemma_17,
    lemma_20,
    mean_estimator,
    theorem_18,
    theorem_21,
    theorem_21_radius,
)

GRID = [(n, d, sigma) for n in (1, 7, 64) for d in (16, 400) for sigma in (0.3, 1.0, 4.0)]


def normals(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=Generator().manual_seed(seed))


def test_fact_12_bounds_the_tail_of_a_chi_variable():
    for d in (1, 10, 1000):
        for t in (0.0, 0.5, 2.0, 4.0):
            assert chi.sf((2.0 * math.sqrt(d) + t) / 2.0, d) <= fact_12(t, 2.0)
    assert fact_12(3.0, 1.5) == pytest.approx(math.exp(-2))


@pytest.mark.parametrize(("n", "d", "sigma"), GRID)
def test_lemmas_13_and_14_bound_the_length_of_the_mean(n, d, sigma):
    def exceeds(length, norm_of_mean):  # n |z|^2 / sigma^2 is noncentral chi-squared
        return ncx2.sf(n * length**2 / sigma**2, d, n * norm_of_mean**2 / sigma**2)

    for delta in (0.5, 0.01):
        assert exceeds(lemma_13(n, d, sigma, 3.0, delta), 3.0) <= delta
    length, probability = lemma_14(n, d, sigma)
    assert length == pytest.approx(math.sqrt(d) + 2 * sigma * math.sqrt(d / n))
    assert exceeds(length, math.sqrt(d)) <= probability == pytest.approx(math.exp(-d / 2))


def test_lemma_15_bounds_the_alignment_of_the_mean():
    for delta in (0.5, 0.01, 1e-6):
        alignment = lemma_15(9, 2.0, 5.0, delta)  # <z, mu> ~ N(25, (2 * 5 / 3)^2)
        assert norm.cdf(alignment, 25, 10 / 3) <= delta
        assert alignment == pytest.approx(25 - 10 / 3 * math.sqrt(-2 * math.log(delta)))


@pytest.mark.parametrize(("n", "d", "sigma"), [(1, 64, 0.5), (1, 256, 2.0), (16, 64, 1.0), (100, 64, 3.0)])
def test_lemma_16_and_theorems_18_and_21_hold_for_the_drawn_mean_estimator(n, d, sigma):
    theta, noise = torch.ones(d, dtype=torch.float64), normals(2000, d)
    w = mean_estimator(n, theta, sigma, noise)
    alignment, missed = lemma_16(n, d, sigma)
    slack = 3 / math.sqrt(2000)
    assert ((w @ theta) / w.norm(dim=-1) <= alignment).double().mean() <= missed + slack
    standard = theorem_18(n, d, sigma)
    assert standard.probability == max(0, 1 - missed)
    assert (gaussian_error(w, theta, sigma) > standard.error).double().mean() <= 1 - standard.probability + slack
    radius = theorem_21_radius(n, d, sigma, 0.1)
    if radius > 0:
        robust = theorem_21(n, d, sigma, radius, 0.1)
        assert (gaussian_error(w, theta, sigma, radius) > 0.1).double().mean() <= 1 - robust.probability + slack


def test_lemma_17_is_a_normal_tail_bound_and_lemma_20_its_robust_form():
    for alignment, rho in [(3.0, 0.0), (3.0, 2.5), (1.0, 1.0)]:
        bound = lemma_17(alignment, rho, 1.5)
        assert norm.cdf((rho - alignment) / 1.5) <= bound == pytest.approx(math.exp(-((alignment - rho) ** 2) / 4.5))
    theta, w = normals(20), normals(20) + 0.5 * normals(20, seed=1)
    for p in (math.inf, 2.0, 1.0, 3.0):
        for eps in (0.0, 0.1, 0.2):
            assert gaussian_error(w, theta, 1.5, eps, p=p).item() <= lemma_20(w, theta, 1.5, eps, p=p)
    unit, margin = w / w.norm(), (w @ theta - 0.2 * w.abs().sum()).item() / w.norm().item()
    assert lemma_20(unit, theta, 1.5, 0.2) == pytest.approx(math.exp(-(margin**2) / 4.5))
