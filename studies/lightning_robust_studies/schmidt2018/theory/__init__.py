"""Exact curves, statements and sample sizes of the two models of Schmidt et al. (2018), in float64."""

from lightning_robust_studies.schmidt2018.theory._statement import Condition, Guarantee, Statement
from lightning_robust_studies.schmidt2018.theory.bernoulli import (
    bernoulli_error,
    bernoulli_error_normal,
    bernoulli_mean_error_large_d,
    bernoulli_mean_estimator,
    linear_error_floor,
    margin_pmf,
    one_sample_error,
    sample_bernoulli,
    threshold,
    thresholded_error,
)
from lightning_robust_studies.schmidt2018.theory.comparison import Comparison, Feature, compare_learner, monotone_error
from lightning_robust_studies.schmidt2018.theory.gaussian import (
    dual_norm,
    gaussian_error,
    optimal_error,
    optimal_weights,
    sample_gaussian,
    soft_threshold,
)
from lightning_robust_studies.schmidt2018.theory.gaussian_curves import (
    bayes_error_large_d,
    bayes_errors,
    error_floor,
    error_floor_samples,
    folded_mean,
    mean_error_curve,
    mean_error_large_d,
    mean_errors,
    mean_estimator,
    mean_prior_errors,
    posterior_mean,
    predictive_sigma,
)
from lightning_robust_studies.schmidt2018.theory.learners import (
    Learner,
    adversarial_logistic_learner,
    adversarial_logistic_loss,
    bayes_learner,
    hard_threshold_learner,
    logistic_learner,
    mean_learner,
    soft_threshold_learner,
)
from lightning_robust_studies.schmidt2018.theory.sample_size import (
    affine_law,
    crossing,
    loglog_slope,
    n_bayes,
    n_robust,
    n_robust_large_d,
    n_standard_large_d,
)
from lightning_robust_studies.schmidt2018.theory.self_training import (
    carmon_sigma,
    effective_samples,
    self_trained_estimator,
    self_training_error_large_d,
)
from lightning_robust_studies.schmidt2018.theory.statements import STATEMENTS
from lightning_robust_studies.schmidt2018.theory.sweep import DIMENSIONS, RADII, sqrt_d_sweep

__all__ = [
    "DIMENSIONS", "RADII", "STATEMENTS", "Comparison", "Condition", "Feature", "Guarantee", "Learner", "Statement",
    "adversarial_logistic_learner", "adversarial_logistic_loss", "affine_law", "bayes_error_large_d", "bayes_errors",
    "bayes_learner", "bernoulli_error", "bernoulli_error_normal", "bernoulli_mean_error_large_d",
    "bernoulli_mean_estimator", "carmon_sigma", "compare_learner", "crossing", "dual_norm", "effective_samples",
    "error_floor", "error_floor_samples", "folded_mean", "gaussian_error", "hard_threshold_learner",
    "linear_error_floor", "logistic_learner", "loglog_slope", "margin_pmf", "mean_error_curve", "mean_error_large_d",
    "mean_errors", "mean_estimator", "mean_learner", "mean_prior_errors", "monotone_error", "n_bayes", "n_robust",
    "n_robust_large_d", "n_standard_large_d", "one_sample_error", "optimal_error", "optimal_weights",
    "posterior_mean", "predictive_sigma", "sample_bernoulli", "sample_gaussian", "self_trained_estimator",
    "self_training_error_large_d", "soft_threshold", "soft_threshold_learner", "sqrt_d_sweep", "threshold",
    "thresholded_error",
]  # fmt: skip
