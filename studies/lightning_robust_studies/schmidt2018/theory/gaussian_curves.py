r"""What learners reach with n samples of the Gaussian model, without drawing a test point or a sample.

The samples of a class fold into :math:`y_i x_i \sim N(\theta^*, \sigma^2 I)`, so the mean of n of them is one draw of d
normals, for any real n. Under the prior :math:`\theta^* \sim N(0, I)` the posterior is normal too, so the best learner
there is has an exact curve. The model and the errors of given classifiers are in `gaussian`.

Letters: d dimensions, R draws. All results are float64.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from lightning_robust_studies.schmidt2018.theory._check import (
    Real,
    non_negative,
    norm_order,
    positive,
    real,
    same_size,
    vector,
)
from lightning_robust_studies.schmidt2018.theory._normal import normal_cdf
from lightning_robust_studies.schmidt2018.theory.gaussian import dual_norm_of, gaussian_error, optimal_error


def mean_estimator(n: Real, theta: Tensor, sigma: Real, noise: Tensor) -> Tensor:
    r"""The mean of n samples, :math:`\bar z = \frac1n \sum_i y_i x_i`, without the samples.

    :math:`\bar z \sim N(\theta^*, \frac{\sigma^2}{n} I)` exactly, so
    :math:`\bar z = \theta^* + \frac{\sigma}{\sqrt n} g` for any real n > 0. The same `noise` at every n gives curves
    without jitter between their points.

    Args:
        n: the number of samples, positive, need not be whole; broadcasts against (...).
        theta: shape (d,).
        sigma: the noise of a coordinate, positive.
        noise: standard normals g, shape (..., d).

    Returns:
        Shape (..., d).

    Example:
        >>> mean_estimator(4, torch.ones(2), 1.0, torch.tensor([[0.0, 2.0]]))
        tensor([[1., 2.]], dtype=torch.float64)

    Source: Schmidt et al. 2018, Theorems 4 and 5 (the estimator).
    """
    theta, noise = vector("theta", theta), vector("noise", noise)
    same_size("noise", noise, theta)
    step = positive("sigma", sigma) / positive("n", n).sqrt()
    return theta + step[..., None] * noise


def _over(n: Real, errors_at: Callable[[Tensor], Tensor]) -> Tensor:
    """Stack `errors_at(k)`, shape (R,), over every k in n, one after the other: memory stays at R x d."""
    sizes = real("n", n)
    return torch.stack([errors_at(k) for k in sizes.flatten()]).reshape(*sizes.shape, -1)


def mean_errors(n: Real, theta: Tensor, sigma: Real, eps: Real, noise: Tensor, *, p: float = math.inf) -> Tensor:
    r"""Robust errors of the mean estimator learnt from n samples, one for each draw of the samples.

    Args:
        n: the numbers of samples, positive, any shape (...).
        theta: shape (d,).
        sigma: the noise of a coordinate, positive.
        eps: the radius, not negative; 0 for the standard error.
        noise: standard normals, shape (R, d).
        p: the order of the norm of the perturbation.

    Returns:
        Shape (..., R); the curve is the mean over the last axis.

    Example:
        >>> noise = torch.randn(8, 256, generator=torch.Generator().manual_seed(0))
        >>> curve = mean_errors(torch.tensor([1.0, 10.0]), torch.ones(256), 2.0, 0.5, noise).mean(-1)
        >>> [round(e, 4) for e in curve.tolist()]
        [0.3516, 0.0005]

    Source: Schmidt et al. 2018, Section 2; the closed form of `gaussian_error` at the weights of `mean_estimator`.
    """
    return _over(n, lambda k: gaussian_error(mean_estimator(k, theta, sigma, noise), theta, sigma, eps, p=p))


def mean_error_curve(
    theta: Tensor, sigma: Real, eps: Real, noise: Tensor, *, p: float = math.inf
) -> Callable[[Real], Tensor]:
    r"""The curve n -> `mean_errors(n, ...)`, prepared once: for the many values of n that a search visits.

    Along the ray :math:`w = \theta^* + s g` the inner product and the l_2 norm are polynomials in s,

    .. math:: \langle w, \theta^* \rangle = \|\theta^*\|^2 + s \langle g, \theta^* \rangle, \qquad
              \|w\|_2^2 = \|\theta^*\|^2 + 2 s \langle g, \theta^* \rangle + s^2 \|g\|_2^2

    so each n costs one dual norm, and none at eps = 0.

    Args:
        theta: shape (d,).
        sigma: the noise of a coordinate, positive, one number.
        eps: the radius, not negative, one number.
        noise: standard normals, shape (R, d).
        p: the order of the norm of the perturbation.

    Returns:
        A function of one positive number n that returns the errors of the R draws, shape (R,).

    Example:
        >>> noise = torch.randn(8, 256, generator=torch.Generator().manual_seed(0))
        >>> curve = mean_error_curve(torch.ones(256), 2.0, 0.5, noise)
        >>> torch.allclose(curve(10.0), mean_errors(10.0, torch.ones(256), 2.0, 0.5, noise))
        True
    """
    theta, noise = vector("theta", theta), vector("noise", noise)
    same_size("noise", noise, theta)
    p = norm_order(p)
    spread, radius = float(positive("sigma", sigma)), float(non_negative("eps", eps))
    size, along, power = theta @ theta, noise @ theta, noise.square().sum(-1)

    def errors(n: Real) -> Tensor:
        s = spread / math.sqrt(float(positive("n", n)))
        taken = radius * dual_norm_of(torch.add(theta, noise, alpha=s), p) if radius > 0 else 0.0
        scale = spread * (size + 2 * s * along + s**2 * power).clamp_min(0).sqrt()
        return torch.where(scale > 0, normal_cdf(-(size + s * along - taken) / scale), 0.5)

    return errors


def folded_mean(s: Real) -> Tensor:
    r"""The mean size of a noisy unit coordinate.

    .. math:: m_1(s) = E|1 + s g| = s \sqrt{2/\pi}\, e^{-1/(2 s^2)} + \mathrm{erf}(1/(s \sqrt 2))

    It is 1 at s = 0 and grows like :math:`s \sqrt{2/\pi}`.

    Example:
        >>> folded_mean(0.0).item(), round(folded_mean(10.0).item(), 3)
        (1.0, 8.019)
    """
    s = non_negative("s", s)
    return s * math.sqrt(2 / math.pi) * torch.exp(-0.5 / s.square()) + torch.erf(1 / (s * math.sqrt(2)))


def mean_error_large_d(n: Real, d: Real, sigma: Real, eps: Real) -> Tensor:
    r"""The l_inf-robust error of the mean estimator as d grows, for a flat theta (every :math:`|\theta^*_i| = 1`).

    .. math:: \Phi\Big(-\frac{\sqrt d\, (1 - \epsilon\, m_1(s))}{\sigma \sqrt{1 + s^2}}\Big),
              \qquad s = \sigma / \sqrt n

    The weights' inner product with theta and their two norms are replaced by their means, which d averages out. eps = 0
    gives the standard error.

    Args:
        n: the number of samples, positive.
        d: the dimension, positive.
        sigma: the noise of a coordinate, positive.
        eps: the radius, not negative.

    Returns:
        The error, in the common shape of the arguments.

    Example:
        >>> round(mean_error_large_d(1.0, 256, 2.0, 0.5).item(), 4)
        0.3544
    """
    n, d, spread = positive("n", n), positive("d", d), positive("sigma", sigma)
    s = spread / n.sqrt()
    margin = d.sqrt() * (1 - non_negative("eps", eps) * folded_mean(s)) / (spread * (1 + s.square()).sqrt())
    return normal_cdf(-margin)


def posterior_mean(n: Real, sigma: Real, noise: Tensor) -> Tensor:
    r"""The posterior mean :math:`\mu'` under the prior :math:`\theta^* \sim N(0, I)`, drawn from its own distribution.

    :math:`\mu' = \frac{1}{\sigma^2 + n} \sum_i y_i x_i \sim N(0, \frac{n}{\sigma^2 + n} I)`, over theta and samples
    together.

    Args:
        n: the number of samples, not negative, need not be whole; broadcasts against (...).
        sigma: the noise of a coordinate, positive.
        noise: standard normals v, shape (..., d).

    Returns:
        Shape (..., d).

    Example:
        >>> posterior_mean(1.0, 1.0, torch.tensor([[2.0, 0.0]]))
        tensor([[1.4142, 0.0000]], dtype=torch.float64)

    Source: Schmidt et al. 2018, proof of Theorem 11, p. 28.
    """
    n, noise = non_negative("n", n), vector("noise", noise)
    return (n / (positive("sigma", sigma).square() + n)).sqrt()[..., None] * noise


def predictive_sigma(n: Real, sigma: Real) -> Tensor:
    r"""The noise of a test point around :math:`y \mu'`, once n samples are known.

    .. math:: \sqrt{\sigma^2 + \sigma^2 / (\sigma^2 + n)}

    Given the samples, the test point follows a Gaussian model with mean :math:`\mu'` and this noise, under the prior
    N(0, I).

    Example:
        >>> predictive_sigma(0.0, 1.0).item()
        1.41421...

    Source: Schmidt et al. 2018, proof of Theorem 11, p. 28.
    """
    variance = positive("sigma", sigma).square()
    return (variance + variance / (variance + non_negative("n", n))).sqrt()


def mean_prior_errors(n: Real, sigma: Real, eps: Real, noise: Tensor, *, p: float = math.inf) -> Tensor:
    r"""Robust errors of the mean estimator under the prior N(0, I), one for each draw of :math:`\mu'`.

    The mean estimator points along :math:`\mu'`, so the error is `gaussian_error` at w = theta = :math:`\mu'` with
    `predictive_sigma`.

    Args:
        n: the numbers of samples, positive, any shape (...).
        sigma: the noise of a coordinate, positive.
        eps: the radius, not negative.
        noise: standard normals, shape (R, d).
        p: the order of the norm of the perturbation.

    Returns:
        Shape (..., R).

    Example:
        >>> noise = torch.randn(8, 256, generator=torch.Generator().manual_seed(0))
        >>> bool((mean_prior_errors(5.0, 2.0, 0.5, noise) >= bayes_errors(5.0, 2.0, 0.5, noise)).all())
        True
    """
    positive("n", n)

    def at(k: Tensor) -> Tensor:
        mu = posterior_mean(k, sigma, noise)
        return gaussian_error(mu, mu, predictive_sigma(k, sigma), eps, p=p)

    return _over(n, at)


def bayes_errors(n: Real, sigma: Real, eps: Real, noise: Tensor, *, p: float = math.inf) -> Tensor:
    r"""The least robust error of any learner from n samples under the prior N(0, I), for each draw of :math:`\mu'`.

    .. math:: E^*(n) = E_{v \sim N(0, I_d)}\,
              \Phi\Big(-\frac{\|\mathrm{soft}_\epsilon(\sqrt{n / (\sigma^2 + n)}\, v)\|_2}
              {\sqrt{\sigma^2 + \sigma^2 / (\sigma^2 + n)}}\Big)

    Reached by :math:`\mathrm{sgn} \langle \mathrm{soft}_\epsilon(\mu'), x \rangle`. It is 1/2 wherever
    :math:`\|\mu'\|_\infty \le \epsilon`, so it lies above the lower bound of Theorem 11, which counts those draws only.

    Args:
        n: the numbers of samples, not negative, any shape (...).
        sigma: the noise of a coordinate, positive.
        eps: the radius, not negative.
        noise: standard normals v, shape (R, d).
        p: 1, 2 or `math.inf`, the order of the norm of the perturbation.

    Returns:
        Shape (..., R); the curve :math:`E^*` is the mean over the last axis.

    Example:
        >>> noise = torch.randn(64, 256, generator=torch.Generator().manual_seed(0))
        >>> [round(e, 3) for e in bayes_errors(torch.tensor([0.0, 1.0, 4.0]), 2.0, 0.5, noise).mean(-1).tolist()]
        [0.5, 0.132, 0.003]

    Source: derived from the posterior in the proof of Theorem 11, Schmidt et al. 2018, p. 28, and the optimum of
    `optimal_error`.
    """
    non_negative("n", n)
    return _over(n, lambda k: optimal_error(posterior_mean(k, sigma, noise), predictive_sigma(k, sigma), eps, p=p))


def bayes_error_large_d(n: Real, d: Real, sigma: Real, eps: Real) -> Tensor:
    r"""The Bayes-optimal l_inf-robust error as d grows, prior N(0, I).

    .. math:: \Phi\Big(-\sqrt{d\, h} \Big/ \sqrt{\sigma^2 + \tfrac{\sigma^2}{\sigma^2 + n}}\Big), \quad
              h = 2 v \big[(1 + t^2)(1 - \Phi(t)) - t \varphi(t)\big],
              \quad v = \tfrac{n}{\sigma^2 + n}, \quad t = \epsilon / \sqrt v

    h is the mean of :math:`\mathrm{soft}_\epsilon(\mu'_i)^2`. The curve is off where only a few coordinates exceed eps
    (d h about 1): there the mean of :math:`\Phi` is not :math:`\Phi` of the mean; use `bayes_errors`.

    Args:
        n: the number of samples, positive.
        d: the dimension, positive.
        sigma: the noise of a coordinate, positive.
        eps: the radius, not negative.

    Returns:
        The error, in the common shape of the arguments.

    Example:
        >>> round(bayes_error_large_d(10.0, 256, 2.0, 0.5).item(), 4)
        0.0001
    """
    n, d, spread = positive("n", n), positive("d", d), positive("sigma", sigma)
    v = n / (spread.square() + n)
    t = non_negative("eps", eps) / v.sqrt()
    density = torch.exp(-0.5 * t.square()) / math.sqrt(2 * math.pi)
    h = 2 * v * ((1 + t.square()) * normal_cdf(-t) - t * density).clamp_min(0)
    return normal_cdf(-(d * h).sqrt() / predictive_sigma(n, sigma))
