r"""Every bound of Schmidt et al. (2018) on the Gaussian model, with its conditions.

A bound is only true under its conditions, so each function refuses arguments outside them. In the upper bounds
:math:`\|\theta^*\|_2 = \sqrt d` and the learner is the mean estimator :math:`\hat w = \bar z / \|\bar z\|_2`; the lower
bounds hold for any learner at all. Logarithms are natural. The number of samples n need not be whole, except where a
theorem speaks of one sample.

Where the paper leaves a universal constant open (Theorems 4, 5 and 6), the functions use the constant of the corollary
it follows from.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.special import ndtri

from lightning_robust._checks import count, number
from lightning_robust_studies.schmidt2018.theory._check import Real, non_negative, open_interval, positive, require
from lightning_robust_studies.schmidt2018.theory._normal import normal_cdf
from lightning_robust_studies.schmidt2018.theory.lemmas import check_setting, lemma_17, ratio, success


@dataclass(frozen=True)
class Guarantee:
    """What an upper bound promises: an error of at most `error` with a probability of at least `probability`.

    The probability is over the training samples. Where the bound says nothing (too few dimensions), it is 0.

    Args:
        error: an upper bound on the (robust) classification error.
        probability: a lower bound on the probability that it holds.
    """

    error: float
    probability: float


# ---- standard generalisation


def theorem_18(n: float, d: int, sigma: float) -> Guarantee:
    r"""The standard error of the mean estimator.

    .. math:: \exp\Big(-\frac{(2 \sqrt n - 1)^2\, d}{2 (2 \sqrt n + 4 \sigma)^2 \sigma^2}\Big)
              \text{ with probability } 1 - 2 e^{-d / (8 (\sigma^2 + 1))}

    Args:
        n: the number of samples, at least 1/4 (below, the alignment of Lemma 16 is negative).
        d: the dimension.
        sigma: the noise of a coordinate, positive.

    Example:
        >>> theorem_18(1, 1024, 1.0)
        Guarantee(error=6.6...e-07, probability=1.0)

    Source: Schmidt et al. 2018, Theorem 18: Lemmas 16 and 17 with rho = 0.
    """
    n, d, sigma = check_setting(n, d, sigma)
    require(n >= 0.25, "n", "at least 1/4", n)
    return Guarantee(lemma_17(ratio(n, sigma) * math.sqrt(d), 0.0, sigma), success(d, sigma))


def corollary_19_sigma(d: int, beta: float) -> float:
    r"""The largest sigma of Corollary 19, :math:`d^{1/4} / (5 \sqrt{\log(1/\beta)})`.

    Example:
        >>> round(corollary_19_sigma(2**16, 0.01), 4)
        1.4912
    """
    d = count("d", d)
    beta = open_interval("beta", beta)
    return d**0.25 / (5 * math.sqrt(math.log(1 / beta)))


def corollary_19(d: int, sigma: float, beta: float) -> Guarantee:
    r"""One sample suffices for a standard error of beta.

    Args:
        d: the dimension.
        sigma: the noise, positive and at most :math:`d^{1/4} / (5 \sqrt{\log(1/\beta)})`.
        beta: the error, strictly between 0 and 1.

    Example:
        >>> corollary_19(2**16, 1.4, 0.01)
        Guarantee(error=0.01, probability=1.0)

    Source: Schmidt et al. 2018, Corollary 19. The constant 5 is checked in the tests against Theorem 18, from
    which it follows.
    """
    sigma, beta = number("sigma", sigma, 0, above=True), open_interval("beta", beta)
    most = corollary_19_sigma(d, beta)
    require(sigma <= most, "sigma", f"at most d^(1/4) / (5 sqrt(log(1 / beta))) = {most:.6g}", sigma)
    return Guarantee(beta, success(d, sigma))


def theorem_4(d: int, sigma: float) -> Guarantee:
    r"""One sample gives a standard error of 1 %, where sigma is at most 0.0932 d^(1/4).

    .. math:: \sigma \le c\, d^{1/4}, \qquad c = 1 / (5 \sqrt{\log 100})

    The paper leaves c open; this is Corollary 19 at beta = 0.01. The truth is more generous: for large d, c below
    0.6556 will do (`n_standard_large_d`).

    Example:
        >>> theorem_4(2**16, 1.4).error
        0.01

    Source: Schmidt et al. 2018, Theorem 4; Corollary 19.
    """
    return corollary_19(d, sigma, 0.01)


# ---- robust generalisation: upper bounds


def theorem_21_radius(n: float, d: int, sigma: float, beta: float) -> float:
    r"""The largest radius of Theorem 21.

    .. math:: \epsilon = \frac{2 \sqrt n - 1}{2 \sqrt n + 4 \sigma} - \frac{\sigma \sqrt{2 \log(1/\beta)}}{\sqrt d}

    It is negative where the theorem says nothing.

    Args:
        n: the number of samples, positive.
        d: the dimension.
        sigma: the noise of a coordinate, positive.
        beta: the error, strictly between 0 and 1.

    Example:
        >>> round(theorem_21_radius(16, 4096, 1.0, 0.01), 4)
        0.5359
    """
    n, d, sigma = check_setting(n, d, sigma)
    beta = open_interval("beta", beta)
    return ratio(n, sigma) - sigma * math.sqrt(2 * math.log(1 / beta) / d)


def theorem_21(n: float, d: int, sigma: float, eps: float, beta: float) -> Guarantee:
    r"""The l_inf-robust error of the mean estimator is at most beta for every radius up to `theorem_21_radius`.

    Args:
        n: the number of samples, positive.
        d: the dimension.
        sigma: the noise of a coordinate, positive.
        eps: the radius, from 0 to `theorem_21_radius(n, d, sigma, beta)`.
        beta: the error, strictly between 0 and 1.

    Example:
        >>> theorem_21(16, 4096, 1.0, 0.5, 0.01)
        Guarantee(error=0.01, probability=1.0)

    Source: Schmidt et al. 2018, Theorem 21, p. 26.
    """
    eps, beta = number("eps", eps, 0), open_interval("beta", beta)
    most = theorem_21_radius(n, d, sigma, beta)
    require(eps <= most, "eps", f"at most the radius of Theorem 21, {most:.6g}", eps)
    return Guarantee(beta, success(d, sigma))


def corollary_22_samples(d: int, eps: float) -> float:
    r"""Samples for a robust error of 1 % at :math:`\sigma \le d^{1/4} / 32`.

    1 up to :math:`\epsilon = d^{-1/4} / 4`, from there on :math:`64 \epsilon^2 \sqrt d`.

    Args:
        d: the dimension.
        eps: the radius, from 0 to 1/4.

    Example:
        >>> corollary_22_samples(2**16, 0.015), corollary_22_samples(2**16, 0.25)
        (1.0, 1024.0)

    Source: Schmidt et al. 2018, Corollary 22, p. 27.
    """
    d = count("d", d)
    eps = number("eps", eps, 0, 0.25)
    return 1.0 if eps <= 0.25 * d**-0.25 else 64 * eps**2 * math.sqrt(d)


def corollary_22(n: float, d: int, sigma: float, eps: float) -> Guarantee:
    r"""The mean estimator's l_inf-robust error is at most 1 %, given enough samples.

    Args:
        n: the number of samples, at least `corollary_22_samples(d, eps)`.
        d: the dimension.
        sigma: the noise of a coordinate, positive and at most d^(1/4) / 32.
        eps: the radius, from 0 to 1/4.

    Example:
        >>> corollary_22(1024, 2**16, 0.5, 0.25)
        Guarantee(error=0.01, probability=1.0)

    Source: Schmidt et al. 2018, Corollary 22, p. 27.
    """
    n, d, sigma = check_setting(n, d, sigma)
    least, most = corollary_22_samples(d, eps), d**0.25 / 32
    require(sigma <= most, "sigma", f"at most d^(1/4) / 32 = {most:.6g}", sigma)
    require(n >= least, "n", f"at least {least:.6g} (`corollary_22_samples`)", n)
    return Guarantee(0.01, success(d, sigma))


def theorem_5(n: float, d: int, sigma: float, eps: float) -> Guarantee:
    r"""A number of samples in proportion to :math:`\epsilon^2 \sqrt d` gives a robust error of 1 %.

    The paper's main text leaves the constants open; this is Corollary 22 (:math:`c_1 = 1/32`, :math:`c_2 = 64`).

    Example:
        >>> theorem_5(1024, 2**16, 0.5, 0.25).error
        0.01

    Source: Schmidt et al. 2018, Theorem 5; Corollary 22, p. 27.
    """
    return corollary_22(n, d, sigma, eps)


# ---- robust generalisation: lower bounds for any learner


def theorem_11(n: Real, d: Real, sigma: Real, eps: Real) -> Tensor:
    r"""No learner's expected l_inf-robust error is below this, prior :math:`\theta^* \sim N(0, I_d)`.

    .. math:: \tfrac12\, P_{v \sim N(0, I_d)}\Big[\sqrt{\tfrac{n}{\sigma^2 + n}}\, \|v\|_\infty \le \epsilon\Big]
              = \tfrac12 \Big(2 \Phi\Big(\epsilon \sqrt{\tfrac{\sigma^2 + n}{n}}\Big) - 1\Big)^d

    The expectation is over theta, the samples and the test point: for one fixed theta a learner that knows it does
    better.

    Args:
        n: the number of samples, not negative (0: the bound is 1/2).
        d: the dimension, at least 1.
        sigma: the noise of a coordinate, positive.
        eps: the radius, not negative.

    Returns:
        The bound, in the common shape of the arguments.

    Example:
        >>> [round(b, 4) for b in theorem_11(torch.tensor([0.0, 0.05, 0.1, 1.0]), 256, 2.0, 0.5).tolist()]
        [0.5, 0.4991, 0.3523, 0.0]

    Source: Schmidt et al. 2018, Theorem 11, p. 28, with the probability written out.
    """
    n, d, spread, eps = non_negative("n", n), positive("d", d), positive("sigma", sigma), non_negative("eps", eps)
    require(d >= 1, "d", "at least 1", d)
    u = torch.where(n > 0, eps * ((spread.square() + n) / n).sqrt(), math.inf)
    return 0.5 * torch.exp(d * torch.log1p(-2 * normal_cdf(-u)))


def theorem_11_samples(level: float, d: int, sigma: float, eps: float) -> float:
    r"""The number of samples at which the bound of Theorem 11 is `level`: with fewer, no learner expects less.

    .. math:: n = \frac{\sigma^2}{u^2 / \epsilon^2 - 1}, \qquad 2 \Phi(u) - 1 = (2 \cdot \text{level})^{1/d}

    Args:
        level: an error strictly between 0 and 1/2.
        d: the dimension.
        sigma: the noise of a coordinate, positive.
        eps: the radius, not negative.

    Returns:
        n, real; `math.inf` where the bound stays above the level for any n.

    Example:
        >>> round(theorem_11_samples(0.25, 2**16, 8.0, 0.5), 3)
        0.835
    """
    d = count("d", d)
    sigma = number("sigma", sigma, 0, above=True)
    eps = number("eps", eps, 0)
    level = open_interval("level", level, 0.5)
    tail = -math.expm1(math.log(2 * level) / d) / 2
    u = -float(ndtri(torch.tensor(tail, dtype=torch.float64)))
    return sigma**2 * eps**2 / (u**2 - eps**2) if u > eps else math.inf


def corollary_23_samples(d: int, sigma: float, eps: float) -> float:
    r"""The number of samples :math:`\epsilon^2 \sigma^2 / (8 \log d)` up to which Corollary 23 holds.

    Example:
        >>> round(corollary_23_samples(2**16, 8.0, 0.5), 4)
        0.1803
    """
    d = count("d", d, 2)
    sigma = number("sigma", sigma, 0, above=True)
    eps = number("eps", eps, 0)
    return eps**2 * sigma**2 / (8 * math.log(d))


def corollary_23(n: float, d: int, sigma: float, eps: float) -> float:
    r"""No learner's expected l_inf-robust error is below :math:`(1 - 1/d) / 2`, prior N(0, I), with so few samples.

    Args:
        n: the number of samples, from 0 to `corollary_23_samples(d, sigma, eps)`.
        d: the dimension, at least 2.
        sigma: the noise of a coordinate, positive.
        eps: the radius, not negative.

    Returns:
        The lower bound.

    Example:
        >>> corollary_23(0.1, 4, 8.0, 0.5)
        0.375

    Source: Schmidt et al. 2018, Corollary 23, p. 30.
    """
    n, d = number("n", n, 0), count("d", d, 2)
    most = corollary_23_samples(d, sigma, eps)
    require(n <= most, "n", f"at most eps^2 sigma^2 / (8 log d) = {most:.6g}", n)
    return (1 - 1 / d) / 2


def theorem_6(n: float, d: int, scale: float, eps: float) -> float:
    r"""At :math:`\sigma = c_1 d^{1/4}` every learner needs a number of samples that grows with d.

    .. math:: n > c_2\, \epsilon^2 \sqrt d / \log d, \qquad c_2 = c_1^2 / 8

    The paper leaves the constants open; this is Corollary 23 at that noise.

    Args:
        n: the number of samples, from 0 to :math:`c_2\, \epsilon^2 \sqrt d / \log d`.
        d: the dimension, at least 2.
        scale: c_1, positive.
        eps: the radius, not negative.

    Returns:
        The lower bound (1 - 1/d) / 2 on the expected robust error.

    Example:
        >>> theorem_6(0.1, 2**16, 0.5, 0.5) > 0.4999
        True

    Source: Schmidt et al. 2018, Theorem 6; Corollary 23, p. 30.
    """
    scale = number("scale", scale, 0, above=True)
    d = count("d", d, 2)
    return corollary_23(n, d, scale * d**0.25, eps)
