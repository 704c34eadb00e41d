"""Two evaluations on the same images, compared image by image."""

from __future__ import annotations

import html
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from lightning_robust import _checks
from lightning_robust.evaluation._rows import short_doubts
from lightning_robust.metrics.intervals import mcnemar_test, paired_interval, wilson_interval
from lightning_robust.plots.estimate import POINTS, Estimate

if TYPE_CHECKING:
    from lightning_robust.evaluation.report import Report


@dataclass(frozen=True)
class Comparison:
    """The robust accuracies of two models on the same images.

    Images that both models get right, or both get wrong, say nothing about which one is better. So the difference is
    known much better than the intervals of both accuracies suggest. Its interval is that of `metrics.paired_interval`.
    The p-value is that of McNemar's exact test, `metrics.mcnemar_test`. Where p is at most 0.05, and only there, 0 is
    outside the interval or its end.

    Args:
        both: Number of images on which both models are robust.
        only_first: Number of images on which only the first one is.
        only_second: Number of images on which only the second one is.
        neither: Number of images on which none is.
        notes: In what else the evaluations differ, and why one of the accuracies may be too high.

    Example:
        >>> comparison = Comparison(both=500, only_first=62, only_second=38, neither=400)
        >>> print(comparison)
        1,000 images: robust accuracy 56.2 % and 53.8 %, difference 2.4 points [0.1, 4.7], p = 0.021
    """

    both: int
    only_first: int
    only_second: int
    neither: int
    notes: tuple[str, ...] = ()
    difference: Estimate = field(init=False)
    p: float = field(init=False)

    def __post_init__(self) -> None:
        for name in ("both", "only_first", "only_second", "neither"):
            object.__setattr__(self, name, _checks.count(name, getattr(self, name), 0))
        if not self.n:
            raise ValueError("Expected arguments `both` to `neither` to count at least one image, but got none.")
        low, high = paired_interval(self.only_first, self.only_second, self.n)
        value = (self.only_first - self.only_second) / self.n
        object.__setattr__(self, "difference", Estimate(value, float(low), float(high), self.n))
        object.__setattr__(self, "p", float(mcnemar_test(self.only_first, self.only_second)))

    @property
    def n(self) -> int:
        """Number of images."""
        return self.both + self.only_first + self.only_second + self.neither

    @property
    def first(self) -> Estimate:
        """Robust accuracy of the first model."""
        return self._accuracy(self.both + self.only_first)

    @property
    def second(self) -> Estimate:
        """Robust accuracy of the second model."""
        return self._accuracy(self.both + self.only_second)

    def to_dict(self) -> dict[str, Any]:
        """What JSON can say."""
        names = ("both", "only_first", "only_second", "neither", "p")
        estimates = {name: getattr(self, name).row() for name in ("first", "second", "difference")}
        return {"n": self.n, **{name: getattr(self, name) for name in names}, **estimates, "notes": list(self.notes)}

    def table(self) -> str:
        """The numbers as text, a line each."""
        width = max(len(name) for name, _ in self._lines())
        return "\n".join([f"{name:<{width}}  {text}" for name, text in self._lines()] + list(self.notes))

    def _accuracy(self, count: int) -> Estimate:
        low, high = wilson_interval(count, self.n)
        return Estimate(count / self.n, float(low), float(high), self.n)

    def _lines(self) -> list[tuple[str, str]]:
        return [
            ("first", self.first.text()),
            ("second", self.second.text()),
            ("difference", self.difference.text(POINTS)),
            ("only the first", f"{self.only_first:,}"),
            ("only the second", f"{self.only_second:,}"),
            ("p", f"{self.p:.2g}"),
        ]

    def __str__(self) -> str:
        return (
            f"{self.n:,} images: robust accuracy {100 * self.first.value:.1f} % and {100 * self.second.value:.1f} %, "
            f"difference {self.difference.text(POINTS)}, p = {self.p:.2g}{self._noted()}"
        )

    def _noted(self) -> str:
        return f", {len(self.notes)} note{'s' * (len(self.notes) > 1)}" if self.notes else ""

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align: left'>{name}</th><td>{text}</td></tr>" for name, text in self._lines()
        )
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self.notes)
        return f"<table><caption>{self.n:,} images</caption>{rows}</table>{notes}"


def compared(first: Report, second: Report) -> Comparison:
    """Compare two reports on the same images; see `Report.compare`."""
    mine, theirs = _by_image(first, "self"), _by_image(second, "other")
    if list(mine) != list(theirs):
        shared = (Counter(key[:2] for key in mine) & Counter(key[:2] for key in theirs)).total()
        raise ValueError(
            f"Expected argument `other` to be a report on the same images with the same labels, but of the {len(mine)} "
            f"and {len(theirs)} images {shared} are shared. Evaluate both models on the same data."
        )
    counts = Counter(zip(mine.values(), theirs.values(), strict=True))
    return Comparison(
        both=counts[True, True],
        only_first=counts[True, False],
        only_second=counts[False, True],
        neither=counts[False, False],
        notes=_notes(first, second),
    )


def _by_image(report: Report, name: str) -> dict[tuple[str, int, int], bool]:
    """Robust or not, by content, label and number among equal images, sorted.

    Of equal images those that are not robust come first.
    """
    if report.images is None:
        raise ValueError(
            f"Expected `{name}` to be a report with `images`, but it was made without them. Use `evaluate`."
        )
    keys, robust, seen = report.images.key, report.robust.tolist(), Counter[tuple[str, int]]()
    labels = [-1] * report.n if report.labels is None else _list(report.labels)
    found = {}
    for key, label, right in sorted(zip(keys, labels, robust, strict=True)):
        found[key, label, seen[key, label]] = right
        seen[key, label] += 1
    return found


AS_USUAL = repr((0, 1, None, None, None))
"""What is read of a batch, in `Report.about` under "reads", where nobody asks for something else."""


def _list(values: Tensor) -> list[int]:
    return [int(value) for value in values.tolist()]


def _notes(first: Report, second: Report) -> tuple[str, ...]:
    """In what the evaluations differ, and what is doubted of each."""
    differ = [name for name in ("threat", "eps") if getattr(first, name) != getattr(second, name)]
    mine, theirs = first.attacks, second.attacks
    if mine.keys() != theirs.keys() or any(mine[k] and theirs[k] and mine[k] != theirs[k] for k in mine):
        differ.append("attacks")
    if first.about.get("reads", AS_USUAL) != second.about.get("reads", AS_USUAL):
        differ.append("what is read of a batch, and how (`input`, `target`, `code`, `forward`, `correct`)")
    notes = []
    if differ:
        notes.append(
            f"The two evaluations differ in: {', '.join(differ)}. So the difference is not of the models alone."
        )
    for name, report in (("first", first), ("second", second)):
        if found := short_doubts(report):
            notes.append(f"The {name} robust accuracy may be too high, or not be meant: {'; '.join(found)}.")
    return tuple(notes)
