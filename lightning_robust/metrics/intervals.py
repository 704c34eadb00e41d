"""Confidence intervals for proportions, in closed form and float64."""

import torch
from torch import Tensor

from lightning_robust._checks import count
from lightning_robust.metrics._checks import amounts, coverage


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

    def low(s: Tensor) -> Tensor:
        rate = s / n.clamp(min=torch.finfo(torch.float64).tiny)
        return s * rate / (s + z**2 / 2 + z * (rate * (n - s) + z**2 / 4).sqrt())

    return low(s), 1 - low(n - s)


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
