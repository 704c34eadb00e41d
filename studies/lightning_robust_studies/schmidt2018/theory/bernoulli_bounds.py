r"""Every bound of Schmidt et al. (2018) on the Bernoulli model, with its conditions.

Functions refuse arguments outside the conditions of their theorem. Logarithms are natural. Where the paper leaves a
universal constant open (Theorems 8, 9 and 10), the functions use the constant of the statement it follows from.
"""

import math

from lightning_robust._checks import count, number
from lightning_robust_studies.schmidt2018.theory._check import bernoulli_rate, open_interval, require
from lightning_robust_studies.schmidt2018.theory.bounds import Guarantee


def theorem_27(d: int, tau: float) -> Guarantee:
    r"""The standard error of :math:`\hat w = y_1 x_1`, learnt from one sample.

    .. math:: e^{-2 \tau^4 d} \text{ with probability } 1 - e^{-\tau^2 d / 2}

    Two applications of Hoeffding's inequality: first to the sample, then to the test point.

    Args:
        d: the dimension.
        tau: the advantage of a coordinate, 0 < tau <= 1/2.

    Example:
        >>> theorem_27(2**12, 0.2)
        Guarantee(error=2.0...e-06, probability=1.0)

    Source: Schmidt et al. 2018, Theorem 27, p. 32.
    """
    d = count("d", d)
    tau = bernoulli_rate(tau)
    return Guarantee(math.exp(-2 * tau**4 * d), -math.expm1(-(tau**2) * d / 2))


def corollary_28_tau(d: int, beta: float) -> float:
    r"""The least tau of Corollary 28, :math:`(\log(1/\beta) / (2 d))^{1/4}`.

    Example:
        >>> round(corollary_28_tau(1, 0.01), 4)
        1.2318
    """
    d = count("d", d)
    beta = open_interval("beta", beta)
    return (math.log(1 / beta) / (2 * d)) ** 0.25


def corollary_28(d: int, tau: float, beta: float) -> Guarantee:
    r"""One sample gives a standard error of beta.

    Args:
        d: the dimension.
        tau: the advantage of a coordinate, from :math:`(\log(1/\beta) / (2 d))^{1/4}` to 1/2.
        beta: the error, strictly between 0 and 1.

    Example:
        >>> corollary_28(2**12, 0.2, 0.01).error
        0.01

    Source: Schmidt et al. 2018, Corollary 28, p. 33.
    """
    tau, beta = bernoulli_rate(tau), open_interval("beta", beta)
    least = corollary_28_tau(d, beta)
    require(tau >= least, "tau", f"at least (log(1 / beta) / (2 d))^(1/4) = {least:.6g}", tau)
    return Guarantee(beta, theorem_27(d, tau).probability)


def theorem_8(d: int, tau: float) -> Guarantee:
    r"""One sample gives a standard error of 1 %, where :math:`\tau \ge c\, d^{-1/4}` with c = 1.2318.

    The paper leaves c open; this is Corollary 28 at beta = 0.01. On average over the sample, c = 0.7626 will do
    (`one_sample_error`).

    Example:
        >>> theorem_8(2**12, 0.2).error
        0.01

    Source: Schmidt et al. 2018, Theorem 8; Corollary 28, p. 33.
    """
    return corollary_28(d, tau, 0.01)


def lemma_29(n: float, tau: float, delta: float) -> float:
    r"""Bound the posterior log-odds of a bit of theta.

    .. math:: |\log \text{odds}| \le 15 \tau \sqrt{2 n \log(2 / \delta)} \text{ with probability } 1 - \delta

    After n samples the odds of :math:`\theta^*_i = +1` are
    :math:`\prod_k \big(\frac{1/2 + \tau}{1/2 - \tau}\big)^{y_k x_{k,i}}`, uniform prior.

    Args:
        n: the number of samples, positive and at most :math:`1 / \tau^2`.
        tau: the advantage of a coordinate, 0 < tau <= 1/4.
        delta: strictly between 0 and 1.

    Example:
        >>> round(lemma_29(10, 0.05, 0.01), 3)
        7.72

    Source: Schmidt et al. 2018, Lemma 29, in the proof of Theorem 31, p. 35.
    """
    n = number("n", n, 0, above=True)
    tau = bernoulli_rate(tau, 0.25)
    delta = open_interval("delta", delta)
    require(n <= 1 / tau**2, "n", f"at most 1 / tau^2 = {1 / tau**2:.6g}", n)
    return 15 * tau * math.sqrt(2 * n * math.log(2 / delta))


def theorem_31_samples(d: int, tau: float, eps: float, gamma: float) -> float:
    r"""The number of samples up to which Theorem 31 holds.

    .. math:: \epsilon^2 \gamma^2 / (5000\, \tau^4 \log(4 d / \gamma))

    Args:
        d: the dimension.
        tau: the advantage of a coordinate, 0 < tau <= 1/4.
        eps: the radius, from 0 to below 3 tau.
        gamma: strictly between 0 and 1/2.

    Example:
        >>> round(theorem_31_samples(2**20, 0.01, 0.02, 0.25), 4)
        0.0301
    """
    d = count("d", d)
    tau = bernoulli_rate(tau, 0.25)
    eps = number("eps", eps, 0)
    require(eps < 3 * tau, "eps", f"less than 3 tau = {3 * tau:.6g}", eps)
    gamma = open_interval("gamma", gamma, 0.5)
    return eps**2 * gamma**2 / (5000 * tau**4 * math.log(4 * d / gamma))


def theorem_31(n: float, d: int, tau: float, eps: float, gamma: float) -> float:
    r"""No learner of linear classifiers has an expected l_inf-robust error below 1/2 - gamma with so few samples.

    The expectation is over :math:`\theta^*` uniform on the corners, the samples and the test point. The bound is for
    linear classifiers only: behind a threshold, one sample suffices (`theorem_10`).

    Args:
        n: the number of samples, from 0 to `theorem_31_samples(d, tau, eps, gamma)`.
        d: the dimension.
        tau: the advantage of a coordinate, 0 < tau <= 1/4.
        eps: the radius, from 0 to below 3 tau.
        gamma: strictly between 0 and 1/2.

    Returns:
        The lower bound.

    Example:
        >>> theorem_31(0.02, 2**20, 0.01, 0.02, 0.25)
        0.25

    Source: Schmidt et al. 2018, Theorem 31, p. 35.
    """
    n, gamma = number("n", n, 0), open_interval("gamma", gamma, 0.5)
    most = theorem_31_samples(d, tau, eps, gamma)
    require(n <= most, "n", f"at most eps^2 gamma^2 / (5000 tau^4 log(4 d / gamma)) = {most:.6g}", n)
    return 0.5 - gamma


def theorem_9(n: float, d: int, scale: float, eps: float, gamma: float) -> float:
    r"""At :math:`\tau = c_1 d^{-1/4}` linear learners need a number of samples that grows with d.

    .. math:: n > c_2\, \epsilon^2 \gamma^2 d / \log(4 d / \gamma), \qquad c_2 = 1 / (5000\, c_1^4)

    The paper leaves the constants open; this is Theorem 31 at that tau. As eps stays below 3 tau, the number is at most
    of order :math:`\sqrt d / \log d`.

    Args:
        n: the number of samples, from 0 to the number above.
        d: the dimension.
        scale: c_1, positive, with :math:`\tau = c_1 d^{-1/4}` at most 1/4.
        eps: the radius, from 0 to below 3 tau.
        gamma: strictly between 0 and 1/2.

    Returns:
        The lower bound 1/2 - gamma on the expected robust error.

    Example:
        >>> theorem_9(0.005, 2**20, 0.5, 0.02, 0.25)
        0.25

    Source: Schmidt et al. 2018, Theorem 9; Theorem 31, p. 35.
    """
    d = count("d", d)
    scale = number("scale", scale, 0, above=True)
    tau = scale * d**-0.25
    require(tau <= 0.25, "scale", f"at most d^(1/4) / 4 = {d**0.25 / 4:.6g}, so that tau <= 1/4", scale)
    return theorem_31(n, d, tau, eps, gamma)


def theorem_10(d: int, tau: float, eps: float) -> Guarantee:
    r"""Behind the threshold T, one sample gives an l_inf-robust error of 1 %, at every eps < 1 at once.

    As the threshold undoes any such attack, the condition on tau is that of Theorem 8: :math:`\tau \ge c\, d^{-1/4}`, c
    = 1.2318.

    Args:
        d: the dimension.
        tau: the advantage of a coordinate, from 1.2318 d^(-1/4) to 1/2.
        eps: the radius, from 0 to below 1.

    Example:
        >>> theorem_10(2**12, 0.2, 0.9).error
        0.01

    Source: Schmidt et al. 2018, Theorem 10, p. 7.
    """
    eps = number("eps", eps, 0, 1, below=True)
    return theorem_8(d, tau)
