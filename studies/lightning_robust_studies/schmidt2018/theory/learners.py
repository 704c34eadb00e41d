r"""Learners of linear classifiers: maps from samples x (n, d), y (n,) to weights w (d,).

A learner is a function, so your own joins by being passed to `compare_learner`. Those with settings are made by a
function that returns one.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lightning_robust._checks import number
from lightning_robust_studies.schmidt2018.theory._check import require, signs, vector
from lightning_robust_studies.schmidt2018.theory.gaussian import soft_threshold

Learner = Callable[[Tensor, Tensor], Tensor]


def _samples(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    x, y = vector("x", x), signs("y", y)
    require(x.ndim == 2 and len(x) > 0, "x", "of shape (n, d) with n >= 1", f"shape {tuple(x.shape)}")
    require(y.shape == x.shape[:1], "y", f"of shape ({len(x)},)", f"shape {tuple(y.shape)}")
    return x, y


def mean_learner(x: Tensor, y: Tensor) -> Tensor:
    r"""The mean estimator :math:`\bar z = \frac1n \sum_i y_i x_i`.

    Example:
        >>> mean_learner(torch.tensor([[1.0, 2.0], [-3.0, 0.0]]), torch.tensor([1, -1]))
        tensor([2., 1.], dtype=torch.float64)

    Source: Schmidt et al. 2018, Theorems 4 and 5.
    """
    x, y = _samples(x, y)
    return (y[:, None] * x).mean(0)


def soft_threshold_learner(level: float) -> Learner:
    r"""Make the learner :math:`\mathrm{soft}_t(\bar z)`, t = `level` >= 0: every coordinate moves towards zero by t.

    Example:
        >>> soft_threshold_learner(1.5)(torch.tensor([[1.0, 2.0], [-3.0, 0.0]]), torch.tensor([1, -1]))
        tensor([0.5000, 0.0000], dtype=torch.float64)
    """
    level = number("level", level, 0)
    return lambda x, y: soft_threshold(mean_learner(x, y), level)


def hard_threshold_learner(level: float) -> Learner:
    r"""Make the learner that keeps the coordinates of the mean above `level` >= 0 in size, and drops the others.

    Example:
        >>> hard_threshold_learner(1.5)(torch.tensor([[1.0, 2.0], [-3.0, 0.0]]), torch.tensor([1, -1]))
        tensor([2., 0.], dtype=torch.float64)
    """
    level = number("level", level, 0)

    def learn(x: Tensor, y: Tensor) -> Tensor:
        mean = mean_learner(x, y)
        return torch.where(mean.abs() > level, mean, 0.0)

    return learn


def bayes_learner(sigma: float, eps: float) -> Learner:
    r"""Make the learner that no learner beats at noise sigma > 0 and radius eps >= 0, under the prior N(0, I).

    .. math:: \mathrm{soft}_\epsilon(\mu'), \qquad \mu' = \frac{n}{\sigma^2 + n} \bar z

    Its expected l_inf-robust error is the Bayes-optimal curve, `bayes_errors`.

    Example:
        >>> bayes_learner(1.0, 0.5)(torch.tensor([[2.0, -4.0]]), torch.tensor([1]))
        tensor([ 0.5000, -1.5000], dtype=torch.float64)

    Source: the posterior in the proof of Theorem 11, Schmidt et al. 2018, p. 28.
    """
    sigma, eps = number("sigma", sigma, 0, above=True), number("eps", eps, 0)
    return lambda x, y: soft_threshold(len(x) / (sigma**2 + len(x)) * mean_learner(x, y), eps)


def adversarial_logistic_loss(w: Tensor, x: Tensor, y: Tensor, eps: float, l2: float) -> Tensor:
    r"""The loss of weights (d,) that `adversarial_logistic_learner` minimizes; eps and l2 are not negative.

    .. math:: \frac1n \sum_i \max_{\|\delta_i\|_\infty \le \epsilon}
              \log\big(1 + e^{-y_i \langle w, x_i + \delta_i \rangle}\big) + \frac\lambda2 \|w\|_2^2
              = \frac1n \sum_i \log\big(1 + e^{-(y_i \langle w, x_i \rangle - \epsilon \|w\|_1)}\big)
              + \frac\lambda2 \|w\|_2^2

    Example:
        >>> adversarial_logistic_loss(torch.zeros(2), torch.ones(3, 2), torch.ones(3), 0.1, 1.0).item()
        0.6931...

    Source: Madry et al. 2018 (the objective); Schmidt et al. 2018, p. 10 (the inner maximum).
    """
    x, y = _samples(x, y)
    w, eps, l2 = vector("w", w), number("eps", eps, 0), number("l2", l2, 0)
    margins = y * (x @ w) - eps * w.abs().sum()
    return torch.nn.functional.softplus(-margins).mean() + 0.5 * l2 * w.square().sum()


def adversarial_logistic_learner(eps: float, *, l2: float = 1e-2) -> Learner:
    r"""Make the learner that trains a linear classifier adversarially, to the minimum of `adversarial_logistic_loss`.

    The loss is convex but has kinks. With w = u - v, u, v >= 0 and :math:`\|w\|_1` replaced by :math:`\sum (u + v)` it
    is smooth and has the same minimizer, which L-BFGS-B finds; coordinates that adversarial training drops come out as
    exact zeros.

    Args:
        eps: the radius of the l_inf attack, not negative; 0 is plain logistic regression.
        l2: the weight of the penalty, positive: without it separable samples (any n < d) have no minimizer.

    Example:
        >>> w = adversarial_logistic_learner(0.5)(torch.tensor([[2.0, 0.3], [-1.0, -0.1]]), torch.tensor([1, -1]))
        >>> bool(w[0] > 0), w[1].item()
        (True, 0.0)

    Source: Madry et al. 2018; Schmidt et al. 2018, p. 10.
    """
    radius, l2 = number("eps", eps, 0), number("l2", l2, 0, above=True)

    def learn(x: Tensor, y: Tensor) -> Tensor:
        import numpy as np
        from scipy.optimize import minimize

        x, y = _samples(x, y)
        n, d = x.shape
        signed = (y[:, None] * x).numpy(force=True)

        def objective(parts: Any) -> tuple[float, Any]:
            w = parts[:d] - parts[d:]
            margins = signed @ w - radius * parts.sum()
            pull = np.exp(-np.logaddexp(0.0, margins)) / n
            gradient, room = l2 * w - pull @ signed, radius * pull.sum()
            value = np.logaddexp(0.0, -margins).mean() + 0.5 * l2 * (w @ w)
            return value, np.concatenate([gradient + room, room - gradient])

        options = {"maxiter": 10_000, "maxfun": 20_000, "ftol": 1e-15, "gtol": 1e-9}
        bounds = [(0, math.inf)] * (2 * d)
        best = minimize(objective, [0.0] * (2 * d), jac=True, method="L-BFGS-B", bounds=bounds, options=options)
        return torch.from_numpy(best.x[:d] - best.x[d:]).to(x.device)

    return learn


def logistic_learner(*, l2: float = 1e-2) -> Learner:
    r"""Make the learner of logistic regression with the penalty `l2` > 0: adversarial training at eps = 0.

    Example:
        >>> w = logistic_learner()(torch.tensor([[2.0, 0.3], [-1.0, -0.1]]), torch.tensor([1, -1]))
        >>> bool((w > 0).all())
        True
    """
    return adversarial_logistic_learner(0.0, l2=l2)
