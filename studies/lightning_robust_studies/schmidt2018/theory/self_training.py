r"""Self-training in the Gaussian model: unlabeled data close the gap that labels alone leave (Carmon et al. 2019).

A first classifier w, learnt from a few labels, labels :math:`\tilde n` further points itself,
:math:`\tilde y_i = \mathrm{sgn} \langle w, \tilde x_i \rangle`; the second classifier is the mean
:math:`\frac{1}{\tilde n} \sum_i \tilde y_i \tilde x_i`. Standard accuracy is enough to label well, and unlabeled
points do the rest. What the paper proves is in `statements`, at the noise `carmon_sigma`.

In the direction u of w a point is one normal number, which alone decides its pseudo-label; across it, noise that knows
nothing of the label. So the second classifier is drawn exactly from :math:`\tilde n + d` normals; the
:math:`\tilde n \times d` points are never made.

Arguments of all functions: n > 0 labels, `unlabeled` points, d dimensions, sigma > 0 the noise of a coordinate, eps >=
0 the l_inf radius. All results are float64.
"""

import math

import torch
from torch import Generator, Tensor

from lightning_robust._checks import count, instance, number
from lightning_robust_studies.schmidt2018.theory._check import Real, positive, require, same_size, vector
from lightning_robust_studies.schmidt2018.theory.gaussian import normal_cdf
from lightning_robust_studies.schmidt2018.theory.gaussian_curves import mean_error_large_d


def self_trained_estimator(w: Tensor, unlabeled: int, theta: Tensor, sigma: Real, *, generator: Generator) -> Tensor:
    r"""The mean of unlabeled points times their pseudo-labels, without the points.

    With :math:`u = w / \|w\|`, :math:`a = \langle u, \theta^* \rangle` and normal numbers :math:`g_i`,

    .. math:: \frac{1}{\tilde n} \sum_i \tilde y_i \tilde x_i
              = u\, \overline{|a + \sigma g_i|} + (\theta^* - a u)\, \overline{\mathrm{sgn}(a + \sigma g_i)}
              + \frac{\sigma}{\sqrt{\tilde n}}\, (I - u u^T)\, g

    in distribution, exactly. The first classifier's weights w are not zero, one row for each draw, shape (..., d); any
    learner may have made them. The second classifier's have the same shape; theta has the shape (d,).

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
    w, theta, unlabeled = vector("w", w), vector("theta", theta), count("unlabeled", unlabeled)
    same_size("w", w, theta)
    spread = positive("sigma", sigma)
    generator = instance("generator", generator, Generator, "a torch.Generator")
    norm = torch.linalg.vector_norm(w, dim=-1, keepdim=True)
    require(norm > 0, "w", "not zero", "a row of zeros")
    u = w / norm
    a = u @ theta
    along = torch.randn(*a.shape, unlabeled, dtype=torch.float64, generator=generator, device=generator.device)
    along = a[..., None] + spread * along
    across = torch.randn(w.shape, dtype=torch.float64, generator=generator, device=generator.device)
    across = across - (across * u).sum(-1, keepdim=True) * u
    labels = torch.where(along >= 0, 1.0, -1.0).to(torch.float64).mean(-1, keepdim=True)
    size = along.abs().mean(-1, keepdim=True)
    return size * u + labels * (theta - a[..., None] * u) + spread / math.sqrt(unlabeled) * across


def effective_samples(n: Real, unlabeled: Real, d: Real, sigma: Real) -> Tensor:
    r"""How many labels a self-trained mean estimator is worth, for large d and a flat theta.

    With :math:`s_0 = \sigma / \sqrt n`, :math:`a = \sqrt{d / (1 + s_0^2)}`, :math:`\rho = 2 \Phi(a / \sigma) - 1` and
    :math:`k = 2 \varphi(a / \sigma)\, \sigma / \sqrt{d (1 + s_0^2)}`, a coordinate of the second classifier is
    :math:`(\rho + k)\, \theta^*_i` plus noise of variance :math:`k^2 s_0^2 + \sigma^2 / \tilde n`. That is a mean
    estimator with

    .. math:: n_\mathrm{eff} = \frac{\sigma^2 (\rho + k)^2}{k^2 s_0^2 + \sigma^2 / \tilde n}

    which tends to the number of unlabeled points when the first classifier hardly errs.

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
    noise = kink.square() * first + spread.square() / positive("unlabeled", unlabeled)
    return spread.square() * (agreement + kink).square() / noise


def self_training_error_large_d(n: Real, unlabeled: Real, d: Real, sigma: Real, eps: Real) -> Tensor:
    r"""The l_inf-robust error of self-training as d grows, flat theta: `mean_error_large_d` at `effective_samples`.

    Example:
        >>> [round(self_training_error_large_d(1, m, 4096, 8.0, 0.5).item(), 4) for m in (1, 10, 1000)]
        [0.9939, 0.864, 0.0001]
    """
    return mean_error_large_d(effective_samples(n, unlabeled, d, sigma), d, sigma, eps)


def carmon_sigma(d: int, n0: float) -> float:
    r"""The noise of Carmon et al., :math:`\sigma = (d\, n_0)^{1/4}`: about n0 labels give a standard error below 1/3.

    Example:
        >>> carmon_sigma(4096, 1.0)
        8.0

    Source: Carmon et al. 2019, Section 3.1.
    """
    d, n0 = count("d", d), number("n0", n0, 0, above=True)
    return (d * n0) ** 0.25
