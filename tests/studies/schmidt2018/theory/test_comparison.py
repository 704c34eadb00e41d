"""No learner lies below the Bayes-optimal curve; a cheat that knows theta is caught doing so."""

import math

import pytest
import torch
from torch import Generator

from lightning_robust_studies.schmidt2018 import theory

SIGMA, EPS, D = 2.0, 0.5, 64


def one_nearest_sign(x, y):
    """A learner of a user's own: the signs of the mean."""
    return theory.mean_learner(x, y).sign()


LEARNERS = {
    "mean": theory.mean_learner,
    "posterior mean": lambda x, y: len(x) / (SIGMA**2 + len(x)) * theory.mean_learner(x, y),
    "soft threshold": theory.soft_threshold_learner(EPS),
    "hard threshold": theory.hard_threshold_learner(EPS),
    "bayes": theory.bayes_learner(SIGMA, EPS),
    "logistic": theory.logistic_learner(),
    "adversarial logistic": theory.adversarial_logistic_learner(EPS, l2=1e-2),
    "signs": one_nearest_sign,
}


@pytest.fixture(scope="module")
def curve():
    noise = torch.randn(4000, D, dtype=torch.float64, generator=Generator().manual_seed(9))
    return {n: theory.bayes_errors(n, SIGMA, EPS, noise) for n in (1, 6, 24)}


@pytest.mark.parametrize("n", [1, 6, 24])
@pytest.mark.parametrize("name", LEARNERS)
def test_no_learner_is_below_the_bayes_curve_which_is_above_theorem_11(name, n, curve):
    result = theory.compare_learner(
        LEARNERS[name], n=n, d=D, sigma=SIGMA, eps=EPS, draws=40, generator=Generator().manual_seed(n)
    )
    assert result.excess >= -3 * result.standard_error
    exact = curve[n]
    spread = math.sqrt(result.errors.var() / 40 + exact.var() / len(exact))
    assert result.mean >= exact.mean() - 3 * spread
    assert result.lower_bound == theory.error_floor(n, D, SIGMA, EPS).item()
    assert exact.mean() >= result.lower_bound - 3 * spread


def test_the_bayes_learner_is_on_the_curve_and_the_mean_estimator_above_it():
    def compare(learner):
        return theory.compare_learner(
            learner, n=6, d=D, sigma=SIGMA, eps=EPS, draws=500, generator=Generator().manual_seed(0)
        )

    on, above = compare(theory.bayes_learner(SIGMA, EPS)), compare(theory.mean_learner)
    assert abs(on.excess) < 3 * on.standard_error
    assert above.excess > 5 * above.standard_error
    assert torch.equal(on.bayes, above.bayes)  # the same samples


def test_a_learner_that_knows_theta_is_caught_below_the_curve():
    replay = Generator().manual_seed(0)

    def cheat(x, y):
        theta = torch.randn(D, dtype=torch.float64, generator=replay)
        again, _ = theory.sample_gaussian(len(x), theta, SIGMA, generator=replay)
        assert torch.equal(again, x)
        return theory.optimal_weights(theta, EPS)

    result = theory.compare_learner(
        cheat, n=2, d=D, sigma=SIGMA, eps=EPS, draws=40, generator=Generator().manual_seed(0)
    )
    assert result.excess < -3 * result.standard_error


def test_a_monotone_feature_is_attacked_exactly():
    generator = Generator().manual_seed(0)
    theta, w = torch.ones(20, dtype=torch.float64), torch.randn(20, dtype=torch.float64, generator=generator)
    x, y = theory.sample_gaussian(500, theta, 1.0, generator=generator)
    for feature in (theory.threshold, torch.tanh, lambda points: points):
        exact = theory.monotone_error(w, feature, x, y, 0.4)
        for _ in range(30):  # no perturbation of the ball does more harm
            delta = 0.4 * (2 * torch.rand(x.shape, dtype=torch.float64, generator=generator) - 1)
            scores = feature(x + delta).double() @ w
            harmed = (torch.where(scores >= 0, 1.0, -1.0) != y).double().mean()
            assert harmed <= exact
    linear = theory.gaussian_error(w, theta, 1.0, 0.4).item()
    x, y = theory.sample_gaussian(40_000, theta, 1.0, generator=generator)
    assert theory.monotone_error(w, lambda points: points, x, y, 0.4).item() == pytest.approx(linear, abs=4 * 0.5 / 200)


def test_a_threshold_does_not_help_in_the_gaussian_model():
    def compare(feature):
        return theory.compare_learner(
            theory.mean_learner,
            n=6,
            d=D,
            sigma=SIGMA,
            eps=EPS,
            draws=100,
            generator=Generator().manual_seed(0),
            feature=feature,
            test_points=500,
        )

    linear, behind_threshold = compare(lambda points: points), compare(theory.threshold)
    assert linear.excess >= -3 * linear.standard_error
    assert behind_threshold.excess > 5 * behind_threshold.standard_error
