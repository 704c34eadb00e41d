"""What a gain asks for, where this package knows it."""

from collections.abc import Iterable
from itertools import count
from typing import Any, Literal

from lightning_robust.attacks.anchored import Anchored, _LabelAndRank, _Normalized, _Toward, divergence
from lightning_robust.attacks.gains import _Confident, cross_entropy, dlr, log_odds, margin

_ANOTHER = (log_odds, cross_entropy, margin, dlr)


def aim_of(gain: Any) -> Literal["another", "target"] | None:
    """What a gain of class labels asks the model to predict: "another" class than the label, or a fixed "target". None:
    not known, as of gains of one's own.

    Example:
        >>> from lightning_robust.attacks import binary_margin, normalized, targeted_margin
        >>> [aim_of(gain) for gain in (normalized(margin), targeted_margin(2), binary_margin)]
        ['another', 'target', None]
    """
    if isinstance(gain, Anchored):
        if isinstance(gain.gain, _Toward) or isinstance(gain.anchor, _LabelAndRank):
            return "target"
        return "another" if gain is divergence else aim_of(gain.gain)
    if isinstance(gain, _Normalized):
        return aim_of(gain.gain)
    return "another" if isinstance(gain, _Confident) or any(gain is one for one in _ANOTHER) else None


def targets_among(gains: Iterable[Any]) -> int | None:
    """How many of the nearest classes targeted gains aim at together, without a gap from rank 1 on, and how many other
    targets; None: one of the gains is not known to aim at a fixed target.

    Example:
        >>> from lightning_robust.attacks import runner_up, targeted, targeted_margin
        >>> [targets_among(map(targeted_margin, ranks)) for ranks in ((1, 2, 4), (2, 9))]
        [2, 0]
        >>> targets_among([margin, targeted_margin(1)]), targets_among([targeted(margin, runner_up)])
        (None, 1)
    """
    gains = list(gains)
    if any(aim_of(gain) != "target" for gain in gains):
        return None
    ranks, others = set(), []
    for anchor in (gain.anchor for gain in gains):
        if isinstance(anchor, _LabelAndRank):
            ranks.add(anchor.rank)
        elif anchor not in others:
            others.append(anchor)
    return next(rank for rank in count(1) if rank not in ranks) - 1 + len(others)
