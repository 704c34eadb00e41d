"""What events say of each sample: the same whether they come from an attack just made or from a ledger."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lightning_robust.evaluation.images import Images
from lightning_robust.evaluation.ledger import CLEAN, END, Event


@dataclass
class Row:
    """What is known of one sample.

    `output` is a number for the output without an attack, NaN: not known; `broken_by` are all attacks that broke the
    sample, `done` all (stage, wave) that ran.
    """

    key: str
    label: int | None
    clean: bool = False
    output: float = math.nan
    attack: str = ""
    target: int = -1
    restart: int = -1
    step: int = -1
    gain: float = math.nan
    radius: float = math.inf
    passes: int = 0
    last: str = ""
    broken_by: set[str] = field(default_factory=set)
    done: set[tuple[str, int]] = field(default_factory=set)

    @property
    def open(self) -> bool:
        """Right without an attack, and broken by none."""
        return self.clean and not self.broken_by

    def has(self, stage: str, wave: int) -> bool:
        """Was this run made? -1: any of the attack."""
        return any(name == stage for name, _ in self.done) if wave < 0 else (stage, wave) in self.done


class Record:
    """What is known of all samples, by their places in the data; `ended`: number of processes that are at their end."""

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self.rows: dict[int, Row] = {}
        self.ended = 0
        self.see(events)

    def see(self, events: Iterable[Event]) -> None:
        """Take events in; one that was seen before changes nothing."""
        for event in events:
            if event.sample < 0:  # of a process
                self.ended += event.stage == END
                continue
            row = self.rows.setdefault(event.sample, Row(event.key, event.label))
            if (event.stage, event.wave) in row.done:
                continue
            row.done.add((event.stage, event.wave))
            row.passes += event.passes
            if event.stage == CLEAN:
                row.clean, row.output = not event.fooled, event.gain
                row.radius = 0.0 if event.fooled else row.radius
                continue
            higher = row.last != event.stage or math.isnan(row.gain) or event.gain > row.gain
            row.gain, row.last = (event.gain if higher else row.gain), event.stage
            row.radius = min(row.radius, event.radius)
            if event.fooled and row.open:
                row.attack, row.target, row.restart, row.step = event.stage, event.target, event.wave, event.step
            if event.fooled:
                row.broken_by.add(event.stage)

    def places(self) -> list[int]:
        """The samples, in the order of the data."""
        return sorted(self.rows)

    def right(self, stage: str) -> Tensor:
        """(N,) bool: which samples are right without an attack, and under the attack of this name."""
        rows = [self.rows[place] for place in self.places()]
        return torch.tensor([row.clean and stage not in row.broken_by for row in rows], dtype=torch.bool)

    def images(self, examples: Tensor | None = None) -> Images:
        """All samples in the order of the data."""
        rows = [self.rows[place] for place in self.places()]
        labels = [row.label for row in rows if row.label is not None]
        integers = {name: [getattr(row, name) for row in rows] for name in ("target", "restart", "step", "passes")}
        floats = {name: [getattr(row, name) for row in rows] for name in ("gain", "radius")}
        return Images(
            key=[row.key for row in rows],
            label=torch.tensor(labels, dtype=torch.int64) if len(labels) == len(rows) else None,
            clean=torch.tensor([row.clean for row in rows], dtype=torch.bool),
            attack=[row.attack for row in rows],
            **{name: torch.tensor(values, dtype=torch.int64) for name, values in integers.items()},
            **{name: torch.tensor(values, dtype=torch.float64) for name, values in floats.items()},
            examples=examples,
        )
