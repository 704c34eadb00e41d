"""Are the first samples of the data a fair draw of it? The order of their labels tells."""

import torch
from torch import Tensor

from lightning_robust.evaluation._indicator import Indicator, indicator
from lightning_robust.evaluation._pool import classes_of
from lightning_robust.evaluation._reader import Sample

_UNIT = 10**9


class Order:
    """The labels of samples, as far as they are known, in the order of the data.

    Attributes:
        cut: Were samples left out that come after those that count?
    """

    def __init__(self) -> None:
        self.cut = False
        self._labels: list[Tensor] = []
        self._classes = True

    def see(self, sample: Sample | None, *, cut: bool = False) -> None:
        """Take in the labels of the next samples, whether they count or not; `cut`: is one among them left out?"""
        self.cut = self.cut or cut
        labels = None if sample is None else classes_of(sample)
        if labels is not None:
            self._labels.append(labels)
        elif sample is not None:
            self._classes = False

    @property
    def counts(self) -> Tensor:
        """(2,) int64, to be summed over processes for `sorted_cut`: was it asked, and what came out, in billionths."""
        asked = self.cut and self._classes and bool(self._labels)
        # On the CPU, and not before: a device is not waited for in each batch.
        chance = chance_of_runs(torch.cat(self._labels).cpu()) if asked else 0.0
        return torch.tensor([asked, round(chance * _UNIT)])


def sorted_cut(asked: int, billionths: int) -> list[Indicator]:
    """The indicator of a cut that is no fair draw; none where nothing was cut.

    Args:
        asked: Of `Order.counts`, summed over processes. Of several, twice the mean is a probability again, however they
            depend on one another (Rüschendorf 1982).
        billionths: Likewise.
    """
    if not asked:
        return []
    return [indicator("sorted_cut", min(1.0, (1 if asked == 1 else 2) * billionths / asked / _UNIT))]


def chance_of_runs(labels: Tensor) -> float:
    r"""How probable is it that labels in random order change so seldom?

    The classes are split into those up to one and those above it, so that both halves have as many of the labels as can
    be: :math:`n_1` and :math:`n_2`. Of all orders of these,

    .. math:: P(R = r) = \left[\binom{n_1-1}{h} \binom{n_2-1}{l} + \binom{n_1-1}{l} \binom{n_2-1}{h}\right] \Big/
              \binom{n_1+n_2}{n_1}, \quad l = \lfloor r/2 \rfloor - 1, \; h = \lceil r/2 \rceil - 1

    have r runs of neighbors in one half (Wald & Wolfowitz 1940). Where the classes take turns, runs are long in a fair
    order, too: nothing is asked where neighbors are equal no more often than on average over all orders.

    Args:
        labels: (N,) int64, in the order of the data.

    Returns:
        The probability of at most as many runs as these have; 1 for a single class, and where nothing is asked.

    Example:
        >>> chance_of_runs(torch.tensor([0] * 10 + [1] * 10)) < 2e-5, chance_of_runs(torch.arange(20) % 2)
        (True, 1.0)
    """
    classes, counts = labels.unique(return_counts=True)
    equal, usual = int((labels[1:] == labels[:-1]).sum()), float((counts * (counts - 1)).sum()) / len(labels)
    if len(classes) < 2 or equal <= usual:
        return 1.0
    split = classes[(2 * counts.cumsum(0) - len(labels)).abs().argmin()]
    above = labels > split
    n, n1 = len(labels), int(above.sum())
    r = torch.arange(2, 2 + int((above[1:] != above[:-1]).sum()))
    low, high = r // 2 - 1, (r + 1) // 2 - 1
    pairs = [_ways(n1 - 1, one) + _ways(n - n1 - 1, other) for one, other in ((high, low), (low, high))]
    return min(1.0, float((torch.stack(pairs) - _ways(n, torch.tensor(n1))).exp().sum()))


def _ways(n: int, k: Tensor) -> Tensor:
    """The logarithm of the number of ways to choose k of n; minus infinity where there is none."""
    k = k.double()
    ways = torch.lgamma(torch.tensor(n + 1.0).double()) - torch.lgamma(k + 1) - torch.lgamma((n - k).clamp(min=0) + 1)
    return torch.where((k >= 0) & (k <= n), ways, -torch.inf)
