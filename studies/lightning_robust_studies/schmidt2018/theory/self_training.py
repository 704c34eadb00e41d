r"""Self-training in the Gaussian model: unlabelled data close the gap that labels alone leave (Carmon et al. 2019).

A first classifier w, learnt from a few labels, labels :math:`\tilde n` further points itself,
:math:`\tilde y_i = \mathrm{sgn} \langle w, \tilde x_i \rangle`; the second classifier is the mean
:math:`\frac{1}{\tilde n} \sum_i \tilde y_i \tilde x_i`. Standard accuracy is enough to label well, and unlabelled
points do the rest.

In the direction u of w a point is one normal number, which alone decides its pseudo-label; across it, noise that knows
nothing of the label. So the second classifier is drawn exactly from :math:`\tilde n + d` normals; the
:math:`\tilde n \times d` points are never made.

Letters: d dimensions, R draws. All results are float64.
"""

import math

import torch
from torch import Generator, Tensor

from lightning_robust._checks import count, number
from lightning_robust_studies.schmidt2018.theory._check import (
    Real,
    open_interval,
    positive,
    require,
    same_size,
    source,
    vector,
)
from lightning_robust_studies.schmidt2018.theory._normal import normal_cdf
from lightning_robust_studies.schmidt2018.theory.gaussian_curves import mean_error_large_d


def self_trained_estimator(w: Tensor, unlabelled: int, theta: Tensor, sigma: Real, *, generator: Generator) -> Tensor:
    r"""The mean of unlabelled points times their pseudo-labels, without the points.

    With :math:`u = w / \|w\|`, :math:`a = \langle u, \theta^* \rangle` and normal numbers :math:`g_i`,

    .. math:: \frac{1}{\tilde n} \sum_i \tilde y_i \tilde x_i
              = u\, \overline{|a + \sigma g_i|} + (\theta^* - a u)\, \overline{\mathrm{sgn}(a + \sigma g_i)}
              + \frac{\sigma}{\sqrt{\tilde n}}\, (I - u u^T)\, g

    in distribution, exactly.

    Args:
        w: the first classifier's weights, one row for each draw, shape (..., d), not zero; any learner may have made
            them.
        unlabelled: the number of unlabelled points, at least 1.
        theta: the mean of the class +1, shape (d,).
        sigma: the noise of a coordinate, positive.
        generator: the source of randomness.

    Returns:
        The second classifier's weights, shape (..., d).

    Example:
        >>> from lightning_robust_studies.schmidt2018.theory import gaussian_error, mean_estimator
        >>> g, theta, sigma = torch.Generator().manual_seed(0), torch.ones(4096, dtype=torch.float64), 8.0
        >>> first = mean_estimator(1, theta, sigma, torch.randn(16, 4096, dtype=torch.float64, generator=g))
        >>> second = self_trained_estimator(first, 1000, theta, sigma, generator=g)
        >>> for w in (first, second):
        ...     print(f"{gaussian_error(w, theta, sigma, 0.5).mean():.4f}")
        0.9858
        0.0001

    Source: Carmon et al. 2019, Section 3.2 (the estimator); its distribution is derived here.
    """
    w, theta = vector("w", w), vector("theta", theta)
    same_size("w", w, theta)
    unlabelled = count("unlabelled", unlabelled)
    spread, generator = positive("sigma", sigma), source(generator)
    norm = torch.linalg.vector_norm(w, dim=-1, keepdim=True)
    require(norm > 0, "w", "not zero", "a row of zeros")
    u = w / norm
    a = u @ theta
    along = torch.randn(*a.shape, unlabelled, dtype=torch.float64, generator=generator, device=generator.device)
    along = a[..., None] + spread * along
    across = torch.randn(w.shape, dtype=torch.float64, generator=generator, device=generator.device)
    across = across - (across * u).sum(-1, keepdim=True) * u
    labels = torch.where(along >= 0, 1.0, -1.0).to(torch.float64).mean(-1, keepdim=True)
    size = along.abs().mean(-1, keepdim=True)
    return size * u + labels * (theta - a[..., None] * u) + spread / math.sqrt(unlabelled) * across


def effective_samples(n: Real, unlabelled: Real, d: Real, sigma: Real) -> Tensor:
    r"""How many labels a self-trained mean estimator is worth, for large d and a flat theta.

    With :math:`s_0 = \sigma / \sqrt n`, :math:`a = \sqrt{d / (1 + s_0^2)}`, :math:`\rho = 2 \Phi(a / \sigma) - 1` and
    :math:`k = 2 \varphi(a / \sigma)\, \sigma / \sqrt{d (1 + s_0^2)}`, a coordinate of the second classifier is
    :math:`(\rho + k)\, \theta^*_i` plus noise of variance :math:`k^2 s_0^2 + \sigma^2 / \tilde n`. That is a mean
    estimator with

    .. math:: n_\mathrm{eff} = \frac{\sigma^2 (\rho + k)^2}{k^2 s_0^2 + \sigma^2 / \tilde n}

    which tends to the number of unlabelled points when the first classifier hardly errs.

    Args:
        n: the number of labels, positive.
        unlabelled: the number of unlabelled points, positive.
        d: the dimension, positive.
        sigma: the noise of a coordinate, positive.

    Returns:
        The effective number of labels, in the common shape of the arguments.

    Example:
        >>> round(effective_samples(1, 1000, 4096, 8.0).item()), round(effective_samples(1, 1000, 2**16, 8.0).item())
        (446, 1000)
    """
    n, d, spread = positive("n", n), positive("d", d), positive("sigma", sigma)
    first = spread.square() / n
    stretch = (d * (1 + first)).sqrt()
    ratio = (d / (1 + first)).sqrt() / spread
    agreement = 1 - 2 * normal_cdf(-ratio)
    kink = 2 * spread * torch.exp(-0.5 * ratio.square()) / math.sqrt(2 * math.pi) / stretch
    noise = kink.square() * first + spread.square() / positive("unlabelled", unlabelled)
    return spread.square() * (agreement + kink).square() / noise


def self_training_error_large_d(n: Real, unlabelled: Real, d: Real, sigma: Real, eps: Real) -> Tensor:
    r"""The l_inf-robust error of self-training as d grows, flat theta: `mean_error_large_d` at `effective_samples`.

    Args:
        n: the number of labels, positive.
        unlabelled: the number of unlabelled points, positive.
        d: the dimension, positive.
        sigma: the noise of a coordinate, positive.
        eps: the radius, not negative; 0 for the standard error.

    Returns:
        The error, in the common shape of the arguments.

    Example:
        >>> [round(self_training_error_large_d(1, m, 4096, 8.0, 0.5).item(), 4) for m in (1, 10, 1000)]
        [0.9939, 0.864, 0.0001]
    """
    return mean_error_large_d(effective_samples(n, unlabelled, d, sigma), d, sigma, eps)


# ---- the statements of Carmon et al. 2019


def carmon_sigma(d: int, n0: float) -> float:
    r"""The noise of Carmon et al., :math:`\sigma = (d\, n_0)^{1/4}`: about n0 labels give a standard error below 1/3.

    Example:
        >>> carmon_sigma(4096, 1.0)
        8.0

    Source: Carmon et al. 2019, Section 3.1.
    """
    d = count("d", d)
    n0 = number("n0", n0, 0, above=True)
    return (d * n0) ** 0.25


def _carmon_factor(d: int, n0: float, eps: float) -> float:
    d = count("d", d)
    n0 = number("n0", n0, 0, above=True)
    eps = open_interval("eps", eps, 0.5)
    return n0 * eps**2 * math.sqrt(d / n0)


def carmon_labels(d: int, n0: float, eps: float) -> float:
    r"""Labels that suffice for a robust error of :math:`10^{-3}` without unlabelled data.

    .. math:: n_0 \cdot 4 \epsilon^2 \sqrt{d / n_0}

    The statement holds where :math:`\epsilon^2 \sqrt{d / n_0}` exceeds a universal constant that the paper does not
    give.

    Args:
        d: the dimension.
        n0: the scale of the problem, positive.
        eps: the l_inf radius, strictly between 0 and 1/2.

    Example:
        >>> carmon_labels(2**16, 1.0, 0.25)
        64.0

    Source: Carmon et al. 2019, Proposition 1.
    """
    return 4 * _carmon_factor(d, n0, eps)


def carmon_unlabelled(d: int, n0: float, eps: float) -> float:
    r"""Unlabelled points that suffice for a robust error of :math:`10^{-3}` beside n0 labels.

    .. math:: n_0 \cdot 288 \epsilon^2 \sqrt{d / n_0}

    The statement holds where :math:`\epsilon^2 \sqrt{d / n_0}` exceeds a universal constant that the paper does not
    give.

    Args:
        d: the dimension.
        n0: the number of labels and the scale of the problem, positive.
        eps: the l_inf radius, strictly between 0 and 1/2.

    Example:
        >>> carmon_unlabelled(2**16, 1.0, 0.25)
        4608.0

    Source: Carmon et al. 2019, Theorem 2.
    """
    return 288 * _carmon_factor(d, n0, eps)


def carmon_labels_lower(d: int, n0: float, eps: float) -> float:
    r"""Labels up to which no learner without unlabelled data has a robust error below (1 - 1/d) / 2.

    .. math:: n_0\, \epsilon^2 \sqrt{d / n_0} / (8 \log d)

    Corollary 23 of Schmidt et al. at :math:`\sigma^2 = \sqrt{d\, n_0}`, so the expectation is over the prior N(0, I) as
    well.

    Args:
        d: the dimension, at least 2.
        n0: the scale of the problem, positive.
        eps: the l_inf radius, not negative.

    Example:
        >>> round(carmon_labels_lower(2**16, 1.0, 0.25), 4)
        0.1803

    Source: Carmon et al. 2019, Theorem 1.
    """
    d = count("d", d, 2)
    n0 = number("n0", n0, 0, above=True)
    eps = number("eps", eps, 0)
    return n0 * eps**2 * math.sqrt(d / n0) / (8 * math.log(d))
