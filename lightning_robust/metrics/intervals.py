"""Confidence intervals for proportions and for differences of paired ones, in float64."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from lightning_robust._checks import count
from lightning_robust._wilson import wilson_low
from lightning_robust.metrics._checks import amounts, coverage

_NEAR = 3
"""Differences of up to so many samples are tested by McNemar's test: enough up to 10,000 that differ, as measured."""


def wilson_interval(
    successes: float | Tensor, total: float | Tensor, confidence: float = 0.95
) -> tuple[Tensor, Tensor]:
    r"""Wilson score interval of a proportion.

    The set of all success probabilities :math:`q` that the score test does not reject, with :math:`s` successes among
    :math:`n` samples and the normal quantile :math:`z = \Phi^{-1}((1 + \text{confidence}) / 2)`:

    .. math:: |s - n q| \le z \sqrt{n q (1 - q)}.

    Its lower end is written here without cancellation, so that it is exactly 0 for :math:`s = 0`,

    .. math:: \text{low}(s, n) = \frac{s^2 / n}{s + z^2/2 + z \sqrt{s (n - s) / n + z^2/4}},

    and its upper end is :math:`1 - \text{low}(n - s, n)`. Unlike the textbook interval :math:`\hat q \pm z \sqrt{\hat
    q (1 - \hat q) / n}` it stays inside [0, 1] and keeps a sensible width for proportions at or near 0 and 1, where
    robust accuracies often are.

    Args:
        successes: Number of successes, from 0 to ``total``: a number or a tensor of any shape. Fractions are welcome
            (effective sample sizes).
        total: Number of samples, at least 0; broadcasts with ``successes``. With no samples nothing is known, and the
            interval is (0, 1), the limit of the formula.
        confidence: Nominal coverage, strictly between 0 and 1.

    Returns:
        The lower and the upper end, float64 tensors of the common shape.

    Example:
        >>> low, high = wilson_interval(45, 100)
        >>> print(f"{low:.4f} {high:.4f}")
        0.3561 0.5476

    References:
        E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927).
        L. D. Brown, T. T. Cai, A. DasGupta, Interval estimation for a binomial proportion, Stat. Sci. 16 (2001).
    """
    s, n = amounts("successes", successes), amounts("total", total)
    if not bool((s <= n).all()):
        raise ValueError(f"Expected argument `successes` to be from 0 to `total`, but got {successes} of {total}.")
    z = torch.special.ndtri(torch.tensor((1 + coverage(confidence)) / 2, dtype=torch.float64)).item()

    total_or_tiny = n.clamp(min=torch.finfo(torch.float64).tiny)
    return wilson_low(s, total_or_tiny, z), 1 - wilson_low(n - s, total_or_tiny, z)


def clustered_interval(
    hits: float | Tensor, squares: float | Tensor, clusters: float | Tensor, size: int, confidence: float = 0.95
) -> tuple[Tensor, Tensor]:
    r"""Experimental. Interval of a proportion over correlated trials: Wilson's, with the effective sample size.

    The upper bound on that size and the rule for no variance are ours, so they may change.

    Each of :math:`n` independent clusters (samples) is tried :math:`A` times (restarts of a randomized attack), with
    :math:`k_i` hits. The trials within a cluster are correlated, so the :math:`n A` trials must not be counted as
    independent ones. The unit is the cluster, with the proportion :math:`p_i = k_i / A`, mean :math:`m` and variance
    :math:`v = \frac1n \sum_i (p_i - m)^2` over the clusters. A binomial proportion of the same variance would come from

    .. math:: n_\text{eff} = n \frac{m (1 - m)}{v}, \qquad n \le n_\text{eff} \le n A,

    samples. The left bound holds by itself, and is met where all trials of a cluster agree; the right one, the size for
    independent trials, is enforced. The interval is ``wilson_interval(m * n_eff, n_eff)``. Where all trials hit or none
    does, and where there is only one cluster, :math:`v` says nothing and :math:`n_\text{eff} = n`, the cautious choice.
    With A = 1 this is exactly Wilson's interval. The variance is estimated, so the coverage is nominal only for many
    clusters.

    Args:
        hits: The sum of all k_i.
        squares: The sum of all k_i squared.
        clusters: Number n of clusters; with 0 the interval is (0, 1).
        size: Number A of trials of each cluster, at least 1.
        confidence: Nominal coverage, strictly between 0 and 1.

    Returns:
        The lower and the upper end, float64 tensors of the common shape.

    Example:
        Of 100 samples 40 are fooled by all five restarts and 60 by none: no more is known than from one restart.

        >>> low, high = clustered_interval(hits=200, squares=1000, clusters=100, size=5)
        >>> print(f"{low:.4f} {high:.4f}")
        0.3094 0.4980
        >>> low, high = wilson_interval(40, 100)
        >>> print(f"{low:.4f} {high:.4f}")
        0.3094 0.4980

    References:
        C. Franco, R. J. A. Little, T. A. Louis, E. V. Slud, Comparative study of confidence intervals for proportions
        in complex sample surveys, J. Survey Stat. Methodol. 7 (2019), recommend Wilson's interval with the effective
        sample size.
    """
    s, q, n = amounts("hits", hits), amounts("squares", squares), amounts("clusters", clusters)
    trials = n * count("size", size)
    if not bool((s <= trials).all()):
        raise ValueError(f"Expected argument `hits` to be at most `clusters` times `size`, but got {hits}.")
    numerator, denominator = s * (trials - s), n * q - s**2
    extreme = (numerator == 0) | (n <= 1)
    effective = torch.where(extreme, n, (n * numerator / denominator).clamp(min=n, max=trials))
    return wilson_interval(s / trials.clamp(min=1) * effective, effective, confidence)


def mcnemar_test(only_first: int, only_second: int) -> Tensor:
    r"""McNemar's exact test: are two models right equally often, where each is tried on the same samples?

    Only samples on which one of the two is right say something. If both are right equally often, then among the
    :math:`m` such samples those of the first are :math:`B \sim \text{Bin}(m, 1/2)`. With the counts :math:`b` and
    :math:`c` the two-sided p-value is

    .. math:: p = \min(1, 2 P(B \le \min(b, c))).

    It is the probability of a result at least as uneven as this one if there is no difference; a model with p < 0.05 is
    called better by at most 5 % of tests of equal models. It is 1 where no sample says something.

    Args:
        only_first: Number b of samples on which the first model is right and the second is wrong.
        only_second: Number c of samples on which it is the other way round.

    Returns:
        The p-value, a float64 tensor without dimensions.

    Example:
        >>> print(f"{mcnemar_test(2, 9).item():.4f}")
        0.0654

    References:
        Q. McNemar, Note on the sampling error of the difference between correlated proportions or percentages,
        Psychometrika 12 (1947); the exact form is in M. W. Fagerland, S. Lydersen, P. Laake, Stat. Med. 33 (2014).
    """
    b, c = count("only_first", only_first, 0), count("only_second", only_second, 0)
    return (2 * _binomial_cdf(min(b, c), b + c, 0.5)).clamp(max=1)


def paired_interval(only_first: int, only_second: int, total: int, confidence: float = 0.95) -> tuple[Tensor, Tensor]:
    r"""Interval for the difference of two accuracies on the same samples, by the exact distribution of the counts.

    Each of :math:`n` samples adds +1 to :math:`D` where only the first model is right, -1 where only the second is, and
    0 otherwise, with unknown probabilities :math:`(\psi + \delta) / 2`, :math:`(\psi - \delta) / 2` and
    :math:`1 - \psi`. The difference of the accuracies is :math:`\delta`; it is estimated by :math:`D / n`. With
    :math:`D = d`, :math:`\alpha = 1 - \text{confidence}` and :math:`\beta = \alpha / 50`, the lower end is the least
    :math:`\delta` with

    .. math:: \max_{|\delta| \le \psi \le \psi_u} P_{\delta, \psi}(D \ge d) + \beta > \alpha / 2,

    where :math:`\psi_u` is the upper Clopper-Pearson bound of :math:`\psi`, which fails with probability
    :math:`0.9\,\beta` (Berger and Boos). McNemar's exact test takes the place of this one for :math:`-3/n \le \delta
    \le 0`, so that the interval and the p-value agree: 0 is outside, or is itself the end, where p is at most
    :math:`\alpha`. The upper end is that of the models swapped, with the other sign.

    As each value of :math:`\delta` has one test, fixed beforehand and valid at :math:`\alpha / 2`, the interval covers
    at least as often as it says, if the maximum is right. The distribution of D is computed exactly, by a Fourier
    transform, but the maximum is over 48 values of :math:`\psi`. Half of them are close to :math:`\psi_u`, for near 1
    the parity of D makes waves. For what lies between the values :math:`0.1\,\beta = \alpha / 500` is kept; the most
    found there was :math:`\alpha / 1600`, with 5 to 1,000 samples. This is measured, not proven.

    The shorter conditional interval, Clopper-Pearson's for the share of the first model among the samples that differ,
    times their number over n, takes that number as known: where only one model is ever right alone it ends at the
    estimate itself, and covers half of the time.

    Args:
        only_first: Number of samples on which the first model is right and the second is wrong.
        only_second: Number of samples on which it is the other way round.
        total: Number of samples, at least 1.
        confidence: Least coverage, strictly between 0 and 1.

    Returns:
        The lower and the upper end of the first accuracy minus the second one, float64 tensors without dimensions.

    Example:
        >>> low, high = paired_interval(62, 38, 1000)
        >>> print(f"{low:.4f} {high:.4f}")
        0.0007 0.0470

    References:
        R. L. Berger, D. D. Boos, P values maximized over a confidence set for the nuisance parameter, JASA 89 (1994).
        C. J. Clopper, E. S. Pearson, The use of confidence or fiducial limits illustrated in the case of the binomial,
        Biometrika 26 (1934).
    """
    n, alpha = count("total", total), 1 - coverage(confidence)
    b, c = count("only_first", only_first, 0), count("only_second", only_second, 0)
    if b + c > n:
        raise ValueError(
            f"Expected argument `total` to be at least `only_first` plus `only_second`, {b + c}, but got {total}."
        )
    beta = alpha / 50
    most = 1.0 if b + c == n else _first_true(lambda psi: bool(_binomial_cdf(b + c, n, psi) <= 0.9 * beta), 0.0, 1.0)
    differ, near = float(mcnemar_test(b, c)) <= alpha, min(_NEAR / n, 1.0)

    def low(d: int) -> float:
        end = _least_difference(n, d, most, alpha / 2 - beta)
        if differ and d > 0:
            return max(end, 0.0) if end > -near else end
        return min(end, -near)

    ends = torch.tensor([low(b - c), -low(c - b)], dtype=torch.float64)
    return ends[0], ends[1]


def _first_true(test: Callable[[float], bool], low: float, high: float) -> float:
    """Where a test, false at first and true later, becomes true in [low, high], to within 1e-9."""
    if test(low):
        return low
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (low, middle) if test(middle) else (middle, high)
    return high


def _binomial_cdf(k: int, n: int, p: float) -> Tensor:
    """P(X <= k) for X ~ Bin(n, p), 0 < p < 1."""
    x, size = torch.arange(k + 1, dtype=torch.float64), torch.tensor(float(n), dtype=torch.float64)
    ways = (size + 1).lgamma() - (x + 1).lgamma() - (size - x + 1).lgamma()
    chance = torch.tensor(p, dtype=torch.float64)
    return (ways + x * chance.log() + (size - x) * (-chance).log1p()).logsumexp(0).exp()


def _least_difference(n: int, d: int, most: float, level: float) -> float:
    """The least delta at which P(D >= d) is above `level` for one of 48 psi, to within 1e-9, see `paired_interval`.

    A psi is a share of the way from |delta| to `most`. With the share held, a larger delta has more steps up and fewer
    steps down, so the probability rises. One share after the other is asked, as long as another one has a lesser end.
    """
    apart, close = torch.linspace(0, 1, 24).double(), torch.logspace(-math.log10(8 * n), 0, 24).double()
    shares = (1 - torch.cat([apart, close])).tolist()

    def above(delta: float, share: float) -> float:
        return _tail(n, d, delta, abs(delta) + share * (most - abs(delta)), most) - level

    asked = [1.0]
    while True:
        end = _first_true(lambda delta: any(above(delta, share) > 0 for share in asked), -most, min(most, d / n))
        below = end - 1e-9
        best = max(shares, key=lambda share: above(below, share)) if below > -most else 1.0
        if best in asked or above(below, best) <= 0:
            return end
        asked.append(best)


def _tail(n: int, d: int, delta: float, psi: float, most: float) -> float:
    """P(D >= d), D the sum of n steps that have the mean delta and are not 0 with the probability psi <= most.

    The probabilities are the Fourier coefficients of the n-th power of the steps' characteristic function. More steps
    than `reach` that are not 0 have a probability below 1e-17, so that the period may be little more than twice that.
    """
    reach = min(n, int(n * most + 9 * (n * most) ** 0.5 + 40))
    period = 1 << (2 * reach + 1).bit_length()
    angle = 2 * torch.pi / period * torch.arange(period, dtype=torch.float64)
    steps = torch.complex(1 - psi + psi * angle.cos(), delta * angle.sin())
    chances = torch.fft.fft(steps**n).real / period
    return float(chances.roll(reach)[max(0, d + reach) : 2 * reach + 1].sum())
