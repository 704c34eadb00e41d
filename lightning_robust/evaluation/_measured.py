"""What questions to a model have measured. It adds up over batches, and the values of indicators are read off the sum:
medians and shares of a few samples by themselves would say nothing.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lightning_robust.evaluation._indicator import KINDS
from lightning_robust.evaluation._one_class import one_class
from lightning_robust.evaluation._questions import apart

ENOUGH = 16
"""Samples that shares and medians are taken of, at least, where there are as many: smaller batches are put together."""

BATCHES = 16
"""Batches that are put together, at most."""

TINY = 1e-100

_STRAIGHT = 0.98
"""Below it, the rise along the gradient is measured at a smaller size too."""

_SMOOTH = 0.99
"""Where random moves of one direction and two sizes have this cosine, the model is smooth."""

_SHARES = (
    "broken_logits",
    "probabilities",
    "few_draws",
    "zero_gradient",
    "silent_classes",
    "broken_gradient",
)
_MEDIANS = ("gradient_moves", "unstable", "gain_jumps")


@dataclass(frozen=True, eq=False)
class Measured:
    """What was measured on one batch, or on several; of one that was not measured nothing.

    Args:
        n: Number of samples.
        each: (N, ...) for each sample, by name; of some, such as jumps, for those of them that have one.
        apart: By name, the largest difference between outputs that should be equal (`random`, `grad_mode`, `company`),
            or not (`constant`).
        scale: Its unit: the standard deviation of the output, the largest of all batches.
        facts: What holds for all samples if it holds for one batch: "optimizing", the model takes gradients itself;
            "joined", samples act on one another.
        one: A sample and its output, to be compared with those of other batches.
    """

    n: int = 0
    each: Mapping[str, Tensor] = field(default_factory=dict)
    apart: Mapping[str, float] = field(default_factory=dict)
    scale: float = 0.0
    facts: frozenset[str] = frozenset()
    one: tuple[Tensor, Tensor] | None = None

    def __add__(self, other: "Measured") -> "Measured":
        """Of both batches."""
        both = (self, other)
        gaps = [*self.apart.items(), *other.apart.items(), *_between(self.one, other.one)]
        return Measured(
            self.n + other.n,
            {k: v for k in {**self.each, **other.each} for v in _joined([m.each[k] for m in both if k in m.each])},
            {name: max(gap for k, gap in gaps if k == name) for name, _ in gaps},
            max(self.scale, other.scale),
            self.facts | other.facts,
            other.one if self.one is None else self.one,
        )

    def values(self) -> dict[str, float]:
        """The values of the indicators, by name; those that were not measured are left out."""
        each = self.each
        values = {name: gap / max(self.scale, TINY) for name, gap in self.apart.items()}
        if values.get("random", 0.0) > KINDS["random"].threshold:  # which says the same in other words
            values = {"random": values["random"]}
        if self.n:
            values["optimizing"] = float("optimizing" in self.facts)
        values |= {name: float(each[name].double().mean()) for name in _SHARES if name in each}
        values |= {name: float(each[name].median()) for name in _MEDIANS if name in each and len(each[name])}
        if "right" in each and bool(each["right"].any()):
            values |= _at_any_size(each)
        # Where samples act on one another, none rises as the gradient of all gains together promises.
        if "rise" in each and "joined" not in self.facts:
            values |= _along(each)
        return values


def _joined(values: list[Tensor]) -> list[Tensor]:
    """Those of batches in one; none where each has a shape of its own, such as answers for images of two sizes."""
    return [torch.cat(values)] if len({v.shape[1:] for v in values}) == 1 else []


def _between(one: Any, other: Any) -> list[tuple[str, float]]:
    """Do different samples of two batches, alone in theirs maybe, have different outputs? Where these are of one shape.

    `company` has no such answer: it needs one sample in two companies.
    """
    if one is None or other is None or any(a.shape != b.shape for a, b in zip(one, other, strict=True)):
        return []
    return [("constant", apart(one[1], other[1]))] if bool((one[0] != other[0]).any()) else []


def _at_any_size(each: Mapping[str, Tensor]) -> dict[str, float]:
    """The share that withstands, unless all that is shown is of one class, which is no fault of the attack."""
    known = "shown" in each and len(each["shown"]) == len(each["right"])
    if known and bool(each["withstood"].any()) and one_class(each["shown"], each["label"]):
        return {"one_class": 1.0}
    return {"unbounded": float(each["withstood"].sum() / each["right"].sum())}


def wants_finer(each: Mapping[str, Tensor]) -> bool:
    """Is the rise along the gradient to be measured at a smaller size, by what is known of a batch?"""
    first = _median(each["rise"][:, 0])
    return bool(first) and _smooth(each) and first < _STRAIGHT


def _along(each: Mapping[str, Tensor]) -> dict[str, float]:
    """The rise along the gradient, at the size at which it is highest; and at a small one, if all is smooth."""
    values = [_median(column) for column in each["rise"].unbind(1)]
    found = {"gradient_rise": max((v for v in values if not math.isnan(v)), default=math.nan)}
    if values[0] and _smooth(each):  # NaN stays NaN: it is not known
        found["foreign_gradient"] = values[0]
        # Bends, or another function? A bend goes away at a smaller size, if that is not lost in rounding.
        if values[0] < _STRAIGHT and "finer" in each and each["finer_cosine"].median() > _SMOOTH:
            found["foreign_gradient"] = max(values[0], _median(each["finer"]))  # in this order: not a NaN
    return found


def _smooth(each: Mapping[str, Tensor]) -> bool:
    """Are most samples smooth, and not one or two, which may lie at bends?"""
    clear = each["clear"]
    return 2 * int(clear.sum()) > max(len(clear), 4) and bool(each["cosine"].median() > _SMOOTH)


def _median(values: Tensor) -> float:
    """That of the numbers among the values (N,); NaN where there are none."""
    known = values[~values.isnan()]
    return float(known.median()) if len(known) else math.nan
