"""Learners: optimality conditions, and adversarial training written out as gradient steps on attacked samples."""

import math

import pytest
import torch
from torch import Generator

from lightning_robust_studies.schmidt2018 import theory

LEARNERS = [
    theory.mean_learner,
    theory.logistic_learner(),
    theory.adversarial_logistic_learner(0.3),
    theory.soft_threshold_learner(0.2),
    theory.hard_threshold_learner(0.2),
    theory.bayes_learner(1.0, 0.3),
]


@pytest.fixture
def samples():
    theta = torch.linspace(-1, 2, 12, dtype=torch.float64)
    return theory.sample_gaussian(30, theta, 1.5, generator=Generator().manual_seed(0))


@pytest.mark.parametrize("learner", LEARNERS)
def test_a_learner_is_odd_in_the_labels_and_blind_to_the_order_of_samples(learner, samples):
    x, y = samples
    w = learner(x, y)
    assert w.shape == (12,)
    assert w.dtype == torch.float64
    assert torch.allclose(learner(x, -y), -w, atol=1e-6)
    assert torch.allclose(learner(x.flip(0), y.flip(0)), w, atol=1e-6)


@pytest.mark.parametrize("learner", LEARNERS)
def test_samples_of_the_wrong_form_are_refused(learner, samples):
    x, y = samples
    with pytest.raises(ValueError, match="`y`"):
        learner(x, (y + 1) / 2)
    with pytest.raises(ValueError, match="`y`"):
        learner(x, y[1:])
    with pytest.raises(ValueError, match="`x`"):
        learner(x[0], y)


def test_thresholds_move_or_drop_coordinates():
    x, y = torch.tensor([[3.0, -0.5, -2.0]]), torch.ones(1)
    assert theory.soft_threshold_learner(1.0)(x, y).tolist() == [2, 0, -1]
    assert theory.hard_threshold_learner(1.0)(x, y).tolist() == [3, 0, -2]
    assert theory.bayes_learner(1.0, 0.5)(x, y).tolist() == [1, 0, -0.5]


@pytest.mark.parametrize("eps", [0.0, 0.2, 0.6])
def test_the_trained_weights_satisfy_the_optimality_conditions(eps, samples):
    x, y = samples
    l2 = 0.05
    w = theory.adversarial_logistic_learner(eps, l2=l2)(x, y)
    pull = torch.sigmoid(-(y * (x @ w) - eps * w.abs().sum())) / len(y)
    gradient = l2 * w - (pull * y) @ x  # of the smooth part; the l_1 norm adds eps * pull.sum() times a subgradient
    room = eps * pull.sum()
    moving = w != 0
    assert torch.allclose(gradient[moving], -room * w[moving].sign(), atol=1e-6)
    assert (gradient[~moving].abs() <= room + 1e-6).all()
    assert bool((~moving).any()) == (eps > 0)


def test_adversarial_training_by_attacked_samples_ends_at_the_same_loss(samples):
    x, y = samples
    eps, l2 = 0.2, 0.05
    w = torch.zeros(12, dtype=torch.float64)
    best = math.inf
    for step in range(4000):
        attacked = x - eps * y[:, None] * w.sign()
        pull = torch.sigmoid(-y * (attacked @ w)) / len(y)
        w = w + 2.0 / (1 + 0.05 * step) * ((pull * y) @ attacked - l2 * w)
        best = min(best, theory.adversarial_logistic_loss(w, x, y, eps, l2).item())
    trained = theory.adversarial_logistic_learner(eps, l2=l2)(x, y)
    optimum = theory.adversarial_logistic_loss(trained, x, y, eps, l2).item()
    assert optimum <= best <= optimum + 1e-3


def test_the_exact_inner_maximum_is_the_loss_of_attacked_samples(samples):
    x, y = samples
    w = torch.linspace(-1, 1, 12, dtype=torch.float64)
    attacked = x - 0.3 * y[:, None] * w.sign()
    expected = torch.nn.functional.softplus(-y * (attacked @ w)).mean() + 0.5 * 0.1 * (w @ w)
    assert theory.adversarial_logistic_loss(w, x, y, 0.3, 0.1).item() == pytest.approx(expected.item(), rel=1e-12)


def test_logistic_regression_is_that_of_sklearn(samples):
    linear_model = pytest.importorskip("sklearn.linear_model")
    x, y = samples
    reference = linear_model.LogisticRegression(C=1 / (0.05 * len(y)), fit_intercept=False, tol=1e-10, max_iter=10_000)
    reference.fit(x.numpy(), y.numpy())
    w = theory.logistic_learner(l2=0.05)(x, y)
    assert torch.allclose(w, torch.from_numpy(reference.coef_[0]), atol=1e-5)
