"""Arguments outside a function's conditions are refused with the argument, the expectation and the value."""

import math

import pytest
import torch

from lightning_robust_studies.schmidt2018 import theory as t

ONE, TWO = torch.ones(2), torch.ones(1, 2)

REFUSED = [
    (lambda: t.gaussian_error(ONE, ONE, 0.0), "sigma", "0.0"),
    (lambda: t.gaussian_error(ONE, ONE, -1.0), "sigma", "-1.0"),
    (lambda: t.gaussian_error(ONE, ONE, math.nan), "sigma", "nan"),
    (lambda: t.gaussian_error(ONE, ONE, math.inf), "sigma", "inf"),
    (lambda: t.gaussian_error(ONE, ONE, 1.0, -0.1), "eps", "-0.1"),
    (lambda: t.gaussian_error(ONE, ONE, 1.0, 0.1, p=0.5), "p", "0.5"),
    (lambda: t.gaussian_error(ONE, torch.ones(3), 1.0), "theta", r"\(3,\)"),
    (lambda: t.gaussian_error(torch.tensor([1.0, math.nan]), ONE, 1.0), "w", "NaN"),
    (lambda: t.optimal_error(ONE, 1.0, 0.1, p=3.0), "p", "3.0"),
    (lambda: t.mean_estimator(0.0, ONE, 1.0, TWO), "n", "0.0"),
    (lambda: t.mean_estimator(1.0, ONE, 1.0, torch.ones(1, 3)), "noise", r"\(1, 3\)"),
    (lambda: t.mean_errors(torch.tensor([1.0, -2.0]), ONE, 1.0, 0.1, TWO), "n", "-2"),
    (lambda: t.mean_prior_errors(0.0, 1.0, 0.1, TWO), "n", "0.0"),
    (lambda: t.bayes_errors(-1.0, 1.0, 0.1, TWO), "n", "-1.0"),
    (lambda: t.mean_error_large_d(1.0, 0.0, 1.0, 0.1), "d", "0.0"),
    (lambda: t.folded_mean(-1.0), "s", "-1.0"),
    (lambda: t.n_robust(0.0, ONE, 1.0, 0.1, TWO), "target", "0.0"),
    (lambda: t.n_robust(1.0, ONE, 1.0, 0.1, TWO), "target", "1.0"),
    (lambda: t.n_bayes(0.5, 1.0, 0.1, TWO), "target", "0.5"),
    (lambda: t.n_standard_large_d(0.7, 4, 1.0), "target", "0.7"),
    (lambda: t.affine_law(0.6, 4, 1.0, 0.1), "target", "0.6"),
    (lambda: t.loglog_slope(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 2.0])), "y", "0"),
    (lambda: t.affine_fit(torch.ones(3), torch.ones(3)), "x", "1"),
    (lambda: t.affine_fit(torch.ones(3), torch.ones(2)), "y", "2"),
    (lambda: t.sqrt_d_sweep((1,), (0.1,)), r"dimensions\[0\]", "1"),
    (lambda: t.sqrt_d_sweep((4,), (-0.1,)), r"radii\[0\]", "-0.1"),
    (lambda: t.sqrt_d_sweep((4,), (0.1,), scale=0.0), "scale", "0.0"),
    (lambda: t.sqrt_d_sweep((4,), (0.1,), target=0.5), "target", "0.5"),
    (lambda: t.sample_gaussian(-1, ONE, 1.0, generator=torch.Generator()), "n", "-1"),
    (lambda: t.sample_gaussian(2.5, ONE, 1.0, generator=torch.Generator()), "n", "2.5"),
    (lambda: t.sample_bernoulli(1, ONE, 0.6, generator=torch.Generator()), "tau", "0.6"),
    (lambda: t.sample_bernoulli(1, ONE, 0.0, generator=torch.Generator()), "tau", "0.0"),
    (lambda: t.sample_bernoulli(1, 2 * ONE, 0.1, generator=torch.Generator()), "theta", "2"),
    # the bounds
    (lambda: t.fact_12(-1.0, 1.0), "t", "-1.0"),
    (lambda: t.lemma_13(1, 4, 1.0, 2.0, 1.0), "delta", "1.0"),
    (lambda: t.lemma_14(1, 0, 1.0), "d", "0"),
    (lambda: t.lemma_15(1, 1.0, -2.0, 0.1), "norm", "-2.0"),
    (lambda: t.lemma_16(0, 4, 1.0), "n", "0"),
    (lambda: t.lemma_17(1.0, 2.0, 1.0), "alignment", "1.0"),
    (lambda: t.lemma_17(1.0, -2.0, 1.0), "rho", "-2.0"),
    (lambda: t.lemma_20(ONE, ONE, 1.0, 1.5), "w", "-0.7"),
    (lambda: t.lemma_20(0 * ONE, ONE, 1.0, 0.5), "w", "0"),
    (lambda: t.theorem_18(0.2, 4, 1.0), "n", "0.2"),
    (lambda: t.theorem_4(2**16, 1.5), "sigma", "1.5"),
    (lambda: t.corollary_19(2**16, 1.5, 0.01), "sigma", "1.5"),
    (lambda: t.corollary_19(16, 0.1, 1.0), "beta", "1.0"),
    (lambda: t.theorem_21(1, 16, 1.0, 0.5, 0.01), "eps", "0.5"),
    (lambda: t.corollary_22(1, 2**16, 0.6, 0.01), "sigma", "0.6"),
    (lambda: t.corollary_22(1023, 2**16, 0.5, 0.25), "n", "1023"),
    (lambda: t.theorem_5(10**9, 2**16, 0.5, 0.26), "eps", "0.26"),
    (lambda: t.theorem_11(1.0, 0.5, 1.0, 0.1), "d", "0.5"),
    (lambda: t.theorem_11_samples(0.5, 4, 1.0, 0.1), "level", "0.5"),
    (lambda: t.corollary_23(0.2, 2**16, 8.0, 0.5), "n", "0.2"),
    (lambda: t.corollary_23(0.0, 1, 8.0, 0.5), "d", "1"),
    (lambda: t.theorem_6(0.2, 2**16, 0.5, 0.5), "n", "0.2"),
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
    (lambda: t.theorem_8(100, 0.3), "tau", "0.3"),
    (lambda: t.corollary_28(100, 0.51, 0.01), "tau", "0.51"),
    (lambda: t.lemma_29(401, 0.05, 0.1), "n", "401"),
    (lambda: t.lemma_29(1, 0.3, 0.1), "tau", "0.3"),
    (lambda: t.theorem_31(0, 100, 0.3, 0.1, 0.1), "tau", "0.3"),
    (lambda: t.theorem_31(0, 100, 0.1, 0.31, 0.1), "eps", "0.31"),
    (lambda: t.theorem_31(0, 100, 0.1, 0.1, 0.5), "gamma", "0.5"),
    (lambda: t.theorem_31(1, 100, 0.1, 0.1, 0.1), "n", "1"),
    (lambda: t.theorem_9(0, 16, 0.6, 0.1, 0.1), "scale", "0.6"),
    (lambda: t.theorem_10(2**12, 0.2, 1.0), "eps", "1.0"),
    (lambda: t.theorem_10(2**12, 0.1, 0.5), "tau", "0.1"),
    # self-training, learners, comparison
    (lambda: t.self_trained_estimator(0 * ONE, 1, ONE, 1.0, generator=torch.Generator()), "w", "zeros"),
    (lambda: t.self_trained_estimator(ONE, 0, ONE, 1.0, generator=torch.Generator()), "unlabelled", "0"),
    (lambda: t.carmon_labels(16, 1.0, 0.5), "eps", "0.5"),
    (lambda: t.carmon_unlabelled(16, 0.0, 0.1), "n0", "0.0"),
    (lambda: t.carmon_labels_lower(1, 1.0, 0.1), "d", "1"),
    (lambda: t.soft_threshold_learner(-1.0), "level", "-1.0"),
    (lambda: t.logistic_learner(l2=0.0), "l2", "0.0"),
    (lambda: t.adversarial_logistic_learner(-0.1), "eps", "-0.1"),
    (
        lambda: t.compare_learner(t.mean_learner, n=1, d=4, sigma=1.0, eps=0.1, draws=1, generator=torch.Generator()),
        "draws",
        "1",
    ),
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
    assert t.theorem_11(1, 2, 1, 1).dtype == torch.float64
