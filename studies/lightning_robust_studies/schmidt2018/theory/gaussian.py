r"""The Gaussian model in closed form: no test point is ever drawn.

The model: y is uniform on {-1, +1} and :math:`x \mid y \sim N(y \theta^*, \sigma^2 I_d)`. The theorems of Schmidt et
al. (2018) have :math:`\|\theta^*\|_2 = \sqrt d`, so a coordinate is about 1 and eps is measured against it. A perturbed
point may lie anywhere in :math:`R^d`: nothing is clipped.

Given w, the worst perturbation of a linear classifier costs it :math:`\epsilon \|w\|_q` of margin (q dual to p), so its
robust error is a normal probability. What learners reach with n samples is in `gaussian_curves`.

Arguments of all functions: w are weights, theta is the mean of the class +1, both of shape (..., d); sigma > 0 is the
standard deviation of a coordinate (Definition 1, p. 4, calls it "the variance parameter", but its covariance is
sigma^2 I); eps >= 0 is the radius of the perturbation in the units of x, and p >= 1 the order of its norm. Numbers
broadcast against (...). All results are float64.
"""

import math

import torch
from torch import Generator, Tensor

from lightning_robust._checks import count, instance, number
from lightning_robust_studies.schmidt2018.theory._check import (
    Real,
    non_negative,
    positive,
    real,
    require,
    same_size,
    vector,
)


def normal_cdf(x: Tensor) -> Tensor:
    r"""The distribution function :math:`\Phi(x) = \tfrac12 \mathrm{erfc}(-x / \sqrt 2)`, exact in both tails.

    `torch.special.ndtr` forms (1 + erf) / 2 in float64 and is 0 from about x = -8.4 down.

    Example:
        >>> f"{normal_cdf(torch.tensor(-30.0, dtype=torch.float64)).item():.4g}"
        '4.907e-198'
    """
    return 0.5 * torch.special.erfc(-x / math.sqrt(2))


def draw_labels(n: int, generator: Generator) -> Tensor:
    """Draw n labels, +1 or -1 with equal probability."""
    bits = torch.randint(0, 2, (n,), generator=generator, device=generator.device)
    return 2.0 * bits.to(torch.float64) - 1.0


def sample_gaussian(n: int, theta: Tensor, sigma: Real, *, generator: Generator) -> tuple[Tensor, Tensor]:
    r"""Draw n >= 0 samples of the model: x of shape (n, d) and y of shape (n,), on the device of `generator`.

    Example:
        >>> x, y = sample_gaussian(3, torch.ones(2), 0.1, generator=torch.Generator().manual_seed(0))
        >>> x.shape, bool((x.sign() == y[:, None]).all())
        (torch.Size([3, 2]), True)

    Source: Schmidt et al. 2018, Definition 1, p. 4.
    """
    n = count("n", n, 0)
    theta, spread = vector("theta", theta), positive("sigma", sigma)
    y = draw_labels(n, instance("generator", generator, Generator, "a torch.Generator"))
    noise = torch.randn(n, theta.shape[-1], dtype=torch.float64, generator=generator, device=generator.device)
    return y[:, None] * theta + spread * noise, y


def dual_norm(w: Tensor, p: float = math.inf) -> Tensor:
    r"""What the strongest :math:`l_p` perturbation of size 1 takes from :math:`\langle w, x \rangle`.

    The dual norm :math:`\|w\|_q` with 1/p + 1/q = 1, shape (...): the l_1 norm for p = inf, the l_2 norm for p = 2, the
    largest coordinate for p = 1.

    Example:
        >>> w = torch.tensor([3.0, -4.0])
        >>> [dual_norm(w, p).item() for p in (math.inf, 2, 1)]
        [7.0, 5.0, 4.0]
    """
    p = number("p", p, 1, finite=False)
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

    Shape (...). A constant classifier (w = 0) errs half the time.

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


def _clip_largest(x: Tensor, level: Tensor) -> Tensor:
    """Clip x at the height above which its magnitudes hold `level` in sum: x minus its projection on the l_1 ball."""
    sizes = x.abs().sort(dim=-1, descending=True).values
    ranks = torch.arange(1, x.shape[-1] + 1, dtype=x.dtype, device=x.device)
    height = ((sizes.cumsum(-1) - level) / ranks).amax(-1, keepdim=True).clamp_min(0)
    return x.sign() * torch.minimum(x.abs(), height)


def optimal_weights(theta: Tensor, eps: Real, *, p: float = math.inf) -> Tensor:
    r"""The weights of the most robust classifier there is when :math:`\theta^*` is known; p is 1, 2 or `math.inf`.

    .. math:: w = \theta^* - \Pi_{B_p(\epsilon)}(\theta^*)

    with the Euclidean projection on the ball of perturbations: soft thresholding for p = inf, shrinking for p = 2,
    clipping the largest coordinates for p = 1. All zero when the ball swallows :math:`\theta^*`: then no classifier
    beats a coin.

    Example:
        >>> optimal_weights(torch.tensor([2.0, -0.5, -3.0]), 1.0)
        tensor([ 1., -0., -2.], dtype=torch.float64)

    Source: Bhagoji et al. 2019 and Dan et al. 2020 (the optimal classifier of two Gaussians under attack).
    """
    theta, level, p = vector("theta", theta), non_negative("eps", eps)[..., None], number("p", p, 1, finite=False)
    if math.isinf(p):
        return soft_threshold(theta, level)
    if p == 2:
        norm = torch.linalg.vector_norm(theta, dim=-1, keepdim=True)
        return theta * (1 - level / torch.where(norm > 0, norm, 1.0)).clamp_min(0)
    require(p == 1, "p", "1, 2 or `math.inf`", p)
    return _clip_largest(theta, level)


def optimal_error(theta: Tensor, sigma: Real, eps: Real, *, p: float = math.inf) -> Tensor:
    r"""The least robust error of any classifier, linear or not, that knows :math:`\theta^*`; p is 1, 2 or `math.inf`.

    .. math:: \Phi\big(-\mathrm{dist}_2(\theta^*, B_p(\epsilon)) / \sigma\big), \qquad
              \Phi\big(-\|\mathrm{soft}_\epsilon(\theta^*)\|_2 / \sigma\big) \text{ for } p = \infty

    Shape (...). It is 1/2 where the ball holds theta.

    Example:
        >>> optimal_error(torch.ones(4), 1.0, 0.5).item(), optimal_error(torch.ones(4), 1.0, 1.0).item()
        (0.15865..., 0.5)

    Source: Bhagoji et al. 2019; Dan et al. 2020.
    """
    spread = positive("sigma", sigma)
    return normal_cdf(-torch.linalg.vector_norm(optimal_weights(theta, eps, p=p), dim=-1) / spread)
