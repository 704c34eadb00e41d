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

    With one seed the interval is that of the draw of the test samples: where the curves of the upper and of the lower
    ends of Wilson's intervals reach the target. It says nothing about other seeds.

    Example:
        >>> rows = {0: (0.59, 0.79, 0.89), 1: (0.6, 0.8, 0.9), 2: (0.61, 0.81, 0.91)}
        >>> print(needed_with_interval(Curves(n=(500, 2000, 8000), accuracy=rows, count=(1000,) * 3), 0.7))
        1,000 [842, 1,188]
    """
    return _over_seeds(*_per_seed(curves, target))


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
    (below, below_draw), (above, above_draw) = _per_seed(standard, target), _per_seed(robust, target)
    ratios = {s: Amount(above[s].low / b.high, above[s].high / b.low if b.low else math.inf) for s, b in below.items()}
    seed, b = next(iter(below.items()))
    a = above[seed]
    low = ratios[seed].low * math.exp(-math.hypot(_log(a.low, above_draw[0]), _log(below_draw[1], b.high)))
    high = ratios[seed].high * math.exp(math.hypot(_log(above_draw[1], a.high), _log(b.low, below_draw[0])))
    return _over_seeds(ratios, (low, high))


def _per_seed(curves: Curves, target: float) -> tuple[dict[Any, Amount], tuple[float, float]]:
    """The amount of each seed, and the interval of the first seed over the draw of its test samples."""
    amounts = {seed: samples_needed(curves.n, row, target, curves.count) for seed, row in curves.accuracy.items()}
    first = next(iter(amounts))
    _, low, high = zip(*(curves.at(n)[first] for n in curves.n), strict=True)
    early, late = (samples_needed(curves.n, row, target, curves.count) for row in (high, low))
    return amounts, (min(early.low, amounts[first].low), max(late.high, amounts[first].high))


def _over_seeds(amounts: Mapping[Any, Amount], draw: tuple[float, float]) -> AmountEstimate:
    censored = tuple(seed for seed, amount in amounts.items() if not amount.known)
    if len(amounts) == 1:
        return AmountEstimate(next(iter(amounts.values())), *draw, censored)
    means: list[float] = []
    ends: list[float] = []
    for sign, none in ((-1, 0.0), (1, math.inf)):
        bounds = [amount.low if sign < 0 else amount.high for amount in amounts.values()]
        logs = [0.0] * len(bounds) if none in bounds else [math.log(bound) for bound in bounds]
        mean = sum(logs) / len(logs)
        means.append(none if none in bounds else math.exp(mean))
        ends.append(none if none in bounds else math.exp(mean + sign * half_width(logs)))
    return AmountEstimate(Amount(*means), ends[0], ends[1], censored)


def _log(upper: float, lower: float) -> float:
    """log(upper / lower) of ends that may be 0 or infinite; 0 for equal ones."""
    return 0.0 if upper == lower else math.inf if lower == 0 or math.isinf(upper) else math.log(upper / lower)
