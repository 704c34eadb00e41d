"""Self-training: its exact draw against real pseudo-labelled samples, its large-d law, the statements of the paper."""

import pytest
import torch
from torch import Generator

from lightning_robust_studies.schmidt2018 import theory
from tests.studies.schmidt2018.theory.helpers import normals


@pytest.mark.parametrize("unlabeled", [1, 7, 40])
def test_the_draw_without_points_is_distributed_like_self_training_on_points(unlabeled):
    d, sigma, draws = 24, 2.5, 3000
    theta, first = normals(d, seed=1), normals(d, seed=1) + normals(d, seed=2)
    exact = theory.self_trained_estimator(
        first.expand(draws, d), unlabeled, theta, sigma, generator=Generator().manual_seed(3)
    )
    x, _ = theory.sample_gaussian(draws * unlabeled, theta, sigma, generator=Generator().manual_seed(4))
    labels = torch.where(x @ first >= 0, 1.0, -1.0)
    real = (labels[:, None] * x).reshape(draws, unlabeled, d).mean(1)

    u = first / first.norm()
    v = theta - (theta @ u) * u
    statistics = {
        "along the first classifier": lambda w: w @ u,
        "along the rest of theta": lambda w: w @ v,
        "both": lambda w: (w @ u) * (w @ v),
        "length": lambda w: w.norm(dim=-1),
        "l1 norm": lambda w: w.abs().sum(-1),
        "robust error": lambda w: theory.gaussian_error(w, theta, sigma, 0.1),
    }
    for name, statistic in statistics.items():
        a, b = statistic(exact), statistic(real)
        assert abs(a.mean() - b.mean()) < 4 * ((a.var() + b.var()) / draws).sqrt(), name
        assert a.std().item() == pytest.approx(b.std().item(), rel=0.1), name


def test_the_large_d_law_meets_the_draws():
    d, sigma = 2**13, 10.0
    theta = torch.ones(d, dtype=torch.float64)
    first = theory.mean_estimator(2.0, theta, sigma, normals(24, d))
    for unlabeled in (5, 50, 500):
        second = theory.self_trained_estimator(first, unlabeled, theta, sigma, generator=Generator().manual_seed(1))
        for eps in (0.0, 0.4):
            drawn = theory.gaussian_error(second, theta, sigma, eps)
            law = theory.self_training_error_large_d(2.0, unlabeled, d, sigma, eps).item()
            assert abs(drawn.mean().item() - law) < 4 * drawn.std().item() / 24**0.5 + 0.05 * law


def test_unlabeled_points_count_like_labels_once_the_first_classifier_hardly_errs():
    assert theory.effective_samples(1.0, 300.0, 2.0**30, 10.0).item() == pytest.approx(300, rel=1e-6)
    assert (
        theory.effective_samples(2.0, 1e9, 2**12, 30.0) < 100
    )  # a poor first classifier: its own errors are the limit
    n = theory.effective_samples(3.0, 50.0, 4096.0, 9.0)
    assert theory.self_training_error_large_d(3.0, 50.0, 4096, 9.0, 0.3) == theory.mean_error_large_d(n, 4096, 9.0, 0.3)


def test_n0_labels_suffice_for_a_standard_error_of_a_third_and_unlabeled_points_for_robustness():
    d, n0, eps = 2**16, 1.0, 0.25
    theta, sigma, at = torch.ones(d, dtype=torch.float64), theory.carmon_sigma(d, n0), {"d": d, "n0": n0, "eps": eps}
    noise = normals(6, d)
    assert theory.mean_errors(n0, theta, sigma, 0.0, noise).mean() <= 1 / 3
    assert theory.mean_errors(n0, theta, sigma, eps, noise).mean() > 0.5  # labels alone, standard but not robust
    assert (
        theory.mean_errors(theory.STATEMENTS["Carmon et al., Proposition 1"](**at), theta, sigma, eps, noise).mean()
        <= 1e-3
    )
    first = theory.mean_estimator(n0, theta, sigma, noise)
    count = round(theory.STATEMENTS["Carmon et al., Theorem 2"](**at))
    second = theory.self_trained_estimator(first, count, theta, sigma, generator=Generator().manual_seed(1))
    assert theory.gaussian_error(second, theta, sigma, eps).mean() <= 1e-3
