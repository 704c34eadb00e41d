"""Means over seeds, and sums and differences of learning curves, with intervals over seeds."""

import math
from collections.abc import Sequence

from lightning_robust.learning_curves.curves import Curves
from lightning_robust.plots import Estimate


def mean_over_seeds(values: Sequence[float], within: Sequence[tuple[float, float]], count: int) -> Estimate:
    r"""The mean of models that differ in their seed, :math:`\bar v \pm t_{0.975, S - 1} \, s / \sqrt{S}`.

    With Student's t for S seeds of standard deviation s. One seed says nothing about other seeds; the interval is then
    the model's own, that of the draw of the test samples.

    Args:
        values: One for each seed.
        within: The own interval of each.
        count: The number of samples behind all.

    Example:
        >>> mean_over_seeds([0.1, 0.2, 0.3], [(0, 1)] * 3, 300).text()
        '20.0 % [-4.8, 44.8]'
    """
    mean = sum(values) / len(values)
    if len(values) == 1:
        return Estimate(mean, *within[0], count)
    half = half_width(values)
    return Estimate(mean, mean - half, mean + half, count)


def half_width(values: Sequence[float]) -> float:
    """Half the width of Student's 95 % interval of the mean of two or more values."""
    from scipy.stats import t

    n, mean = len(values), sum(values) / len(values)
    deviation = (sum((value - mean) ** 2 for value in values) / (n - 1)) ** 0.5
    return float(t.ppf(0.975, n - 1)) * deviation / n**0.5


def contrast(terms: Sequence[tuple[int, Curves, float]]) -> Estimate:
    r"""A signed sum of accuracies, :math:`v_s = \sum_i \sigma_i \, \text{acc}_{i,s}(n_i)`, and its mean over seeds s.

    The interval is Student's t of the :math:`v_s`, so what a seed does to all terms cancels. With one seed it is that
    of the draw of the test samples, from the terms' Wilson intervals :math:`[l_i, u_i]`:

    .. math:: v - \Big(\sum_{\sigma_i = 1} (\text{acc}_i - l_i)^2
        + \sum_{\sigma_i = -1} (u_i - \text{acc}_i)^2\Big)^{1/2}

    and likewise upwards. For terms on the same samples this is too wide rather than too narrow.

    Args:
        terms: For each term its sign (1 or -1), the curves, and the size at which they are read.

    Raises:
        ValueError: There are no terms, a sign is another, or the terms differ in their seeds.

    Example:
        Does the accuracy still rise?

        >>> curves = Curves(n=(500, 2000), accuracy={0: (0.6, 0.75)}, count=(1000, 1000))
        >>> contrast([(1, curves, 2000), (-1, curves, 500)]).text()
        '15.0 % [10.9, 19.0]'

    References:
        R. G. Newcombe, Interval estimation for the difference between independent proportions, Stat. Med. 17 (1998),
        method 10; G. Y. Zou, A. Donner, Construction of confidence limits about effect measures, Stat. Med. 27 (2008).
    """
    if not terms or any(sign not in (1, -1) for sign, _, _ in terms):
        raise ValueError(f"Expected argument `terms` to have signs 1 and -1, but got {[term[0] for term in terms]}.")
    seeds = [set(curves.accuracy) for _, curves, _ in terms]
    if any(each != seeds[0] for each in seeds):
        raise ValueError(f"Expected argument `terms` to have curves of the same seeds, but got {seeds}.")
    values, within = [], []
    for seed in terms[0][1].accuracy:
        value, down, up = 0.0, 0.0, 0.0
        for sign, curves, n in terms:
            accuracy, low, high = curves.at(n)[seed]
            below, above = (accuracy - low, high - accuracy)[::sign]
            value, down, up = value + sign * accuracy, math.hypot(down, below), math.hypot(up, above)
        values.append(value)
        within.append((value - down, value + up))
    _, first, n = terms[0]
    return mean_over_seeds(values, within, len(values) * first.count[list(first.n).index(n)])
