"""Sums and differences of learning curves, seed by seed: whether accuracy still rises, and which one rises more."""

import math
from collections.abc import Sequence

from lightning_robust.learning_curves.per_seed import Curves, shared_sizes
from lightning_robust.learning_curves.seeds import mean_over_seeds
from lightning_robust.plots import Estimate


def contrast(terms: Sequence[tuple[int, Curves, float]]) -> Estimate:
    r"""A sum and difference of accuracies, each seed with itself, then the mean over seeds.

    .. math:: v_s = \sum_i \sigma_i \, \text{acc}_{i,s}(n_i), \qquad \sigma_i = \pm 1

    The interval is Student's t over seeds (`mean_over_seeds`), so what a seed does to all of its terms cancels. It is
    about other seeds on these test images. Of one seed nothing is known of others, and the interval is that of the draw
    of the images, with the terms' Wilson intervals :math:`[l_i, u_i]` added in squares,

    .. math:: v - \Big(\sum_{\sigma_i = 1} (\text{acc}_i - l_i)^2
        + \sum_{\sigma_i = -1} (u_i - \text{acc}_i)^2\Big)^{1/2}

    and so upwards; for terms on the same images this is too wide rather than too narrow.

    Args:
        terms: for each its sign (1 or -1), the curves of the seeds, and the size at which they are read.

    Raises:
        ValueError: there are no terms, a sign is another, or the terms differ in their seeds.

    Example:
        >>> from lightning_robust.learning_curves.per_seed import Curve
        >>> curves = {0: Curve(n=(500, 2000), accuracy=(0.6, 0.75), count=(1000, 1000))}
        >>> contrast([(1, curves, 2000), (-1, curves, 500)]).text()
        '15.0 % [10.9, 19.0]'

    References:
        R. G. Newcombe, Interval estimation for the difference between independent proportions, Stat. Med. 17 (1998),
        method 10; G. Y. Zou, A. Donner, Construction of confidence limits about effect measures, Stat. Med. 27 (2008).
    """
    if not terms or any(sign not in (1, -1) for sign, _, _ in terms):
        raise ValueError(f"Expected argument `terms` to have signs 1 and -1, but got {[term[0] for term in terms]}.")
    seeds = list(terms[0][1])
    if any(set(curves) != set(seeds) for _, curves, _ in terms) or not seeds:
        got = [list(curves) for _, curves, _ in terms]
        raise ValueError(f"Expected argument `terms` to have curves of the same seeds, at least one, but got {got}.")
    values, within = [], []
    for seed in seeds:
        read = [(sign, *curves[seed].at(n)) for sign, curves, n in terms]
        value = sum(sign * v for sign, v, _, _ in read)
        down = math.hypot(*(v - low if sign > 0 else high - v for sign, v, low, high in read))
        up = math.hypot(*(high - v if sign > 0 else v - low for sign, v, low, high in read))
        values.append(value)
        within.append((value - down, value + up))
    first = terms[0][1]
    return mean_over_seeds(values, within, sum(curve.count[curve.n.index(terms[0][2])] for curve in first.values()))


def still_rising(curves: Curves, since: float | None = None) -> Estimate:
    """By how much the accuracy at the largest size exceeds that at a smaller one, with the interval of `contrast`.

    Args:
        curves: the curve of each seed, with the same sizes.
        since: the smaller size; None is the one before the largest.

    Raises:
        ValueError: the curves differ in their sizes, there is but one, or `since` is none of the smaller ones.

    Example:
        >>> from lightning_robust.learning_curves.per_seed import Curve
        >>> curves = {
        ...     seed: Curve(n=(500, 1000, 2000), accuracy=(0.5, 0.6 + shift, 0.65 + shift), count=(1000,) * 3)
        ...     for seed, shift in enumerate((0, 0.02, 0.05))
        ... }
        >>> still_rising(curves).text()
        '5.0 % [5.0, 5.0]'
    """
    last, before = last_step(curves, since)
    return contrast([(1, curves, last), (-1, curves, before)])


def rises_more(curves: Curves, others: Curves, since: float | None = None) -> Estimate:
    """The rise of some curves less that of others, each seed with itself, with the interval of `contrast`.

    Args:
        curves: the curve of each seed, with the same sizes.
        others: those of the same seeds and sizes to set them against.
        since: where the rise is counted from, as for `still_rising`.

    Raises:
        ValueError: as for `still_rising` and `contrast`.

    Example:
        >>> from lightning_robust.learning_curves.per_seed import Curve
        >>> robust = {0: Curve(n=(500, 2000), accuracy=(0.2, 0.5), count=(1000, 1000))}
        >>> standard = {0: Curve(n=(500, 2000), accuracy=(0.9, 0.95), count=(1000, 1000))}
        >>> rises_more(robust, standard).text()
        '25.0 % [20.3, 29.5]'
    """
    last, before = last_step(curves, since)
    return contrast([(1, curves, last), (-1, curves, before), (-1, others, last), (1, others, before)])


def last_step(curves: Curves, since: float | None = None) -> tuple[float, float]:
    """The largest size, and `since` or, where it is None, the size before it."""
    sizes = shared_sizes(curves)
    if len(sizes) < 2:
        raise ValueError(f"Expected argument `curves` to have at least two sizes, but got {sizes}.")
    if since is not None and since not in sizes[:-1]:
        raise ValueError(f"Expected argument `since` to be one of the smaller sizes {sizes[:-1]}, but got {since}.")
    return sizes[-1], sizes[-2] if since is None else since
