"""The number of training samples that an accuracy takes, and how many times as many a robust one takes."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lightning_robust import _checks
from lightning_robust.learning_curves.amounts import Amount, AmountEstimate
from lightning_robust.learning_curves.curves import Curves
from lightning_robust.learning_curves.seeds import half_width

_ROUNDING = 1e-12


def samples_needed(
    n: Sequence[float], accuracy: Sequence[float], target: float, weights: Sequence[float] | None = None
) -> Amount:
    r"""The number of samples at which a learning curve reaches a target accuracy.

    The accuracies are replaced by the nearest non-decreasing ones (isotonic regression), since more data do not hurt
    but measured accuracies jitter. Between two sizes they are linear in :math:`\log N`. Nothing is extrapolated: a
    curve that starts above the target needs at most the smallest size, one that ends below it more than the largest.

    Args:
        n: The sizes, positive and increasing, (M,).
        accuracy: The accuracies, (M,).
        target: The accuracy to reach, strictly between 0 and 1.
        weights: Positive weights of the regression, (M,), such as numbers of test samples; None: equal.

    Example:
        >>> sizes, accuracies = [500, 2000, 8000], [0.6, 0.8, 0.9]
        >>> print(*(samples_needed(sizes, accuracies, target) for target in (0.5, 0.7, 0.8, 0.95)), sep=" | ")
        < 500 | 1,000 | 2,000 | > 8,000
    """
    from scipy.optimize import isotonic_regression

    target = _checks.number("target", target, 0, 1, above=True, below=True)
    sizes, by = [float(size) for size in n], None if weights is None else np.array(weights, float)
    curve = isotonic_regression(np.array(accuracy, float), weights=by).x
    if len(curve) != len(sizes):
        raise ValueError(f"Expected argument `accuracy` to have {len(sizes)} entries, but got {len(curve)}.")
    reached = curve >= target - _ROUNDING
    if not reached.any():
        return Amount(sizes[-1], math.inf)
    if curve[0] > target + _ROUNDING:
        return Amount(0.0, sizes[0])
    at = int(reached.argmax())
    if at == 0:
        return Amount(sizes[0], sizes[0])
    way = min(1.0, float((target - curve[at - 1]) / (curve[at] - curve[at - 1])))
    crossing = sizes[at - 1] * (sizes[at] / sizes[at - 1]) ** way
    return Amount(crossing, crossing)


def needed_with_interval(curves: Curves, target: float) -> AmountEstimate:
    r"""The number of samples at which the curve of a seed reaches a target: the geometric mean over seeds.

    Each seed has one number :math:`N_s`, and the interval is Student's t of :math:`\log N_s`. A seed whose curve does
    not cross the target within the sizes is censored: only bounds :math:`l_s \le N_s \le u_s` are known. Then the mean
    has bounds too, and the ends of the interval are the lower end for :math:`\log l_s` and the upper end for
    :math:`\log u_s`, which hold whatever the censored numbers are.

    With one seed, or if all are censored and their spread is not known, the interval is that of the draw of the test
    samples: where the curves of the upper and of the lower ends of Wilson's intervals reach the target, the widest of
    all seeds. It says nothing about other seeds.

    Example:
        >>> rows = {0: (0.59, 0.79, 0.89), 1: (0.6, 0.8, 0.9), 2: (0.61, 0.81, 0.91)}
        >>> print(needed_with_interval(Curves(n=(500, 2000, 8000), accuracy=rows, count=(1000,) * 3), 0.7))
        1,000 [842, 1,188]
    """
    return _over_seeds(_per_seed(curves, target))


def ratio_needed(standard: Curves, robust: Curves, target: float) -> AmountEstimate:
    r"""How many times as many samples robust accuracy takes: :math:`N_\text{robust} / N_\text{standard}` at one target.

    One ratio for each seed, then as in `needed_with_interval`. If the robust curve never reaches the target, the ratio
    is only bounded from below. If the standard curve never does, it is only bounded from above. If neither does, it is
    unknown. With one seed the ends of the two numbers are combined as those of independent ones.

    Raises:
        ValueError: The curves are of different seeds. Their sizes may differ.

    Example:
        >>> standard = Curves(n=(500, 2000, 8000), accuracy={0: (0.6, 0.8, 0.9)}, count=(10_000,) * 3)
        >>> robust = Curves(n=(500, 2000, 8000), accuracy={0: (0.3, 0.5, 0.7)}, count=(10_000,) * 3)
        >>> print(ratio_needed(standard, robust, 0.7), ratio_needed(standard, robust, 0.8), sep=" | ")
        8 [7.34, ∞) | > 4 [3.59, ∞), censored: seed 0
    """
    if set(standard.accuracy) != set(robust.accuracy):
        names = list(standard.accuracy), list(robust.accuracy)
        raise ValueError(f"Expected argument `robust` to have the seeds {names[0]}, but got {names[1]}.")
    below, above, ratios = _per_seed(standard, target), _per_seed(robust, target), {}
    for seed, b in below.items():
        a = above[seed]
        ratio = Amount(a.amount.low / b.amount.high, a.amount.high / b.amount.low if b.amount.low else math.inf)
        down = math.hypot(_log(a.amount.low, a.low), _log(b.high, b.amount.high))
        up = math.hypot(_log(a.high, a.amount.high), _log(b.amount.low, b.low))
        ratios[seed] = AmountEstimate(ratio, ratio.low * math.exp(-down), ratio.high * math.exp(up))
    return _over_seeds(ratios)


def _per_seed(curves: Curves, target: float) -> dict[Any, AmountEstimate]:
    """The amount of each seed, with its interval over the draw of the test samples."""
    estimates = {}
    rows = [curves.at(n) for n in curves.n]
    for seed in curves.accuracy:
        values, low, high = zip(*(row[seed] for row in rows), strict=True)
        amount, late, early = (samples_needed(curves.n, row, target, curves.count) for row in (values, low, high))
        estimates[seed] = AmountEstimate(amount, min(early.low, amount.low), max(late.high, amount.high))
    return estimates


def _over_seeds(estimates: Mapping[Any, AmountEstimate]) -> AmountEstimate:
    censored = tuple(seed for seed, each in estimates.items() if not each.amount.known)
    amounts = [each.amount for each in estimates.values()]
    means, ends = [], []
    for sign, none in ((-1, 0.0), (1, math.inf)):
        bounds = [amount.low if sign < 0 else amount.high for amount in amounts]
        logs = [0.0] * len(bounds) if none in bounds else [math.log(bound) for bound in bounds]
        mean = sum(logs) / len(logs)
        means.append(bounds[0] if len(set(bounds)) == 1 else none if none in bounds else math.exp(mean))
        if none in bounds:
            ends.append(none)
        elif len(bounds) > 1 and len(censored) < len(bounds):
            ends.append(math.exp(mean + sign * half_width(logs)))
        else:
            draws = [each.low if sign < 0 else each.high for each in estimates.values()]
            ends.append(min(draws) if sign < 0 else max(draws))
    low, high = min(ends[0], means[0]), max(ends[1], means[1])  # also where exp(log(n)) is not n
    return AmountEstimate(Amount(means[0], means[1]), low, high, censored)


def _log(upper: float, lower: float) -> float:
    """log(upper / lower) of ends that may be 0 or infinite; 0 for equal ones."""
    return 0.0 if upper == lower else math.inf if lower == 0 or math.isinf(upper) else math.log(upper / lower)
