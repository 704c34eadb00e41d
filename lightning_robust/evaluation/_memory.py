"""What a run saw besides verdicts, as events of the ledger, and what the runs before it saw, from these events."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, fields
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_robust._journal import plain
from lightning_robust.attacks._signs import FLAGS, Signs
from lightning_robust.evaluation._indicator import Indicator
from lightning_robust.evaluation.ledger import CLEAN, END, Event

# Stages of events of a process, as END is.
COUNTS = "counts"
"""What the counts of `Suspicions` rose by since the event before."""

DOUBT = "doubt"
"""A text of `Suspicions.doubts`."""

BEGIN = "begin"
"""What the attacks are, and which questions to the model gave reason to doubt."""

_SIGNS = tuple(f.name for f in fields(Signs))


class Kinds(NamedTuple):
    """What the indicators need to know of the attacks.

    Args:
        names: Of the attacks.
        searches: Names of those that ask for no gradient, where they can be compared with the others.
        steps: Those of the longest attack with gradients; None: unknown.
        curve: Does one look for least radii?
        weaknesses: What is weak about them by their settings, see `_strength.py`.
    """

    names: tuple[str, ...]
    searches: frozenset[str]
    steps: int | None
    curve: bool
    weaknesses: tuple[tuple[str, float], ...] = ()


def of_process(stage: str, seen: Iterable[float] = (), said: Any = None) -> Event:
    """An event that is of no sample; `said`: what JSON can say."""
    text = "" if said is None else json.dumps(said, separators=(",", ":"))
    return Event(-1, stage, 0, False, -1, -1, math.nan, math.inf, 0, "", None, tuple(seen), text)


def beginning(kinds: Kinds, asked: Iterable[Indicator]) -> Event:
    """What `Memory` needs to know of the attacks, and the questions to the model that gave reason to doubt."""
    flagged = [{name: plain(value) for name, value in asdict(one).items()} for one in asked if one.flagged]
    return of_process(BEGIN, said={**kinds._asdict(), "searches": sorted(kinds.searches), "asked": flagged})


def seen_of_run(stuck: Tensor | None, signs: Signs | None, n: int) -> list[tuple[float, ...]]:
    """For each sample of a run of an attack: was its gradient zero at the start (-1: unknown), and its signs."""
    first = [-1.0] * n if stuck is None else stuck.double().tolist()
    if signs is None:
        return [(one,) for one in first]
    rows = torch.stack([getattr(signs, name).double() for name in _SIGNS], 1).tolist()
    return [(one, *row) for one, row in zip(first, rows, strict=True)]


def seen_of_clean(lost: Tensor, spread: Tensor) -> list[tuple[float, ...]]:
    """For each sample of a clean pass: is its output not finite, and is it a distribution?"""
    return [(float(a), float(b)) for a, b in zip(lost.tolist(), spread.tolist(), strict=True)]


class Memory:
    """What earlier runs saw, by their events.

    Attributes:
        signs: What the loop saw, run by run: the places of the samples, and their signs.
        stuck, moved, outputs, broken, probabilities: As of `Seen`.
        unknown: Places of the samples that were attacked by a run that did not write what it saw.
        counts: Sum of the counts of `Suspicions`; empty: none.
        doubts: Texts of `Suspicions.doubts`.
        asked: Questions to the model that gave reason to doubt, by name.
        kinds: What the attacks are; None: unknown.
        last: The doubts that each process had at its end.
    """

    def __init__(self) -> None:
        self._signs: dict[tuple[str, int], tuple[list[int], list[tuple[float, ...]]]] = {}
        self.stuck: dict[str, set[int]] = {}
        self.moved: dict[str, set[int]] = {}
        self.outputs: set[int] = set()
        self.broken: set[int] = set()
        self.probabilities: set[int] = set()
        self.unknown: set[int] = set()
        self.counts: list[int] = []
        self.doubts: list[str] = []
        self.asked: dict[str, Indicator] = {}
        self.kinds: Kinds | None = None
        self.last: list[str] = []

    def listen(self, events: Iterable[Event]) -> Iterator[Event]:
        """The same events, which are remembered on their way."""
        for event in events:
            if event.sample < 0:
                self._of_process(event)
            elif not event.seen:
                self.unknown |= {event.sample} if event.stage != CLEAN else set()
            elif event.stage == CLEAN:
                self._of_clean(event)
            else:
                self._of_run(event)
            yield event

    @property
    def signs(self) -> list[tuple[list[int], Signs]]:
        """What the loop saw, run by run."""
        return [(places, _signs(rows)) for places, rows in self._signs.values()]

    def _of_process(self, event: Event) -> None:
        said: Any = json.loads(event.said) if event.said else None
        if event.stage == COUNTS:
            rise = [int(value) for value in event.seen]
            before = self.counts if len(self.counts) == len(rise) else [0] * len(rise)
            self.counts = [a + b for a, b in zip(before, rise, strict=True)]
        elif event.stage == DOUBT and said not in self.doubts:
            self.doubts.append(said)
        elif event.stage == END and said:
            self.last += said
        elif event.stage == BEGIN and said:
            self._begin(said)

    def _begin(self, said: Mapping[str, Any]) -> None:
        weak = tuple((name, value) for name, value in said.get("weaknesses", ()))
        self.kinds = Kinds(tuple(said["names"]), frozenset(said["searches"]), said["steps"], said["curve"], weak)
        for content in said["asked"]:
            numbers = {name: float(content[name]) for name in ("value", "threshold")}
            self.asked.setdefault(content["name"], Indicator(**{**content, **numbers}))

    def _of_clean(self, event: Event) -> None:
        lost, spread = event.seen
        self.outputs.add(event.sample)
        if lost:
            self.broken.add(event.sample)
        if spread:
            self.probabilities.add(event.sample)

    def _of_run(self, event: Event) -> None:
        stuck, *signs = event.seen
        if stuck >= 0:
            where = self.stuck if stuck and not event.fooled else self.moved
            where.setdefault(event.stage, set()).add(event.sample)
        if signs:
            places, rows = self._signs.setdefault((event.stage, event.wave), ([], []))
            places.append(event.sample)
            rows.append((*signs, *[0.0] * (len(_SIGNS) - len(signs))))  # earlier versions wrote fewer


def _signs(rows: list[tuple[float, ...]]) -> Signs:
    values = dict(zip(_SIGNS, torch.tensor(rows, dtype=torch.float64).unbind(1), strict=True))
    return Signs(**{name: value.bool() if name in FLAGS else value for name, value in values.items()})
