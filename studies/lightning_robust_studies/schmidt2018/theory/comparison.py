r"""A learner's robust error beside the least that any learner can reach, prior :math:`\theta^* \sim N(0, I_d)`.

The comparison needs the prior: for one fixed theta, a learner that happens to know it may lie below the curve.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from lightning_robust._checks import count, function, instance, number
from lightning_robust_studies.schmidt2018.theory._check import signs, vector
from lightning_robust_studies.schmidt2018.theory.gaussian import gaussian_error, optimal_error, sample_gaussian
from lightning_robust_studies.schmidt2018.theory.gaussian_curves import error_floor, predictive_sigma
from lightning_robust_studies.schmidt2018.theory.learners import Learner, mean_learner

Feature = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What `compare_learner` gives; R draws of theta and samples.

    Args:
        errors: the learner's robust errors on the true theta, shape (R,).
        bayes: the least robust error that any learner can expect given the same samples, shape (R,).
        lower_bound: `error_floor`, the bound on the expected error of any learner.
    """

    errors: Tensor
    bayes: Tensor
    lower_bound: float

    @property
    def mean(self) -> float:
        """The learner's robust error, averaged over the draws."""
        return float(self.errors.mean())

    @property
    def excess(self) -> float:
        """The learner's mean error minus the Bayes-optimal one on the same samples: not negative, up to chance."""
        return float((self.errors - self.bayes).mean())

    @property
    def standard_error(self) -> float:
        """The standard error of `excess`."""
        return float((self.errors - self.bayes).std() / math.sqrt(len(self.errors)))


def monotone_error(w: Tensor, feature: Feature, x: Tensor, y: Tensor, eps: float) -> Tensor:
    r"""The share of points that an l_inf adversary makes :math:`\mathrm{sgn} \langle w, \phi(x) \rangle` get wrong.

    The feature :math:`\phi` acts on every coordinate of (N, d) and does not decrease, which cannot be checked. So the
    worst perturbation is :math:`-\epsilon\, y\, \mathrm{sgn}(w)`, whether or not :math:`\phi` has a gradient: exact for
    every point. The threshold of the Bernoulli model is one such feature; the identity gives linear classifiers.

    Args:
        w: weights, shape (d,).
        feature: x -> features.
        x: points, shape (N, d).
        y: labels +1 and -1, shape (N,).
        eps: the radius, not negative.

    Example:
        >>> from lightning_robust_studies.schmidt2018.theory import threshold
        >>> x, y, w = torch.tensor([[1.0, 1.0], [-1.0, -1.0]]), torch.tensor([1.0, -1.0]), torch.ones(2)
        >>> [monotone_error(w, threshold, x, y, eps).item() for eps in (0.9, 1.1)]
        [0.0, 1.0]
    """
    w, x, y = vector("w", w), vector("x", x), signs("y", y)
    attacked = x - number("eps", eps, 0) * y[:, None] * w.sign()
    function("feature", feature, "x -> features")
    scores = feature(attacked).to(torch.float64) @ w
    predictions = torch.where(scores >= 0, 1.0, -1.0)
    return (predictions != y).to(torch.float64).mean()


def compare_learner(
    learner: Learner,
    *,
    n: int,
    d: int,
    sigma: float,
    eps: float,
    draws: int,
    generator: Generator,
    feature: Feature | None = None,
    test_points: int = 2000,
) -> Comparison:
    r"""Train a learner on draws of (theta, n samples) and compare its l_inf-robust error with the Bayes-optimal one.

    The Bayes-optimal error belongs to the same samples, so most of the luck of a draw cancels in the difference,
    `Comparison.excess`.

    Args:
        learner: from x (n, d), y (n,) to weights (d,).
        n: the number of samples, at least 1.
        d: the dimension.
        sigma: the noise of a coordinate, positive.
        eps: the radius, not negative.
        draws: R, at least 2.
        generator: the source of randomness.
        feature: what the classifier applies to a point before the weights, as in `monotone_error`; None for a linear
            classifier, whose error is then exact, not measured.
        test_points: how many points measure the error where there is a feature.

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> result = compare_learner(mean_learner, n=4, d=64, sigma=2.0, eps=0.5, draws=100, generator=g)
        >>> result.lower_bound < result.bayes.mean() < result.mean
        tensor(True)

    Source: Schmidt et al. 2018, Theorem 11, p. 28; see `bayes_errors`.
    """
    n, d, draws, test_points = count("n", n), count("d", d), count("draws", draws, 2), count("test_points", test_points)
    sigma, eps = number("sigma", sigma, 0, above=True), number("eps", eps, 0)
    function("learner", learner, "(x, y) -> w")
    if feature is not None:
        function("feature", feature, "x -> features")
    instance("generator", generator, Generator, "a torch.Generator")
    errors, bayes = [], []
    for _ in range(draws):
        theta = torch.randn(d, dtype=torch.float64, generator=generator, device=generator.device)
        x, y = sample_gaussian(n, theta, sigma, generator=generator)
        w = learner(x, y)
        if feature is None:
            errors.append(gaussian_error(w, theta, sigma, eps))
        else:
            points = sample_gaussian(test_points, theta, sigma, generator=generator)
            errors.append(monotone_error(w, feature, *points, eps))
        posterior = n / (sigma**2 + n) * mean_learner(x, y)
        bayes.append(optimal_error(posterior, predictive_sigma(n, sigma), eps))
    floor = float(error_floor(n, d, sigma, eps))
    return Comparison(errors=torch.stack(errors), bayes=torch.stack(bayes), lower_bound=floor)
