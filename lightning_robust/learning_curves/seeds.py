"""Means over seeds, with intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lightning_robust.cells.cells import Row
from lightning_robust.plots import Estimate


def mean_over_seeds(values: Sequence[float], within: Sequence[tuple[float, float]], count: int) -> Estimate:
    r"""The mean of models that differ in their seed.

    .. math:: \bar v \pm t_{0.975, S - 1} \, s / \sqrt{S}

    with Student's t for S seeds of standard deviation s. With one seed nothing is known of other seeds, and the
    interval is the model's own, that of the draw of the test images.

    Args:
        values: one for each seed.
        within: each one's own interval.
        count: the samples behind all.

    Example:
        >>> mean_over_seeds([0.1, 0.2, 0.3], [(0, 1)] * 3, 300).text()
        '20.0 % [-4.8, 44.8]'
    """
    from scipy.stats import t

    n = len(values)
    mean = sum(values) / n
    if n == 1:
        return Estimate(mean, *within[0], count)
    deviation = (sum((value - mean) ** 2 for value in values) / (n - 1)) ** 0.5
    half = float(t.ppf(0.975, n - 1)) * deviation / n**0.5
    return Estimate(mean, mean - half, mean + half, count)


def over_seeds(rows: Sequence[Row], names: Sequence[str]) -> dict[tuple[Any, ...], Estimate]:
    """For each combination of `names` the mean over its rows, in the order of their first appearance.

    Args:
        rows: with the columns `names`, value, low, high and count.
        names: what tells rows apart, all but the seed.
    """
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in names), []).append(row)
    return {
        key: mean_over_seeds(
            [row["value"] for row in group],
            [(row["low"], row["high"]) for row in group],
            max(1, sum(row["count"] for row in group)),
        )
        for key, group in groups.items()
    }


def share(estimate: Estimate) -> Estimate:
    """The same with its interval cut to [0, 1], which Student's t knows nothing of."""
    return replace(estimate, low=max(0.0, estimate.low), high=min(1.0, estimate.high))
