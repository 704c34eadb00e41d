"""The engine of an evaluation: attacks on full batches of the samples whose verdict is open.

After each batch its events go to a sink, such as a ledger, and then into the record. What is done next is read off the
record alone, so an evaluation that goes on with the events of an earlier one ends as if nothing had happened.
"""

import math
from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from lightning_robust.attacks.scope import wants_whole_batches
from lightning_robust.evaluation._plan import Stage
from lightning_robust.evaluation._pool import Part
from lightning_robust.evaluation._record import Record
from lightning_robust.evaluation._runs import Runs, Seen, Wave, waves_of
from lightning_robust.evaluation._suspicions import Suspicions
from lightning_robust.evaluation.ledger import Event

Sink = Callable[[list[Event]], None]
Tell = Callable[[float, float], None]
"""`(done, left)`: the work of the samples in memory, in passes, about."""

_T = TypeVar("_T")
_Job = Callable[[Part, Tensor, list[int]], list[Event]]
"""`(part, rows of the batch, those of them that are meant) -> events`."""


class Engine:
    """Runs the attacks of an evaluation.

    Args:
        module: The model.
        stages: Attacks in their thorough form, by name.
        key: Of their random starts.
        batch_size: Samples per batch; halved where memory runs out.
        full: Is each attack made in full, on all samples that are right without one? Else a sample leaves once it is
            broken.
        record: What is known already.
        sink: Takes the events of each batch before they count.
        suspicions: Looks at outputs and results.
        keep_examples: Are adversarial inputs kept?
        tell: Told of the progress after each batch.

    Attributes:
        record: What is known of each sample.
        seen: What is known besides.
        forwards, backwards: Number of passes that were made.
    """

    def __init__(
        self,
        module: nn.Module,
        stages: Mapping[str, Stage],
        *,
        key: int,
        batch_size: int = 250,
        full: bool = False,
        record: Record | None = None,
        sink: Sink | None = None,
        suspicions: Suspicions | None = None,
        keep_examples: bool = False,
        tell: Tell | None = None,
    ) -> None:
        self.record = Record() if record is None else record
        self.batch_size, self.full = batch_size, full
        self.forwards = self.backwards = 0
        self._stages = dict(stages)
        self._waves = {name: waves_of(name, stage, full) for name, stage in stages.items()}
        self._runs = Runs(module, stages, key, suspicions, keep_examples)
        self._keep_examples, self._sink, self._tell = keep_examples, sink, tell
        several = torch.distributed.is_available() and torch.distributed.is_initialized()
        whole = wants_whole_batches(module)
        self._together, self._one_size = whole and several, whole and not several
        self._done = self._left = 0.0

    @property
    def seen(self) -> Seen:
        """What is known besides events."""
        return self._runs.seen

    def run(self, parts: list[Part]) -> None:
        """Attack the samples that are in memory."""
        for part in parts:
            self._over(part, self._unseen(part), self._runs.clean, known=self.record.rows.keys())
        for name, stage in self._stages.items():
            few = self._few(parts, name) if stage.on == "few" and not (self._together or self.full) else None
            self._stage(parts, name, few)
            if few is not None and any(name in self.record.rows[place].broken_by for place in few):
                self._stage(parts, name, None)
        if self._keep_examples:
            self._make_examples(parts)
        self.forwards += sum(part.meter.forwards for part in parts)
        self.backwards += sum(part.meter.backwards for part in parts)

    def forget(self) -> None:
        """Let go of all samples, for one who has counted them."""
        self.record.rows.clear()
        self._runs.forget()

    def _stage(self, parts: list[Part], name: str, among: set[int] | None) -> None:
        """All runs of an attack."""
        for wave in self._waves[name]:
            due = [self._due(part, wave, among) for part in parts]
            self._left = wave.cost * sum(map(len, due)) + self._later(parts, wave)
            for part, rows in zip(parts, due, strict=True):
                self._over(part, rows, self._job(part, wave), wave.cost)

    def _job(self, part: Part, wave: Wave) -> _Job:
        whole = part.whole or self._together
        return lambda part, rows, kept: self._runs.attack(part, rows, kept, wave, whole=whole)

    # Which samples.

    def _unseen(self, part: Part) -> list[int]:
        """Samples without a clean pass, and those of an earlier run that some attack is still to be made on."""
        fresh = {row for row, place in enumerate(part.places) if place not in self.record.rows}
        waves = [wave for waves in self._waves.values() for wave in waves]
        return sorted(fresh.union(*(self._due(part, wave, None) for wave in waves)))

    def _due(self, part: Part, wave: Wave, among: set[int] | None) -> list[int]:
        """The samples that a run is to be made on."""
        everybody = self.full or self._stages[wave.name].on == "right"
        rows = []
        for row, place in enumerate(part.places):
            known = self.record.rows.get(place)
            if known is None or not known.clean or (known.broken_by and not everybody):
                continue
            if not known.has(wave.name, wave.number) and (among is None or place in among):
                rows.append(row)
        return rows

    def _few(self, parts: list[Part], name: str) -> set[int]:
        """A tenth of those who had survived before an attack, by content: the same in whatever order they come."""
        rows = self.record.rows
        pairs = sorted((key, place) for part in parts for key, place in zip(part.keys, part.places, strict=True))
        survivors = [place for _, place in pairs if rows[place].clean and rows[place].broken_by <= {name}]
        return set(survivors[: math.ceil(len(survivors) / 10)])

    # In which batches.

    def _over(self, part: Part, rows: list[int], job: _Job, cost: float = 1.0, known: Collection[int] = ()) -> None:
        """Do a job on some samples, batch by batch; where memory runs out, on half a batch.

        Args:
            part: The samples in memory.
            rows: Those of them that the job is to be done on.
            job: Gives events.
            cost: Passes for a sample.
            known: Places of samples whose events are known already.
        """
        whole, meant = part.whole or self._together, {row for row in rows if part.places[row] not in known}
        todo = list(range(len(part))) if self._together or (part.whole and rows) else rows
        while todo:
            size = len(todo) if part.whole else self.batch_size
            batch = self._padded(todo[:size], part)
            kept = [i for i, row in enumerate(batch[:size]) if row in meant][: len(todo)]
            try:
                events = job(part, torch.tensor(batch), kept)
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if not out_of_memory(error) or whole or len(batch) == 1:
                    raise
                events = None
            if events is None:  # outside of `except`, whose error holds what fills the memory
                self.batch_size = half_of(len(batch))
                continue
            todo = todo[size:]
            self._take(events, cost)

    def _padded(self, rows: list[int], part: Part) -> list[int]:
        """A compiled network is given batches of one size: where there are too few samples, they are repeated."""
        if not self._one_size or part.whole:
            return rows
        size = min(self.batch_size, len(part))
        return [rows[i % len(rows)] for i in range(max(size, len(rows)))]

    def _take(self, events: list[Event], cost: float) -> None:
        if self._sink is not None and events:
            self._sink(events)
        self.record.see(events)
        self._done += cost * len(events)
        self._left = max(self._left - cost * len(events), 0.0)
        if self._tell is not None:
            self._tell(self._done, self._left)

    def _later(self, parts: list[Part], wave: Wave) -> float:
        """The work after a run, should all survivors withstand it."""
        order = [w for waves in self._waves.values() for w in waves]
        survivors = sum(self.record.rows[place].open for part in parts for place in part.places)
        later = order[order.index(wave) + 1 :]
        return sum(w.cost * survivors * (0.1 if self._stages[w.name].on == "few" else 1) for w in later)

    def _make_examples(self, parts: list[Part]) -> None:
        """Examples that an earlier run found are found again: an attack draws the same numbers on a sample."""
        for part in parts:
            lost = {
                row: known
                for row, place in enumerate(part.places)
                if (known := self.record.rows[place]).clean and known.attack and place not in self.seen.examples
            }
            self._over(part, list(lost), _silent(self._runs.clean))
            for wave in (wave for waves in self._waves.values() for wave in waves):
                rows = [r for r, k in lost.items() if k.attack == wave.name and wave.number in (-1, k.restart)]
                self._over(part, rows, _silent(self._job(part, wave)))


def _silent(job: _Job) -> _Job:
    """The same without events."""

    def done(part: Part, rows: Tensor, kept: list[int]) -> list[Event]:
        job(part, rows, kept)
        return []

    return done


def halved(ask: Callable[[int], _T], size: int) -> _T:
    """`ask(size)`, and where memory runs out, of half as many samples, down to one."""
    while True:
        try:
            return ask(size)
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not out_of_memory(error) or size == 1:
                raise
        size = half_of(size)  # outside of `except`, whose error holds what fills the memory


def half_of(size: int) -> int:
    """Half as many samples, one at least, and the memory free that torch keeps."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return max(size // 2, 1)


def out_of_memory(error: BaseException) -> bool:
    """Does an error say that memory has run out? Allocators of CPUs raise a RuntimeError."""
    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in text or "can't allocate memory" in text
