r"""How many samples a target error takes, by bracketing the crossing of an error curve in log n.

With the same noise at every n (see `mean_estimator`) a curve has no jitter, so its crossing is found to rounding.

Beware of the target: at sigma = c d^(1/4) the robust n of the mean estimator obeys
:math:`\sqrt n = \epsilon c \sqrt{2/\pi}\, d^{1/4} + q c^2`, :math:`q = \Phi^{-1}(1 - \beta)`. Its slope in log d tends
to 1/2, but at a target of 1 % the constant term still rules at d = 2^16 (slope 0.13 to 0.28). At the 50 % crossing q =
0, and the slope is 1/2 at every d.

Arguments of all functions: `target` is an error strictly between 0 and 1 (where a function says so: 1/2), the others
are those of `gaussian_curves`. All results are real numbers n; `math.inf` where no number of samples suffices.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from lightning_robust._checks import function, number
from lightning_robust_studies.schmidt2018.theory._check import (
    Real,
    non_negative,
    open_interval,
    positive,
    require,
    vector,
)
from lightning_robust_studies.schmidt2018.theory.gaussian_curves import (
    bayes_errors,
    mean_error_curve,
    mean_error_large_d,
)

_SMALLEST, _LARGEST = 1e-9, 1e15


def crossing(error: Callable[[float], float], target: float) -> float:
    r"""The number of samples n at which a falling, continuous error curve n -> error crosses `target`.

    Brent's method in log n on the difference of logarithms, between n = 1e-9 and n = 1e15; 0.0 if the curve is below
    the target from the start, `math.inf` if it never falls to it.

    Example:
        >>> round(crossing(lambda n: 1 / (1 + n), 0.01), 6)
        99.0
    """
    from scipy.optimize import brentq

    target = open_interval("target", target)
    function("error", error, "n -> error")

    def excess(log_n: float) -> float:
        return math.log(max(error(math.exp(log_n)), 1e-300)) - math.log(target)

    low, high = math.log(_SMALLEST), math.log(_LARGEST)
    if excess(low) <= 0:
        return 0.0
    if excess(high) > 0:
        return math.inf
    return math.exp(brentq(excess, low, high, xtol=1e-10))


def n_robust(target: float, theta: Tensor, sigma: Real, eps: Real, noise: Tensor, *, p: float = math.inf) -> float:
    r"""Samples with which the mean estimator's robust error, averaged over the draws, is `target`; eps = 0: standard.

    Example:
        >>> noise = torch.randn(64, 1024, generator=torch.Generator().manual_seed(0))
        >>> theta, sigma = torch.ones(1024), 0.5 * 1024**0.25
        >>> round(n_robust(0.5, theta, sigma, 0.5, noise), 1), round(n_robust(0.01, theta, sigma, 0.0, noise), 2)
        (1.6, 0.41)
    """
    curve = mean_error_curve(theta, sigma, eps, noise, p=p)
    return crossing(lambda n: float(curve(n).mean()), target)


def n_bayes(target: float, sigma: Real, eps: Real, noise: Tensor) -> float:
    r"""Samples without which no learner's expected l_inf-robust error is below `target` < 1/2, prior N(0, I).

    The crossing of the Bayes-optimal curve, `bayes_errors`; that curve never exceeds 1/2.

    Example:
        >>> noise = torch.randn(64, 256, generator=torch.Generator().manual_seed(0))
        >>> round(n_bayes(0.01, 2.0, 0.5, noise), 2)
        2.77
    """
    target = open_interval("target", target, 0.5)
    return crossing(lambda n: float(bayes_errors(n, sigma, eps, noise).mean()), target)


def n_robust_large_d(target: float, d: Real, sigma: Real, eps: Real) -> float:
    r"""Samples at which `mean_error_large_d` is `target` (flat theta, l_inf).

    At a target of 1/2 this is :math:`\sigma^2 / s^2` with :math:`m_1(s) = 1 / \epsilon`: proportional to
    :math:`\sqrt d` when :math:`\sigma = c\, d^{1/4}`.

    Example:
        >>> [round(n_robust_large_d(0.5, d, 0.5 * d**0.25, 0.5), 2) for d in (2**12, 2**14, 2**16)]
        [3.05, 6.09, 12.18]
    """
    return crossing(lambda n: float(mean_error_large_d(n, d, sigma, eps)), target)


def n_standard_large_d(target: float, d: Real, sigma: Real) -> float:
    r"""Samples at which the mean's standard error is `target` < 1/2, in closed form for large d (flat theta).

    .. math:: n = \sigma^2 \Big/ \Big(\frac{d}{\sigma^2 q^2} - 1\Big), \qquad q = \Phi^{-1}(1 - \beta)

    With :math:`\sigma = c\, d^{1/4}` it tends to :math:`c^4 q^2`, whatever d is: one sample will do for a target of 1 %
    up to c = 0.6556. It is `math.inf` if even theta itself errs more often than `target`.

    Example:
        >>> [round(n_standard_large_d(0.01, d, 0.5 * d**0.25), 4) for d in (2**8, 2**12, 2**16)]
        [0.3695, 0.3455, 0.34]
    """
    target = open_interval("target", target, 0.5)
    variance, d = float(positive("sigma", sigma)) ** 2, float(positive("d", d))
    q = -float(torch.special.ndtri(torch.tensor(target, dtype=torch.float64)))
    room = d / (variance * q**2) - 1
    return variance / room if room > 0 else math.inf


def affine_law(target: float, d: Real, sigma_scale: Real, eps: Real) -> Tensor:
    r"""Samples for a robust error of `target` <= 1/2 at :math:`\sigma = c\, d^{1/4}`, c = `sigma_scale`, leading order.

    For large d, small eps and a flat theta:

    .. math:: \sqrt n = \epsilon\, c \sqrt{2/\pi}\; d^{1/4} + q\, c^2, \qquad q = \Phi^{-1}(1 - \beta)

    Why it is affine: with much noise, :math:`m_1(s) \approx s \sqrt{2/\pi}`. It explains why a straight line through
    log n over log d at a target of 1 % has a slope far below 1/2 at any d that can be run.

    Example:
        >>> round(affine_law(0.5, 2**16, 0.5, 0.1).item(), 3)
        0.407
    """
    target = number("target", target, 0, 0.5, above=True)
    d, c, eps = positive("d", d), positive("sigma_scale", sigma_scale), non_negative("eps", eps)
    q = -torch.special.ndtri(torch.tensor(target, dtype=torch.float64))
    return (eps * c * math.sqrt(2 / math.pi) * d.pow(0.25) + q * c.square()).square()


def loglog_slope(x: Tensor, y: Tensor) -> float:
    r"""The least-squares slope of log y over log x, both of shape (M,), M >= 2: the exponent of a power law.

    Example:
        >>> x = torch.tensor([1.0, 2.0, 4.0])
        >>> round(loglog_slope(x, 3 * x**0.5), 6)
        0.5
    """
    from scipy.stats import linregress

    x, y = positive("x", vector("x", x)), positive("y", vector("y", y))
    require(x.ndim == 1 and len(x) >= 2, "x", "of shape (M,) with M >= 2", f"shape {tuple(x.shape)}")
    require(x.shape == y.shape, "y", f"of shape {tuple(x.shape)}", f"shape {tuple(y.shape)}")
    require(bool((x != x[0]).any()), "x", "not all the same", x)
    return float(linregress(x.log().numpy(force=True), y.log().numpy(force=True)).slope)
