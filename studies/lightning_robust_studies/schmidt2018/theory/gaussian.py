r"""The Gaussian model in closed form: no test point is ever drawn.

The model: y is uniform on {-1, +1} and :math:`x \mid y \sim N(y \theta^*, \sigma^2 I_d)`. The theorems of Schmidt et
al. (2018) have :math:`\|\theta^*\|_2 = \sqrt d`, so a coordinate is about 1 and eps is measured against it. A perturbed
point may lie anywhere in :math:`R^d`: nothing is clipped.

Given w, the worst perturbation of a linear classifier costs it :math:`\epsilon \|w\|_q` of margin (q dual to p), so its
robust error is a normal probability. What learners reach with n samples is in `gaussian_curves`.

Letters: d dimensions. All results are float64.
"""

import math

import torch
from torch import Tensor

from lightning_robust._checks import instance
from lightning_robust_studies.schmidt2018.theory._check import (
    Real,
    non_negative,
    norm_order,
    positive,
    real,
    require,
    same_size,
    vector,
)
from lightning_robust_studies.schmidt2018.theory._normal import normal_cdf


def dual_norm(w: Tensor, p: float = math.inf) -> Tensor:
    r"""What the strongest :math:`l_p` perturbation of size 1 takes from :math:`\langle w, x \rangle`.

    The dual norm :math:`\|w\|_q` with 1/p + 1/q = 1.

    Args:
        w: shape (..., d).
        p: the order of the norm that bounds the perturbation, at least 1.

    Returns:
        Shape (...): the l_1 norm for p = inf, the l_2 norm for p = 2, the largest coordinate for p = 1.

    Example:
        >>> w = torch.tensor([3.0, -4.0])
        >>> [dual_norm(w, p).item() for p in (math.inf, 2, 1)]
        [7.0, 5.0, 4.0]
    """
    p = norm_order(p)
    return dual_norm_of(vector("w", w), p)


def dual_norm_of(w: Tensor, p: float) -> Tensor:
    """`dual_norm` of weights that were checked before."""
    if p == 1:
        order = math.inf
    else:
        order = 1.0 if math.isinf(p) else p / (p - 1)
    return torch.linalg.vector_norm(w, ord=order, dim=-1)


def gaussian_error(
    w: Tensor, theta: Tensor, sigma: Real, eps: Real = 0.0, *, p: float = math.inf, bias: Real = 0.0
) -> Tensor:
    r"""The error of :math:`f(x) = \mathrm{sgn}(\langle w, x \rangle + b)`, standard (eps = 0) or robust, exactly.

    .. math:: \tfrac12 \sum_{\pm}
              \Phi\Big(-\frac{\langle w, \theta^* \rangle \pm b - \epsilon \|w\|_q}{\sigma \|w\|_2}\Big)

    A constant classifier (w = 0) errs half the time.

    Args:
        w: the weights, shape (..., d); their scale does not matter unless there is a bias.
        theta: the mean of the class +1, shape (..., d).
        sigma: the noise of a coordinate, positive; broadcasts against (...).
        eps: the radius of the perturbation in the units of x, not negative; broadcasts against (...).
        p: the order of the norm in which eps is measured, at least 1.
        bias: the offset b; broadcasts against (...).

    Returns:
        The probability of an error, shape (...).

    Example:
        >>> w = torch.ones(4)
        >>> gaussian_error(w, w, 1.0).item(), gaussian_error(w, w, 1.0, eps=0.5).item()
        (0.02275..., 0.15865...)

    Source: Schmidt et al. 2018, Definitions 1-3, pp. 4-5, and p. 10 (the worst perturbation), proof of Lemma 20, p. 25.
    """
    w, theta = vector("w", w), vector("theta", theta)
    same_size("theta", theta, w)
    spread, eps, bias = positive("sigma", sigma), non_negative("eps", eps), real("bias", bias)
    norm = torch.linalg.vector_norm(w, dim=-1)
    scale = spread * torch.where(norm > 0, norm, 1.0)
    margin = (w * theta).sum(-1) - eps * dual_norm(w, p)
    errors = 0.5 * (normal_cdf(-(margin + bias) / scale) + normal_cdf(-(margin - bias) / scale))
    return torch.where(norm > 0, errors, 0.5)


def soft_threshold(x: Tensor, level: Real) -> Tensor:
    r"""Move every coordinate towards zero by `level`, and not beyond: :math:`\mathrm{sgn}(x) \max(|x| - t, 0)`.

    Example:
        >>> soft_threshold(torch.tensor([2.0, -0.5]), 1.0)
        tensor([1., -0.])
    """
    instance("x", x, Tensor, "a tensor")
    non_negative("level", level)
    return x.sign() * (x.abs() - level).clamp_min(0)


def _soft_threshold_l2(x: Tensor, level: Tensor) -> Tensor:
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x * (1 - level / torch.where(norm > 0, norm, 1.0)).clamp_min(0)


def _clip_largest(x: Tensor, level: Tensor) -> Tensor:
    """Clip x at the height above which its magnitudes hold `level` in sum: x minus its projection on the l_1 ball."""
    sizes = x.abs().sort(dim=-1, descending=True).values
    ranks = torch.arange(1, x.shape[-1] + 1, dtype=x.dtype, device=x.device)
    heights = (sizes.cumsum(-1) - level) / ranks
    height = heights.amax(-1, keepdim=True).clamp_min(0)
    return x.sign() * torch.minimum(x.abs(), height)


def optimal_weights(theta: Tensor, eps: Real, *, p: float = math.inf) -> Tensor:
    r"""The weights of the most robust classifier there is when :math:`\theta^*` is known.

    .. math:: w = \theta^* - \Pi_{B_p(\epsilon)}(\theta^*)

    with the Euclidean projection on the ball of perturbations: soft thresholding for p = inf, shrinking for p = 2,
    clipping the largest coordinates for p = 1. All zero when the ball swallows :math:`\theta^*`: then no classifier
    beats a coin.

    Args:
        theta: shape (..., d).
        eps: the radius, not negative; broadcasts against (...).
        p: 1, 2 or `math.inf`.

    Returns:
        Shape (..., d).

    Example:
        >>> optimal_weights(torch.tensor([2.0, -0.5, -3.0]), 1.0)
        tensor([ 1., -0., -2.], dtype=torch.float64)

    Source: Bhagoji et al. 2019 and Dan et al. 2020 (the optimal classifier of two Gaussians under attack).
    """
    theta, level, p = vector("theta", theta), non_negative("eps", eps)[..., None], norm_order(p)
    if math.isinf(p):
        return soft_threshold(theta, level)
    if p == 2:
        return _soft_threshold_l2(theta, level)
    require(p == 1, "p", "1, 2 or `math.inf`", p)
    return _clip_largest(theta, level)


def optimal_error(theta: Tensor, sigma: Real, eps: Real, *, p: float = math.inf) -> Tensor:
    r"""The least robust error of any classifier, linear or not, that knows :math:`\theta^*`.

    .. math:: \Phi\big(-\mathrm{dist}_2(\theta^*, B_p(\epsilon)) / \sigma\big), \qquad
              \Phi\big(-\|\mathrm{soft}_\epsilon(\theta^*)\|_2 / \sigma\big) \text{ for } p = \infty

    Args:
        theta: shape (..., d).
        sigma: the noise of a coordinate, positive; broadcasts against (...).
        eps: the radius, not negative; broadcasts against (...).
        p: 1, 2 or `math.inf`.

    Returns:
        Shape (...): 1/2 where the ball holds theta.

    Example:
        >>> optimal_error(torch.ones(4), 1.0, 0.5).item(), optimal_error(torch.ones(4), 1.0, 1.0).item()
        (0.15865..., 0.5)

    Source: Bhagoji et al. 2019; Dan et al. 2020.
    """
    spread = positive("sigma", sigma)
    return normal_cdf(-torch.linalg.vector_norm(optimal_weights(theta, eps, p=p), dim=-1) / spread)
