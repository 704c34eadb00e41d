r"""What learners reach with n samples of the Gaussian model, without drawing a test point or a sample.

The samples of a class fold into :math:`y_i x_i \sim N(\theta^*, \sigma^2 I)`, so the mean of n of them is one draw of d
normals, for any real n. Under the prior :math:`\theta^* \sim N(0, I)` the posterior is normal too, so the best learner
there is has an exact curve. The model and the errors of given classifiers are in `gaussian`.

Arguments of all functions: n >= 0 samples, need not be whole, of any shape (...); d dimensions; sigma > 0; eps >= 0, 0
for the standard error; theta of shape (d,); `noise` are standard normals, shape (R, d), a row for each draw of the
samples; p is the order of the norm of the perturbation. Where n comes with noise, the result has the shape (..., R),
and the curve is its mean over the last axis. All results are float64.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from lightning_robust._checks import count, number
from lightning_robust_studies.schmidt2018.theory._check import (
    Real,
    non_negative,
    open_interval,
    positive,
    real,
    require,
    same_size,
    vector,
)
from lightning_robust_studies.schmidt2018.theory.gaussian import (
    dual_norm_of,
    gaussian_error,
    normal_cdf,
    optimal_error,
)


def mean_estimator(n: Real, theta: Tensor, sigma: Real, noise: Tensor) -> Tensor:
    r"""The mean of n > 0 samples, :math:`\bar z = \frac1n \sum_i y_i x_i`, without the samples; shape (..., d).

    :math:`\bar z \sim N(\theta^*, \frac{\sigma^2}{n} I)` exactly, so
    :math:`\bar z = \theta^* + \frac{\sigma}{\sqrt n} g`. The same `noise` (..., d) at every n gives curves without
    jitter between their points.

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
    r"""Robust errors of the mean estimator learnt from n samples: `gaussian_error` at the weights of `mean_estimator`.

    Example:
        >>> noise = torch.randn(8, 256, generator=torch.Generator().manual_seed(0))
        >>> curve = mean_errors(torch.tensor([1.0, 10.0]), torch.ones(256), 2.0, 0.5, noise).mean(-1)
        >>> [round(e, 4) for e in curve.tolist()]
        [0.3516, 0.0005]

    Source: Schmidt et al. 2018, Section 2.
    """
    return _over(n, lambda k: gaussian_error(mean_estimator(k, theta, sigma, noise), theta, sigma, eps, p=p))


def mean_error_curve(
    theta: Tensor, sigma: Real, eps: Real, noise: Tensor, *, p: float = math.inf
) -> Callable[[Real], Tensor]:
    r"""The curve n -> `mean_errors(n, ...)`, prepared once: for the many values of n that a search visits.

    Along the ray :math:`w = \theta^* + s g` the inner product and the l_2 norm are polynomials in s,

    .. math:: \langle w, \theta^* \rangle = \|\theta^*\|^2 + s \langle g, \theta^* \rangle, \qquad
              \|w\|_2^2 = \|\theta^*\|^2 + 2 s \langle g, \theta^* \rangle + s^2 \|g\|_2^2

    so each n costs one dual norm, and none at eps = 0. The curve takes one positive number and returns shape (R,).

    Example:
        >>> noise = torch.randn(8, 256, generator=torch.Generator().manual_seed(0))
        >>> curve = mean_error_curve(torch.ones(256), 2.0, 0.5, noise)
        >>> torch.allclose(curve(10.0), mean_errors(10.0, torch.ones(256), 2.0, 0.5, noise))
        True
    """
    theta, noise = vector("theta", theta), vector("noise", noise)
    same_size("noise", noise, theta)
    p = number("p", p, 1, finite=False)
    spread, radius = float(positive("sigma", sigma)), float(non_negative("eps", eps))
    size, along, power = theta @ theta, noise @ theta, noise.square().sum(-1)

    def errors(n: Real) -> Tensor:
        s = spread / math.sqrt(float(positive("n", n)))
        taken = radius * dual_norm_of(torch.add(theta, noise, alpha=s), p) if radius > 0 else 0.0
        scale = spread * (size + 2 * s * along + s**2 * power).clamp_min(0).sqrt()
        return torch.where(scale > 0, normal_cdf(-(size + s * along - taken) / scale), 0.5)

    return errors


def folded_mean(s: Real) -> Tensor:
    r"""The mean size of a noisy unit coordinate: 1 at s = 0, growing like :math:`s \sqrt{2/\pi}`.

    .. math:: m_1(s) = E|1 + s g| = s \sqrt{2/\pi}\, e^{-1/(2 s^2)} + \mathrm{erf}(1/(s \sqrt 2))

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

    The weights' inner product with theta and their two norms are replaced by their means, which d averages out.

    Example:
        >>> round(mean_error_large_d(1.0, 256, 2.0, 0.5).item(), 4)
        0.3544
    """
    n, d, spread = positive("n", n), positive("d", d), positive("sigma", sigma)
    s = spread / n.sqrt()
    margin = d.sqrt() * (1 - non_negative("eps", eps) * folded_mean(s)) / (spread * (1 + s.square()).sqrt())
    return normal_cdf(-margin)


# ---- the prior theta ~ N(0, I)


def posterior_mean(n: Real, sigma: Real, noise: Tensor) -> Tensor:
    r"""The posterior mean :math:`\mu'`, drawn from its own distribution over theta and samples together; (..., d).

    :math:`\mu' = \frac{1}{\sigma^2 + n} \sum_i y_i x_i = \frac{n}{\sigma^2 + n} \bar z \sim N(0, \frac{n}{\sigma^2 + n}
    I)`. The paper prints the second form with the sum in place of the mean :math:`\bar z`, which is n times too long.

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

    Example:
        >>> predictive_sigma(0.0, 1.0).item()
        1.41421...

    Source: Schmidt et al. 2018, proof of Theorem 11, pp. 28-29.
    """
    variance = positive("sigma", sigma).square()
    return (variance + variance / (variance + non_negative("n", n))).sqrt()


def mean_prior_errors(n: Real, sigma: Real, eps: Real, noise: Tensor, *, p: float = math.inf) -> Tensor:
    r"""Robust errors of the mean estimator from n > 0 samples under the prior, one for each draw of :math:`\mu'`.

    The mean estimator points along :math:`\mu'`, so the error is `gaussian_error` at w = theta = :math:`\mu'` with
    `predictive_sigma`.

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
    r"""The least robust error of any learner from n samples under the prior, for each draw of :math:`\mu'`.

    .. math:: E^*(n) = E_{v \sim N(0, I_d)}\,
              \Phi\Big(-\frac{\|\mathrm{soft}_\epsilon(\sqrt{n / (\sigma^2 + n)}\, v)\|_2}
              {\sqrt{\sigma^2 + \sigma^2 / (\sigma^2 + n)}}\Big)

    Reached by :math:`\mathrm{sgn} \langle \mathrm{soft}_\epsilon(\mu'), x \rangle`; p is 1, 2 or `math.inf`. It is 1/2
    wherever :math:`\|\mu'\|_\infty \le \epsilon`, so it lies above `error_floor`, which counts those draws only.

    Example:
        >>> noise = torch.randn(64, 256, generator=torch.Generator().manual_seed(0))
        >>> [round(e, 3) for e in bayes_errors(torch.tensor([0.0, 1.0, 4.0]), 2.0, 0.5, noise).mean(-1).tolist()]
        [0.5, 0.132, 0.003]

    Source: derived from the posterior in the proof of Theorem 11, Schmidt et al. 2018, p. 28, and `optimal_error`.
    """
    non_negative("n", n)
    return _over(n, lambda k: optimal_error(posterior_mean(k, sigma, noise), predictive_sigma(k, sigma), eps, p=p))


def bayes_error_large_d(n: Real, d: Real, sigma: Real, eps: Real) -> Tensor:
    r"""The Bayes-optimal l_inf-robust error from n > 0 samples as d grows.

    .. math:: \Phi\Big(-\sqrt{d\, h} \Big/ \sqrt{\sigma^2 + \tfrac{\sigma^2}{\sigma^2 + n}}\Big), \quad
              h = 2 v \big[(1 + t^2)(1 - \Phi(t)) - t \varphi(t)\big],
              \quad v = \tfrac{n}{\sigma^2 + n}, \quad t = \epsilon / \sqrt v

    h is the mean of :math:`\mathrm{soft}_\epsilon(\mu'_i)^2`. The curve is off where only a few coordinates exceed eps
    (d h about 1): there the mean of :math:`\Phi` is not :math:`\Phi` of the mean; use `bayes_errors`.

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


def error_floor(n: Real, d: Real, sigma: Real, eps: Real) -> Tensor:
    r"""No learner's expected l_inf-robust error is below this, prior :math:`\theta^* \sim N(0, I_d)`, d >= 1.

    .. math:: \tfrac12\, P_{v \sim N(0, I_d)}\Big[\sqrt{\tfrac{n}{\sigma^2 + n}}\, \|v\|_\infty \le \epsilon\Big]
              = \tfrac12 \Big(2 \Phi\Big(\epsilon \sqrt{\tfrac{\sigma^2 + n}{n}}\Big) - 1\Big)^d

    The expectation is over theta, the samples and the test point: for one fixed theta a learner that knows it does
    better.

    Example:
        >>> [round(b, 4) for b in error_floor(torch.tensor([0.0, 0.05, 0.1, 1.0]), 256, 2.0, 0.5).tolist()]
        [0.5, 0.4991, 0.3523, 0.0]

    Source: Schmidt et al. 2018, Theorem 11, p. 28, with the probability written out.
    """
    n, d, spread, eps = non_negative("n", n), positive("d", d), positive("sigma", sigma), non_negative("eps", eps)
    require(d >= 1, "d", "at least 1", d)
    u = torch.where(n > 0, eps * ((spread.square() + n) / n).sqrt(), math.inf)
    return 0.5 * torch.exp(d * torch.log1p(-2 * normal_cdf(-u)))


def error_floor_samples(level: float, d: int, sigma: float, eps: float) -> float:
    r"""The number of samples at which `error_floor` is `level`, 0 < level < 1/2: with fewer, no learner expects less.

    .. math:: n = \frac{\sigma^2}{u^2 / \epsilon^2 - 1}, \qquad 2 \Phi(u) - 1 = (2 \cdot \text{level})^{1/d}

    It is `math.inf` where the bound stays above the level for any n.

    Example:
        >>> round(error_floor_samples(0.25, 2**16, 8.0, 0.5), 3)
        0.835
    """
    d, level = count("d", d), open_interval("level", level, 0.5)
    sigma, eps = number("sigma", sigma, 0, above=True), number("eps", eps, 0)
    tail = -math.expm1(math.log(2 * level) / d) / 2
    u = -float(torch.special.ndtri(torch.tensor(tail, dtype=torch.float64)))
    return sigma**2 * eps**2 / (u**2 - eps**2) if u > eps else math.inf
