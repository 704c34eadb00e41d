r"""The Bernoulli model, exactly: linear classifiers, and linear classifiers behind a threshold.

The model: :math:`\theta^* \in \{\pm 1\}^d`, y is uniform on {-1, +1} and, independently given y,
:math:`x_i = y \theta^*_i` with probability 1/2 + tau, else :math:`-y \theta^*_i`. The data live on the corners of a
cube, but the adversary moves them anywhere in the l_inf ball around it. The signal of one coordinate is small:
:math:`\tau \sim d^{-1/4}` is the interesting scale.

The margin of a linear classifier is :math:`M = \sum_i v_i b_i` with :math:`v_i = w_i \theta^*_i` and signs :math:`b_i`,
+1 with probability 1/2 + tau. For whole-numbered w, as the mean estimator gives, its distribution is a convolution of
scaled binomials. sgn(0) = +1 throughout.

Arguments of all functions: w are weights, theta the signs of the class +1, shape (d,); 0 < tau <= 1/2 is the advantage
of a coordinate (below 1/2 in the normal approximations); eps >= 0 is the l_inf radius. All results are float64.
"""

import math
from typing import Any

import torch
from torch import Generator, Tensor

from lightning_robust._checks import count, instance, number
from lightning_robust_studies.schmidt2018.theory._check import (
    Real,
    non_negative,
    open_interval,
    require,
    same_size,
    signs,
    vector,
)
from lightning_robust_studies.schmidt2018.theory.gaussian import draw_labels, normal_cdf
from lightning_robust_studies.schmidt2018.theory.gaussian_curves import mean_error_large_d

_MOST_WORK = 10**10


def _rate(tau: float) -> float:
    return number("tau", tau, 0, 0.5, above=True)


def sample_bernoulli(n: int, theta: Tensor, tau: float, *, generator: Generator) -> tuple[Tensor, Tensor]:
    r"""Draw n >= 0 samples of the model: x of shape (n, d) and y of shape (n,), on the device of `generator`.

    Example:
        >>> x, y = sample_bernoulli(3, torch.ones(2), 0.5, generator=torch.Generator().manual_seed(0))
        >>> bool((x == y[:, None]).all())
        True

    Source: Schmidt et al. 2018, Definition 7, pp. 6-7.
    """
    n, theta, tau = count("n", n, 0), signs("theta", theta), _rate(tau)
    y = draw_labels(n, instance("generator", generator, Generator, "a torch.Generator"))
    uniform = torch.rand(n, theta.shape[-1], dtype=torch.float64, generator=generator, device=generator.device)
    right = torch.where(uniform < 0.5 + tau, 1.0, -1.0).to(torch.float64)
    return y[:, None] * theta * right, y


def _convolve_scaled(pmf: Any, weight: int, kernel: Any) -> Any:
    """Convolve `pmf` with a kernel whose entries stand `weight` apart: one short convolution for each residue."""
    import numpy as np

    out = np.zeros(len(pmf) + weight * (len(kernel) - 1))
    for residue in range(min(weight, len(pmf))):
        out[residue::weight] = np.convolve(pmf[residue::weight], kernel)
    return out


def margin_pmf(v: Tensor, tau: float) -> tuple[Tensor, Tensor]:
    r"""The exact distribution of :math:`M = \sum_i v_i b_i` with whole numbers v, shape (d,).

    Coordinates of equal weight make one binomial; the binomials are convolved directly, not by FFT: every term is
    positive, so that even probabilities of 1e-100 keep their digits. The work is at most d times the sum of |v|.

    Returns:
        The values of M, rising in steps of 2, and their probabilities, both of shape (sum of |v| + 1,).

    Example:
        >>> values, pmf = margin_pmf(torch.tensor([1, -2]), 0.25)
        >>> values.tolist(), [round(mass, 6) for mass in pmf.tolist()]
        ([-3.0, -1.0, 1.0, 3.0], [0.1875, 0.5625, 0.0625, 0.1875])

    Source: Schmidt et al. 2018, Definition 7, pp. 6-7.
    """
    import numpy as np
    from scipy.stats import binom

    v = vector("v", v)
    require(v.ndim == 1, "v", "of shape (d,)", f"shape {tuple(v.shape)}")
    require(v == v.round(), "v", "whole numbers (for real weights use `bernoulli_error_normal`)", v)
    tau, total = _rate(tau), int(v.abs().sum())
    expectation = f"small enough that d times the sum of its magnitudes is at most {_MOST_WORK:.0e}"
    require(len(v) * total <= _MOST_WORK, "v", expectation, f"{len(v)} x {total}")
    weights, counts = torch.unique(v[v != 0], return_counts=True)
    order = weights.abs().argsort()
    pmf = np.ones(1)
    for weight, times in zip(weights[order].tolist(), counts[order].tolist(), strict=True):
        up = 0.5 + tau if weight > 0 else 0.5 - tau
        pmf = _convolve_scaled(pmf, int(abs(weight)), binom.pmf(np.arange(times + 1), times, up))
    values = torch.arange(-total, total + 1, 2, dtype=torch.float64)
    return values, torch.from_numpy(pmf)


def _tail(values: Tensor, pmf: Tensor, level: float) -> Tensor:
    """P(M < level) + P(M = level) / 2, with what lies within rounding of the level counted as equal to it."""
    gap = values - level
    tie = gap.abs() <= 1e-9 * max(1.0, float(values[-1]))
    return (pmf[(gap < 0) & ~tie].sum() + 0.5 * pmf[tie].sum()).clamp(max=1)


def bernoulli_error(w: Tensor, theta: Tensor, tau: float, eps: float = 0.0) -> Tensor:
    r"""The exact error of a linear classifier with whole-numbered weights (..., d), standard (eps = 0) or robust.

    .. math:: \tfrac12 P(M < \epsilon \|w\|_1) + \tfrac12 P(M \le \epsilon \|w\|_1)

    Shape (...). A margin that the adversary brings to exactly 0 fails for the class -1 only, as sgn(0) = +1. Ties are
    taken up to rounding (1e-9 of :math:`\|w\|_1`), so that eps = 0.2 means the decimal number.

    Example:
        >>> w = torch.ones(3)
        >>> round(bernoulli_error(w, w, 0.25).item(), 6), round(bernoulli_error(w, w, 0.25, eps=0.5).item(), 6)
        (0.15625, 0.578125)

    Source: Schmidt et al. 2018, Definitions 2, 3 and 7, pp. 4-7.
    """
    w, theta = vector("w", w), signs("theta", theta)
    same_size("w", w, theta)
    radius = number("eps", eps, 0)
    rows = (w * theta).reshape(-1, w.shape[-1])
    errors = [_tail(*margin_pmf(v, tau), radius * float(v.abs().sum())) for v in rows]
    return torch.stack(errors).reshape(w.shape[:-1])


def bernoulli_error_normal(w: Tensor, theta: Tensor, tau: float, eps: Real = 0.0) -> Tensor:
    r"""The error of :math:`\mathrm{sgn} \langle w, x \rangle` for any real w (..., d), with the margin taken as normal.

    .. math:: \Phi\Big(-\frac{2 \tau \langle w, \theta^* \rangle - \epsilon \|w\|_1}{\sqrt{1 - 4 \tau^2}\, \|w\|_2}\Big)

    Shape (...). Right to half a percentage point at d = 1000 where no few coordinates dominate; `bernoulli_error` is
    exact.

    Example:
        >>> w = torch.ones(1000)
        >>> round(bernoulli_error_normal(w, w, 0.05).item(), 5), round(bernoulli_error(w, w, 0.05).item(), 5)
        (0.00074, 0.00076)
    """
    w, theta = vector("w", w), signs("theta", theta)
    same_size("w", w, theta)
    tau = open_interval("tau", tau, 0.5)
    margin = 2 * tau * (w * theta).sum(-1) - non_negative("eps", eps) * w.abs().sum(-1)
    norm = torch.linalg.vector_norm(w, dim=-1)
    scale = math.sqrt(1 - 4 * tau**2) * torch.where(norm > 0, norm, 1.0)
    return torch.where(norm > 0, normal_cdf(-margin / scale), 0.5)


def bernoulli_mean_estimator(n: int, theta: Tensor, tau: float, *, draws: int, generator: Generator) -> Tensor:
    r"""R draws of the sum of n samples, :math:`\sum_k y_k x_k`, without the samples: n times the mean; shape (R, d).

    All whole numbers: a coordinate is :math:`\theta^*_i (2\, \mathrm{Bin}(n, 1/2 + \tau) - n)`, exactly.

    Example:
        >>> bernoulli_mean_estimator(3, torch.tensor([1, -1]), 0.5, draws=1, generator=torch.Generator())
        tensor([[ 3., -3.]], dtype=torch.float64)

    Source: Schmidt et al. 2018, Theorem 8 (the estimator).
    """
    n, draws = count("n", n), count("draws", draws)
    theta, tau = signs("theta", theta), _rate(tau)
    generator = instance("generator", generator, Generator, "a torch.Generator")
    trials = torch.full((draws, theta.shape[-1]), float(n), dtype=torch.float64, device=generator.device)
    right = torch.binomial(trials, torch.full_like(trials, 0.5 + tau), generator=generator)
    return theta * (2 * right - n)


def bernoulli_mean_error_large_d(n: Real, d: Real, tau: float, eps: Real = 0.0) -> Tensor:
    r"""The error of the mean estimator as d grows, for many samples: counts and margin taken as normal.

    The Gaussian model's curve (`mean_error_large_d`) with coordinates of mean 2 tau and variance :math:`1 - 4 \tau^2`,
    scaled to mean 1: :math:`\sigma = \sqrt{1 - 4 \tau^2} / (2 \tau)` and radius :math:`\epsilon / (2 \tau)`. For few
    samples (n below about 10) the true mean of :math:`|v_i|` differs: at n = 1 it is 1, here about 0.8.

    Example:
        >>> round(bernoulli_mean_error_large_d(16, 2**12, 0.1, 0.1).item(), 4)
        0.0016
    """
    tau = open_interval("tau", tau, 0.5)
    return mean_error_large_d(n, d, math.sqrt(1 - 4 * tau**2) / (2 * tau), non_negative("eps", eps) / (2 * tau))


def one_sample_error(d: int, tau: float, eps: float = 0.0) -> Tensor:
    r"""The expected error of :math:`\hat w = y_1 x_1`, learnt from one sample, exactly.

    Every :math:`\hat w_i \theta^*_i b_i` is +1 with probability
    :math:`(1/2 + \tau)^2 + (1/2 - \tau)^2 = 1/2 + 2 \tau^2`, so the margin is a binomial:

    .. math:: \tfrac12 P(2 B - d < \epsilon d) + \tfrac12 P(2 B - d \le \epsilon d),
              \qquad B \sim \mathrm{Bin}(d, \tfrac12 + 2 \tau^2)

    With :math:`\tau = c\, d^{-1/4}` the standard error tends to :math:`\Phi(-4 c^2)`: 1 % for c = 0.7626.

    Example:
        >>> round(one_sample_error(4096, 0.7626 * 4096**-0.25).item(), 3)
        0.01

    Source: Schmidt et al. 2018, Theorem 8 (the estimator); Corollary 28, p. 33.
    """
    from scipy.stats import binom

    d, tau, radius = count("d", d), _rate(tau), number("eps", eps, 0)
    right = torch.arange(d + 1, dtype=torch.float64)
    pmf = torch.from_numpy(binom.pmf(right.numpy(), d, 0.5 + 2 * tau**2))
    return _tail(2 * right - d, pmf, radius * d)


# ---- the threshold


def threshold(x: Tensor) -> Tensor:
    r"""Round every coordinate to the nearest corner, :math:`T(x)_i = +1` if :math:`x_i \ge 0`, else -1.

    Its gradient is zero almost everywhere: attacks that follow gradients see nothing here, so measure with
    `thresholded_error`.

    Example:
        >>> threshold(torch.tensor([0.3, 0.0, -2.0]))
        tensor([ 1.,  1., -1.])

    Source: Schmidt et al. 2018, Theorem 10, p. 7.
    """
    return torch.where(instance("x", x, Tensor, "a tensor") >= 0, 1.0, -1.0).to(x)


def thresholded_error(w: Tensor, theta: Tensor, tau: float, eps: float) -> Tensor:
    r"""The l_inf-robust error of :math:`\mathrm{sgn} \langle w, T(x) \rangle` for whole-numbered w (d,), exactly.

    For eps < 1 no coordinate changes sign, so it equals the standard error of w: the threshold undoes the attack. For
    eps > 1 every coordinate can be flipped, so it is 1. At eps = 1, T(0) = +1 lets the adversary turn -1 into +1, but
    not back. For w = 0 (a constant classifier) it is 1/2.

    Example:
        >>> w = torch.ones(3)
        >>> [round(thresholded_error(w, w, 0.25, eps).item(), 4) for eps in (0.0, 0.99, 1.0, 1.01)]
        [0.1562, 0.1562, 0.5781, 1.0]

    Source: Schmidt et al. 2018, Theorem 10, p. 7, and the lines before it.
    """
    w, theta = vector("w", w), signs("theta", theta)
    require(w.ndim == 1, "w", "of shape (d,)", f"shape {tuple(w.shape)}")
    same_size("w", w, theta)
    tau, radius = _rate(tau), number("eps", eps, 0)
    if radius < 1 or not bool(w.any()):
        return bernoulli_error(w, theta, tau)
    if radius > 1:
        return torch.ones((), dtype=torch.float64)
    up, down = w > 0, w < 0
    values_up, pmf_up = margin_pmf((w * theta)[up], tau) if bool(up.any()) else _point_mass()
    values_down, pmf_down = margin_pmf((w * theta)[down], tau) if bool(down.any()) else _point_mass()
    fails_plus = pmf_up[values_up < -w[down].sum()].sum()
    fails_minus = pmf_down[values_down <= w[up].sum()].sum()
    return 0.5 * (fails_plus + fails_minus)


def _point_mass() -> tuple[Tensor, Tensor]:
    return torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)


def linear_error_floor(tau: float, eps: float) -> float:
    r"""No linear classifier has a smaller l_inf-robust error than this where eps >= 2 tau: 1/12 for tau <= 0.288.

    .. math:: \frac{1}{4 \max(3, \kappa)}, \qquad \kappa = \frac{1}{1/4 - \tau^2} - 3

    Whatever w (not zero), d or the number of samples, and even with :math:`\theta^*` known: from eps = 2 tau on, the
    adversary's :math:`\epsilon \|w\|_1` is at least the mean margin :math:`2 \tau \langle w, \theta^* \rangle`. So the
    margin after the attack is at most :math:`Z = M - E M`, and a sum Z of independent, centered terms with kurtosis at
    most kappa has :math:`P(Z < 0) \ge (E|Z|)^2 / (4 E Z^2) \ge (E Z^2)^2 / (4 E Z^4) \ge 1 / (4 \max(3, \kappa))`. The
    floor is not 1/2: a single coordinate errs with probability 1/2 - tau for eps < 1. Weights that spread over many
    coordinates tend to 1/2 or more. Below eps = 2 tau the weights :math:`\theta^*` are robust in high dimension, error
    about :math:`\Phi(-(2 \tau - \epsilon) \sqrt d / \sqrt{1 - 4 \tau^2})`.

    Example:
        >>> round(linear_error_floor(0.1, 0.2), 4)
        0.0833

    Source: derived here; Schmidt et al. 2018, Theorem 9, bounds what n samples give below 3 tau.
    """
    tau, eps = open_interval("tau", tau, 0.5), number("eps", eps, 0, above=True)
    require(eps >= 2 * tau, "eps", f"at least 2 tau = {2 * tau:.6g}", eps)
    kurtosis = 1 / (0.25 - tau**2) - 3
    return 1 / (4 * max(3.0, kurtosis))
