"""Arguments outside a function's conditions are refused with the argument, the expectation and the value."""

import math

import pytest
import torch

from lightning_robust_studies.schmidt2018 import theory as t

ONE, TWO = torch.ones(2), torch.ones(1, 2)

REFUSED = [
    (lambda: t.gaussian_error(ONE, ONE, 0.0), "sigma", "0.0"),
    (lambda: t.gaussian_error(ONE, ONE, math.nan), "sigma", "nan"),
    (lambda: t.gaussian_error(ONE, ONE, 1.0, 0.1, p=0.5), "p", "0.5"),
    (lambda: t.gaussian_error(ONE, torch.ones(3), 1.0), "theta", r"\(3,\)"),
    (lambda: t.gaussian_error(torch.tensor([1.0, math.nan]), ONE, 1.0), "w", "NaN"),
    (lambda: t.optimal_error(ONE, 1.0, 0.1, p=3.0), "p", "3.0"),
    (lambda: t.mean_estimator(0.0, ONE, 1.0, TWO), "n", "0.0"),
    (lambda: t.mean_estimator(1.0, ONE, 1.0, torch.ones(1, 3)), "noise", r"\(1, 3\)"),
    (lambda: t.mean_errors(torch.tensor([1.0, -2.0]), ONE, 1.0, 0.1, TWO), "n", "-2"),
    (lambda: t.mean_prior_errors(0.0, 1.0, 0.1, TWO), "n", "0.0"),
    (lambda: t.mean_error_large_d(1.0, 0.0, 1.0, 0.1), "d", "0.0"),
    (lambda: t.n_robust(0.0, ONE, 1.0, 0.1, TWO), "target", "0.0"),
    (lambda: t.n_robust(1.0, ONE, 1.0, 0.1, TWO), "target", "1.0"),
    (lambda: t.n_bayes(0.5, 1.0, 0.1, TWO), "target", "0.5"),
    (lambda: t.n_standard_large_d(0.7, 4, 1.0), "target", "0.7"),
    (lambda: t.affine_law(0.6, 4, 1.0, 0.1), "target", "0.6"),
    (lambda: t.loglog_slope(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 2.0])), "y", "0"),
    (lambda: t.sqrt_d_sweep((1,), (0.1,)), r"dimensions\[0\]", "1"),
    (lambda: t.sqrt_d_sweep((4,), (-0.1,)), r"radii\[0\]", "-0.1"),
    (lambda: t.sqrt_d_sweep((4,), (0.1,), sigma_scale=0.0), "sigma_scale", "0.0"),
    (lambda: t.sqrt_d_sweep((4,), (0.1,), target=0.5), "target", "0.5"),
    (lambda: t.sample_gaussian(-1, ONE, 1.0, generator=torch.Generator()), "n", "-1"),
    (lambda: t.sample_gaussian(2.5, ONE, 1.0, generator=torch.Generator()), "n", "2.5"),
    (lambda: t.sample_bernoulli(1, ONE, 0.6, generator=torch.Generator()), "tau", "0.6"),
    (lambda: t.sample_bernoulli(1, ONE, 0.0, generator=torch.Generator()), "tau", "0.0"),
    (lambda: t.sample_bernoulli(1, 2 * ONE, 0.1, generator=torch.Generator()), "theta", "2"),
    # the Bernoulli model
    (lambda: t.margin_pmf(torch.tensor([0.5]), 0.1), "v", "0.5"),
    (lambda: t.margin_pmf(TWO, 0.1), "v", r"\(1, 2\)"),
    (lambda: t.margin_pmf(torch.tensor([1e11], dtype=torch.float64), 0.1), "v", "1 x 100000000000"),
    (lambda: t.bernoulli_error(ONE, ONE, 0.7), "tau", "0.7"),
    (lambda: t.bernoulli_error_normal(ONE, ONE, 0.5), "tau", "0.5"),
    (lambda: t.bernoulli_mean_estimator(0, ONE, 0.1, draws=1, generator=torch.Generator()), "n", "0"),
    (lambda: t.one_sample_error(0, 0.1), "d", "0"),
    (lambda: t.thresholded_error(ONE, ONE, 0.1, -1.0), "eps", "-1.0"),
    (lambda: t.linear_error_floor(0.1, 0.19), "eps", "0.19"),
    (lambda: t.self_trained_estimator(0 * ONE, 1, ONE, 1.0, generator=torch.Generator()), "w", "zeros"),
    (lambda: t.self_trained_estimator(ONE, 0, ONE, 1.0, generator=torch.Generator()), "unlabeled", "0"),
    (
        lambda: t.compare_learner(t.mean_learner, n=1, d=4, sigma=1.0, eps=0.1, draws=1, generator=torch.Generator()),
        "draws",
        "1",
    ),
    (lambda: t.STATEMENTS["Lemma 14"](n=1, d=0, sigma=1.0), "d", "0"),
    (lambda: t.STATEMENTS["Lemma 13"](n=1, d=4, sigma=0.0, norm=2.0, delta=0.1), "sigma", "0.0"),
    (lambda: t.STATEMENTS["Lemma 16"](n=0, d=4, sigma=1.0), "n", "0"),
    (lambda: t.STATEMENTS["Lemma 29"](n=1, tau=0.1, delta=1.0), "delta", "1.0"),
    (lambda: t.STATEMENTS["Corollary 19"](d=16, sigma=0.1, beta=1.0), "beta", "1.0"),
    (lambda: t.STATEMENTS["Corollary 23"](n=0.0, d=1, sigma=8.0, eps=0.5), "d", "1"),
    (lambda: t.STATEMENTS["Carmon et al., Theorem 2"](d=16, n0=0.0, eps=0.1), "n0", "0.0"),
    (lambda: t.STATEMENTS["Lemma 20"](w=0 * ONE, theta=ONE, sigma=1.0, eps=0.5, p=2), "w", "0"),
    (lambda: t.error_floor(1.0, 0.5, 1.0, 0.1), "d", "0.5"),
    (lambda: t.error_floor_samples(0.5, 4, 1.0, 0.1), "level", "0.5"),
    (lambda: t.loglog_slope(torch.ones(3), torch.ones(3)), "x", "1"),
    (lambda: t.loglog_slope(torch.ones(3), torch.ones(2)), "y", "2"),
]


@pytest.mark.parametrize(("call", "argument", "value"), REFUSED)
def test_a_refusal_names_the_argument_the_expectation_and_the_value(call, argument, value):
    message = rf"(?s)^Expected argument `{argument}` to be .+, but got .*{value}.*\.$"
    with pytest.raises((TypeError, ValueError), match=message):
        call()


def test_what_is_no_number_is_refused():
    with pytest.raises(TypeError, match="`sigma`"):
        t.gaussian_error(ONE, ONE, "1")
    with pytest.raises(TypeError, match="`sigma`"):
        t.gaussian_error(ONE, ONE, True)
    with pytest.raises(TypeError, match="`w`"):
        t.gaussian_error([1.0, 1.0], ONE, 1.0)


def test_float32_arguments_are_computed_in_float64():
    assert t.gaussian_error(ONE, ONE, torch.tensor(1.0), 0.1).dtype == torch.float64
    assert t.error_floor(1, 2, 1, 1).dtype == torch.float64
