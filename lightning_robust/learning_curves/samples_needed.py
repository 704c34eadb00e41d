"""How many training images an accuracy takes, and how many times as many a robust one takes, with intervals."""

import math
from collections.abc import Sequence

import numpy as np

from lightning_robust.learning_curves.amounts import Amount, AmountEstimate
from lightning_robust.learning_curves.draws import Floats, central, draws_of_mean, mean_curve, seed_weights
from lightning_robust.learning_curves.per_seed import Curves

_ROUNDING = 1e-12


def isotonic(values: Floats, weights: Floats) -> Floats:
    r"""The non-decreasing sequence nearest to each of R sequences, in weighted squares.

    .. math:: g_i = \max_{j \le i} \min_{k \ge i} \frac{\sum_{l=j}^k w_l v_l}{\sum_{l=j}^k w_l}

    which is what pooling adjacent violators arrives at, in closed form: for a few sizes and many draws all at once.

    Args:
        values: (R, M).
        weights: positive, (M,).

    Returns:
        (R, M).

    Example:
        >>> isotonic(np.array([[0.2, 0.5, 0.4, 0.9]]), np.ones(4)).round(2).tolist()
        [[0.2, 0.45, 0.45, 0.9]]

    References:
        R. E. Barlow, D. J. Bartholomew, J. M. Bremner, H. D. Brunk, Statistical inference under order restrictions,
        1972, theorem 1.4 on max-min formulas.
    """
    total = np.concatenate([[0.0], np.cumsum(weights)])
    sums = np.concatenate([np.zeros((len(values), 1)), np.cumsum(values * weights, axis=1)], axis=1)
    m = len(weights)
    j, k = np.arange(m)[:, None], np.arange(m)[None, :]
    mean = (sums[:, None, 1:] - sums[:, :-1, None]) / np.where(k >= j, total[None, 1:] - total[:-1, None], 1.0)
    least = np.minimum.accumulate(mean[:, :, ::-1], axis=2)[:, :, ::-1]  # over k >= i, at [r, j, i]
    return np.where(k >= j, least, -np.inf).max(1)


def _crossings(n: Floats, accuracy: Floats, weights: Floats, target: float) -> tuple[Floats, Floats]:
    """For each of the curves (R, M) the ends of the amount at which it reaches the target, (R,) each."""
    log_n, curve = np.log(n), isotonic(accuracy, weights)
    reached = curve >= target - _ROUNDING
    after = np.where(reached.any(1), reached.argmax(1), len(n))
    right = np.clip(after, 1, len(n) - 1) if len(n) > 1 else np.zeros_like(after)
    left = np.maximum(right - 1, 0)
    rows = np.arange(len(curve))
    low_acc, high_acc = curve[rows, left], curve[rows, right]
    rise = np.where(high_acc > low_acc, high_acc - low_acc, 1.0)
    between = np.exp(log_n[left] + (log_n[right] - log_n[left]) * np.clip((target - low_acc) / rise, 0.0, 1.0))
    never, at_once = after == len(n), curve[:, 0] > target + _ROUNDING
    low = np.where(never, n[-1], np.where(at_once, 0.0, np.where(after == 0, n[0], between)))
    high = np.where(never, math.inf, np.where(at_once | (after == 0), n[0], between))
    return low, high


def samples_needed(
    n: Sequence[float], accuracy: Sequence[float], target: float, weights: Sequence[float] | None = None
) -> Amount:
    r"""The number of samples at which a learning curve reaches a target accuracy.

    The accuracies are replaced by the nearest non-decreasing ones (`isotonic`), for more data do not hurt but measured
    accuracies jitter; between two sizes they are taken as linear in :math:`\log N`. Nothing is extrapolated: where the
    curve starts above the target, at most the smallest size is needed, and where it ends below, more than the largest.

    Args:
        n: the sizes, positive and increasing, (M,).
        accuracy: the accuracies, (M,).
        target: the accuracy to reach, strictly between 0 and 1.
        weights: of the accuracies in the regression, positive, (M,), such as the images behind each; None is equal.

    Raises:
        ValueError: if an argument is not as said.

    Example:
        >>> sizes, accuracies = [500, 2000, 8000], [0.6, 0.8, 0.9]
        >>> print(*(samples_needed(sizes, accuracies, target) for target in (0.5, 0.7, 0.8, 0.95)), sep=" | ")
        < 500 | 1,000 | 2,000 | > 8,000
    """
    sizes, values = np.asarray(n, dtype=float), np.asarray(accuracy, dtype=float)
    by = np.ones(len(sizes)) if weights is None else np.asarray(weights, dtype=float)
    _check_target(target)
    if sizes.ndim != 1 or not len(sizes) or not (np.isfinite(sizes) & (np.diff(sizes, prepend=0.0) > 0)).all():
        raise ValueError(f"Expected argument `n` to be positive, finite and increasing, but got {n}.")
    if values.shape != sizes.shape or not np.isfinite(values).all():
        raise ValueError(f"Expected argument `accuracy` to be {len(sizes)} finite numbers, but got {accuracy}.")
    if by.shape != sizes.shape or not (np.isfinite(by) & (by > 0)).all():
        raise ValueError(f"Expected argument `weights` to be {len(sizes)} positive numbers, but got {weights}.")
    low, high = _crossings(sizes, values[None], by, target)
    return Amount(float(low[0]), float(high[0]))


def needed_with_interval(
    curves: Curves, target: float, *, resamples: int = 2000, seed: int = 0, confidence: float = 0.95
) -> AmountEstimate:
    r"""The number of samples at which the mean curve over seeds reaches a target, with a percentile interval.

    Each resample is a mean curve that might have been, of other seeds (by Student's t, which a few seeds call for; with
    one seed this part is missing) and on other test images (`draws_of_mean`); the interval holds the central part of
    where they cross the target. An end beyond the sizes is 0 or infinite.

    It covers what a seed decides (in a study of nested subsets: the images drawn, the network's start, the order of
    batches) and the draw of the test images. It does not cover the interpolation between sizes, the search for
    hyperparameters, an attack that is too weak, or, with one seed, other seeds. With two seeds Student's t has one
    degree of freedom, and the interval is usually open.

    Args:
        curves: the curve of each seed, with the same sizes.
        target: the accuracy to reach, strictly between 0 and 1.
        resamples: how many, at least 100.
        seed: of the random numbers.
        confidence: of the interval.

    Raises:
        ValueError: if an argument is not as said.

    Example:
        >>> from lightning_robust.learning_curves.per_seed import Curve
        >>> curves = {
        ...     s: Curve(n=(500, 2000, 8000), accuracy=(0.6 + d, 0.8 + d, 0.9 + d), count=(1000,) * 3)
        ...     for s, d in enumerate((-0.01, 0.0, 0.01))
        ... }
        >>> print(needed_with_interval(curves, 0.7))
        1,000 [7..., 1,...]
    """
    generator = _generator(resamples, seed, confidence)
    _check_target(target)
    n, mean, count = mean_curve(curves)
    low, high = _crossings(n, mean[None], count, target)
    weights = seed_weights(len(curves), resamples, generator)
    draws = _crossings(n, draws_of_mean(curves, weights, generator), count, target)
    return _estimate(Amount(float(low[0]), float(high[0])), draws, confidence)


def ratio_needed(
    standard: Curves,
    robust: Curves,
    target: float,
    *,
    resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> AmountEstimate:
    r"""How many times as many samples robust accuracy takes as standard accuracy does, at the same target.

    .. math:: N_\text{robust}(\text{target}) \,/\, N_\text{standard}(\text{target})

    Resampled as in `needed_with_interval`, both curves with the same seeds. Ends beyond the sizes are honoured: with
    :math:`N_\text{robust} \in [a, b]` and :math:`N_\text{standard} \in [c, d]` the ratio is in :math:`[a / d, b / c]`.
    So it is a lower bound where the robust curve does not reach the target or the standard one starts above it, an
    upper bound the other way round, and unknown where both happen to both. The interval takes the lower ends from
    below and the upper ends from above.

    Args:
        standard: the curve of each seed.
        robust: the curve of the same seeds; its sizes may be others.
        target: the accuracy to reach, strictly between 0 and 1.
        resamples: how many, at least 100.
        seed: of the random numbers.
        confidence: of the interval.

    Raises:
        ValueError: if an argument is not as said.

    Example:
        >>> from lightning_robust.learning_curves.per_seed import Curve
        >>> standard = {0: Curve(n=(500, 2000, 8000), accuracy=(0.6, 0.8, 0.9), count=(10_000,) * 3)}
        >>> robust = {0: Curve(n=(500, 2000, 8000), accuracy=(0.3, 0.5, 0.7), count=(10_000,) * 3)}
        >>> print(ratio_needed(standard, robust, 0.7))
        8 [7.3..., ∞)
        >>> print(ratio_needed(standard, robust, 0.8))
        > 4 [3.5..., ∞)
    """
    generator = _generator(resamples, seed, confidence)
    _check_target(target)
    if set(standard) != set(robust):
        raise ValueError(f"Expected argument `robust` to have the seeds {list(standard)}, but got {list(robust)}.")
    robust = {each: robust[each] for each in standard}  # in the same order, for the same weights
    weights = seed_weights(len(standard), resamples, generator)
    ends = []
    for curves in (standard, robust):
        n, mean, count = mean_curve(curves)
        both = np.concatenate([mean[None], draws_of_mean(curves, weights, generator)])
        ends.append(_crossings(n, both, count, target))
    (c, d), (a, b) = ends
    with np.errstate(divide="ignore"):
        low, high = a / d, b / c
    return _estimate(Amount(float(low[0]), float(high[0])), (low[1:], high[1:]), confidence)


def _estimate(amount: Amount, draws: tuple[Floats, Floats], confidence: float) -> AmountEstimate:
    low, high = central(*draws, confidence)
    return AmountEstimate(amount, min(float(low), amount.low), max(float(high), amount.high))


def _check_target(target: float) -> None:
    if not 0 < target < 1:
        raise ValueError(f"Expected argument `target` to be strictly between 0 and 1, but got {target}.")


def _generator(resamples: int, seed: int, confidence: float) -> np.random.Generator:
    if resamples < 100:
        raise ValueError(f"Expected argument `resamples` to be at least 100, but got {resamples}.")
    if not 0 < confidence < 1:
        raise ValueError(f"Expected argument `confidence` to be strictly between 0 and 1, but got {confidence}.")
    return np.random.default_rng(seed)
