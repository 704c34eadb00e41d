r"""The pieces of the upper bounds of Schmidt et al. (2018) on the Gaussian model, with their conditions; see `bounds`.

They speak of the mean estimator :math:`\hat w = \bar z / \|\bar z\|_2` where :math:`\|\theta^*\|_2 = \sqrt d`.
"""

import math

import torch
from torch import Tensor

from lightning_robust._checks import count, number
from lightning_robust_studies.schmidt2018.theory._check import open_interval, require, same_size, vector
from lightning_robust_studies.schmidt2018.theory.gaussian import dual_norm


def check_setting(n: float, d: int, sigma: float) -> tuple[float, int, float]:
    """Take the number of samples, the dimension and the noise."""
    return number("n", n, 0, above=True), count("d", d), number("sigma", sigma, 0, above=True)


def success(d: int, sigma: float) -> float:
    """1 - 2 exp(-d / (8 (sigma^2 + 1))), the probability of the event of Lemma 16; 0 where that is negative."""
    return max(0.0, 1 - 2 * math.exp(-d / (8 * (sigma**2 + 1))))


def ratio(n: float, sigma: float) -> float:
    """(2 sqrt n - 1) / (2 sqrt n + 4 sigma), the alignment of Lemma 16 in units of sqrt d."""
    return (2 * math.sqrt(n) - 1) / (2 * math.sqrt(n) + 4 * sigma)


def fact_12(t: float, sigma: float) -> float:
    r"""Bound the tail of a length: the probability that :math:`\|z\|_2`, :math:`z \sim N(0, \sigma^2 I_d)`, is large.

    .. math:: P[\|z\|_2 \ge \sigma \sqrt d + t] \le e^{-t^2 / (2 \sigma^2)}, \qquad t \ge 0

    Example:
        >>> round(fact_12(2.0, 1.0), 4)
        0.1353

    Source: Schmidt et al. 2018, Fact 12, p. 22.
    """
    t = number("t", t, 0)
    sigma = number("sigma", sigma, 0, above=True)
    return math.exp(-(t**2) / (2 * sigma**2))


def lemma_13(n: float, d: int, sigma: float, norm: float, delta: float) -> float:
    r"""The length that :math:`\|\bar z\|_2` reaches with probability at most delta.

    .. math:: \|\mu\| + \sigma (\sqrt d + \sqrt{2 \log (1/\delta)}) / \sqrt n

    Args:
        n: the number of samples, positive.
        d: the dimension.
        sigma: the noise of a coordinate, positive.
        norm: the length of the mean mu, not negative.
        delta: strictly between 0 and 1.

    Example:
        >>> round(lemma_13(4, 100, 1.0, 10.0, 0.01), 3)
        16.517

    Source: Schmidt et al. 2018, Lemma 13, p. 22.
    """
    n, d, sigma = check_setting(n, d, sigma)
    norm = number("norm", norm, 0)
    delta = open_interval("delta", delta)
    return norm + sigma * (math.sqrt(d) + math.sqrt(2 * math.log(1 / delta))) / math.sqrt(n)


def lemma_14(n: float, d: int, sigma: float) -> tuple[float, float]:
    r"""A length, and a bound on the probability that :math:`\|\bar z\|_2` reaches it, for a mean of length sqrt d.

    .. math:: P[\|\bar z\|_2 \ge (1 + 2 \sigma / \sqrt n) \sqrt d] \le e^{-d/2}

    Example:
        >>> lemma_14(4, 4, 1.0)
        (4.0, 0.1353...)

    Source: Schmidt et al. 2018, Lemma 14, p. 23 (norm of the mean: sqrt d).
    """
    n, d, sigma = check_setting(n, d, sigma)
    return (1 + 2 * sigma / math.sqrt(n)) * math.sqrt(d), math.exp(-d / 2)


def lemma_15(n: float, sigma: float, norm: float, delta: float) -> float:
    r"""The alignment that :math:`\langle \bar z, \mu \rangle` misses with probability at most delta.

    .. math:: \|\mu\|^2 - \sigma \|\mu\| \sqrt{2 \log(1/\delta) / n}

    Args:
        n: the number of samples, positive.
        sigma: the noise of a coordinate, positive.
        norm: the length of the mean mu, not negative.
        delta: strictly between 0 and 1.

    Example:
        >>> round(lemma_15(4, 1.0, 10.0, 0.01), 3)
        84.826

    Source: Schmidt et al. 2018, Lemma 15, p. 23.
    """
    n = number("n", n, 0, above=True)
    sigma = number("sigma", sigma, 0, above=True)
    norm = number("norm", norm, 0)
    delta = open_interval("delta", delta)
    return norm**2 - sigma * norm * math.sqrt(2 * math.log(1 / delta) / n)


def lemma_16(n: float, d: int, sigma: float) -> tuple[float, float]:
    r"""The alignment of the mean estimator with the mean, and the probability of missing it.

    .. math:: P\Big[\langle \hat w, \mu \rangle \le \frac{2 \sqrt n - 1}{2 \sqrt n + 4 \sigma} \sqrt d\Big]
              \le 2 \exp\Big(-\frac{d}{8 (\sigma^2 + 1)}\Big)

    Returns:
        The alignment and the bound on the probability of falling short of it (which may exceed 1).

    Example:
        >>> alignment, missed = lemma_16(4, 100, 1.0)
        >>> round(alignment, 3), round(missed, 4)
        (3.75, 0.0039)

    Source: Schmidt et al. 2018, Lemma 16, p. 23.
    """
    n, d, sigma = check_setting(n, d, sigma)
    return ratio(n, sigma) * math.sqrt(d), 2 * math.exp(-d / (8 * (sigma**2 + 1)))


def lemma_17(alignment: float, rho: float, sigma: float) -> float:
    r"""Bound the probability of a margin below rho, for w of unit length and :math:`z \sim N(\mu, \sigma^2 I)`.

    .. math:: P[\langle w, z \rangle \le \rho] \le e^{-(\langle w, \mu \rangle - \rho)^2 / (2 \sigma^2)}

    Args:
        alignment: the inner product of w and mu, at least rho.
        rho: the margin asked for, not negative.
        sigma: the noise of a coordinate, positive.

    Example:
        >>> round(lemma_17(3.0, 1.0, 1.0), 4)
        0.1353

    Source: Schmidt et al. 2018, Lemma 17.
    """
    sigma = number("sigma", sigma, 0, above=True)
    rho = number("rho", rho, 0)
    alignment = number("alignment", alignment)
    require(alignment >= rho, "alignment", f"at least `rho` = {rho}", alignment)
    return math.exp(-((alignment - rho) ** 2) / (2 * sigma**2))


def lemma_20(w: Tensor, theta: Tensor, sigma: float, eps: float, *, p: float = math.inf) -> float:
    r"""Bound the l_p-robust error of a linear classifier, w of unit length.

    .. math:: e^{-(\langle w, \theta^* \rangle - \epsilon \|w\|_q)^2 / (2 \sigma^2)}

    Args:
        w: weights, shape (d,), not zero; they are scaled to unit length here. The margin after the attack must not be
            negative.
        theta: the mean of the class +1, shape (d,).
        sigma: the noise of a coordinate, positive.
        eps: the radius, not negative.
        p: the order of the norm of the perturbation, at least 1.

    Returns:
        An upper bound on the robust error; `gaussian_error` is its exact value.

    Example:
        >>> round(lemma_20(torch.ones(4), torch.ones(4), 1.0, 0.5), 4)
        0.6065

    Source: Schmidt et al. 2018, Lemma 20, p. 25.
    """
    w, theta = vector("w", w), vector("theta", theta)
    same_size("theta", theta, w)
    sigma = number("sigma", sigma, 0, above=True)
    eps = number("eps", eps, 0)
    norm = torch.linalg.vector_norm(w)
    require(norm > 0, "w", "not zero", w)
    margin = float(((w * theta).sum() - eps * dual_norm(w, p)) / norm)
    expectation = "such that <w, theta> is at least eps times the dual norm of w"
    require(margin >= 0, "w", expectation, f"a margin of {margin:.6g}")
    return math.exp(-(margin**2) / (2 * sigma**2))
