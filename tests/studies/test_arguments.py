"""The law of arguments for what the studies offer to programs."""

from inspect import Parameter, Signature
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_robust_studies.schmidt2018 import mixtures, theory, threshold
from lightning_robust_studies.stutz2019 import tangent
from tests.argument_law import (
    Case,
    arguments,
    assert_numpy_scalars_are_numbers,
    bad_values,
    case,
    outcome,
    public,
)
from tests.studies.schmidt2018.theory.helpers import POINTS

GENERATOR = torch.Generator()
X = torch.rand(8, 1, 4, 4)
ONES, NOISE = torch.ones(4, dtype=torch.float64), torch.randn(6, 4, dtype=torch.float64)
LOADER = {"eval_batch_size": 2}
MIXTURE = {"d": 4, "train_size": 4, "val_size": 2, "test_size": 4, **LOADER}
N, D = {"n": 4.0}, {"d": 16}
SAMPLES = {"theta": ONES, "sigma": 1.0}


def flat(images: Tensor) -> Tensor:
    return images


def statement_case(statement: theory.Statement) -> Case:
    """A statement of the table as a function with named arguments."""

    def give(**arguments: Any) -> Any:
        return statement(**arguments)

    point = POINTS[statement.name]
    parameters = [Parameter(name, Parameter.KEYWORD_ONLY, annotation=type(value)) for name, value in point.items()]
    give.__module__, give.__signature__ = theory.__name__, Signature(parameters)
    return case(give, **point, free="t alignment", infinite="p")


TABLE = {
    "threshold.ThresholdDetector": case(threshold.ThresholdDetector),
    "threshold.ThresholdFilters": case(threshold.ThresholdFilters, eps=0.25),
    "threshold.find_thresholds": case(threshold.find_thresholds, weight=torch.ones(2, 1, 3, 3), bias=torch.ones(2)),
    "tangent.NeighborTangent": case(tangent.NeighborTangent, images=X, components=2, neighbors=3),
    "mixtures.BernoulliMixture": case(mixtures.BernoulliMixture, **MIXTURE, tau=0.25, theta=[1.0] * 4),
    "mixtures.GaussianMixture": case(mixtures.GaussianMixture, **MIXTURE, sigma=1.0, theta=[1.0] * 4),
    # theory
    "theory.adversarial_logistic_learner": case(theory.adversarial_logistic_learner, eps=0.25),
    "theory.adversarial_logistic_loss": case(
        theory.adversarial_logistic_loss, w=ONES, x=NOISE, y=NOISE[:, 0].sign(), eps=0.25, l2=0.5
    ),
    "theory.affine_law": case(theory.affine_law, target=0.25, d=16.0, sigma_scale=0.5, eps=0.25),
    "theory.bayes_error_large_d": case(theory.bayes_error_large_d, **N, d=16.0, sigma=1.0, eps=0.25),
    "theory.bayes_errors": case(theory.bayes_errors, **N, sigma=1.0, eps=0.25, noise=NOISE, infinite="p"),
    "theory.bayes_learner": case(theory.bayes_learner, sigma=1.0, eps=0.25),
    "theory.bernoulli_error": case(theory.bernoulli_error, w=ONES, theta=ONES, tau=0.25),
    "theory.bernoulli_error_normal": case(theory.bernoulli_error_normal, w=ONES, theta=ONES, tau=0.25),
    "theory.bernoulli_mean_error_large_d": case(theory.bernoulli_mean_error_large_d, **N, d=16.0, tau=0.25),
    "theory.bernoulli_mean_estimator": case(
        theory.bernoulli_mean_estimator, n=3, theta=ONES, tau=0.25, draws=2, generator=GENERATOR
    ),
    "theory.carmon_sigma": case(theory.carmon_sigma, **D, n0=1.0),
    "theory.compare_learner": case(
        theory.compare_learner, learner=theory.mean_learner, n=2, d=4, sigma=1.0, eps=0.25, draws=2,
        generator=GENERATOR, feature=flat, test_points=3,
    ),
    "theory.crossing": case(theory.crossing, error=lambda n: 1 / (1 + n), target=0.25),
    "theory.dual_norm": case(theory.dual_norm, w=ONES, infinite="p"),
    "theory.effective_samples": case(theory.effective_samples, **N, unlabeled=8.0, d=16.0, sigma=1.0),
    "theory.error_floor": case(theory.error_floor, **N, d=16.0, sigma=1.0, eps=0.25),
    "theory.error_floor_samples": case(theory.error_floor_samples, level=0.25, **D, sigma=1.0, eps=0.25),
    "theory.folded_mean": case(theory.folded_mean, s=1.0),
    "theory.gaussian_error": case(
        theory.gaussian_error, w=ONES, **SAMPLES, eps=0.25, free="bias", infinite="p bias"
    ),
    "theory.hard_threshold_learner": case(theory.hard_threshold_learner, level=0.5),
    "theory.linear_error_floor": case(theory.linear_error_floor, tau=0.125, eps=0.5),
    "theory.logistic_learner": case(theory.logistic_learner),
    "theory.loglog_slope": case(theory.loglog_slope, x=NOISE[0].exp(), y=NOISE[1].exp()),
    "theory.margin_pmf": case(theory.margin_pmf, v=ONES, tau=0.25),
    "theory.mean_error_curve": case(theory.mean_error_curve, **SAMPLES, eps=0.25, noise=NOISE, infinite="p"),
    "theory.mean_error_large_d": case(theory.mean_error_large_d, **N, d=16.0, sigma=1.0, eps=0.25),
    "theory.mean_errors": case(theory.mean_errors, **N, **SAMPLES, eps=0.25, noise=NOISE, infinite="p"),
    "theory.mean_estimator": case(theory.mean_estimator, **N, **SAMPLES, noise=NOISE),
    "theory.mean_prior_errors": case(theory.mean_prior_errors, **N, sigma=1.0, eps=0.25, noise=NOISE, infinite="p"),
    "theory.monotone_error": case(
        theory.monotone_error, w=ONES, feature=flat, x=NOISE, y=NOISE[:, 0].sign(), eps=0.25
    ),
    "theory.n_bayes": case(theory.n_bayes, target=0.25, sigma=1.0, eps=0.25, noise=NOISE),
    "theory.n_robust": case(theory.n_robust, target=0.25, **SAMPLES, eps=0.25, noise=NOISE, infinite="p"),
    "theory.n_robust_large_d": case(theory.n_robust_large_d, target=0.25, d=16.0, sigma=1.0, eps=0.25),
    "theory.n_standard_large_d": case(theory.n_standard_large_d, target=0.25, d=16.0, sigma=1.0),
    "theory.one_sample_error": case(theory.one_sample_error, **D, tau=0.25),
    "theory.optimal_error": case(theory.optimal_error, **SAMPLES, eps=0.25, infinite="p"),
    "theory.optimal_weights": case(theory.optimal_weights, theta=ONES, eps=0.25, infinite="p"),
    "theory.posterior_mean": case(theory.posterior_mean, **N, sigma=1.0, noise=NOISE),
    "theory.predictive_sigma": case(theory.predictive_sigma, **N, sigma=1.0),
    "theory.sample_bernoulli": case(theory.sample_bernoulli, n=3, theta=ONES, tau=0.25, generator=GENERATOR),
    "theory.sample_gaussian": case(theory.sample_gaussian, n=3, **SAMPLES, generator=GENERATOR),
    "theory.self_trained_estimator": case(
        theory.self_trained_estimator, w=ONES, unlabeled=3, **SAMPLES, generator=GENERATOR
    ),
    "theory.self_training_error_large_d": case(
        theory.self_training_error_large_d, **N, unlabeled=8.0, d=16.0, sigma=1.0, eps=0.25
    ),
    "theory.soft_threshold": case(theory.soft_threshold, x=ONES, level=0.5),
    "theory.soft_threshold_learner": case(theory.soft_threshold_learner, level=0.5),
    "theory.sqrt_d_sweep": case(theory.sqrt_d_sweep, dimensions=(4,), radii=(0.25,), numbers=16, target=0.25),
    "theory.thresholded_error": case(theory.thresholded_error, w=ONES, theta=ONES, tau=0.25, eps=0.5),
    **{f"theory.{name}": statement_case(statement) for name, statement in theory.STATEMENTS.items()},
}  # fmt: skip

EXCEPTIONS = {
    "theory.Condition": "a part of the table, whose conditions are tried one by one",
    "theory.Guarantee": "a result",
    "theory.Statement": "an entry of the table, which is tried with its arguments",
    "theory.Comparison": "a result",
}
"""Public names that take numbers and are not in the table, each with its reason."""


@pytest.mark.parametrize(("case", "names"), arguments(TABLE))
def test_bad_values_are_refused_by_name(case, names):
    tried = [(name, outcome(case, name, bad)) for name in names for bad in bad_values(case, name)]
    wrong = [f"{name}: {found}" for name, found in tried if found is not None]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(("case", "names"), arguments(TABLE, "number", "count", "seed", "boolean"))
def test_numpy_scalars_are_numbers(case, names):
    assert_numpy_scalars_are_numbers(case, names, GENERATOR)


def test_the_table_is_complete():
    missing = set(public("lightning_robust_studies.schmidt2018", ["theory"])) - set(TABLE) - set(EXCEPTIONS)
    assert not missing, f"Give {sorted(missing)} a line in TABLE, or a reason in EXCEPTIONS"
