"""When a module is asked a few questions about itself, on how many batches, and what was found when it was last."""

import math
from typing import Any

from lightning_robust._lightning import pl
from lightning_robust.callbacks._counts import Counts
from lightning_robust.callbacks._every import is_last
from lightning_robust.evaluation._indicator import Indicator
from lightning_robust.evaluation._measured import BATCHES, ENOUGH
from lightning_robust.evaluation._reader import Sample


class Probes:
    """Outside of fit a module is asked in every run. Within fit it changes slowly, and is asked in the first, second,
    fourth, eighth, ... validation that measures, and in the last; in between what was found last stands.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Another fit begins."""
        self._number, self._due = 0, False
        self._found: dict[int, list[Indicator]] = {}

    def begin(self, trainer: pl.Trainer) -> None:
        """A validation or a test begins that measures. All processes agree on when the module is asked."""
        self._number += 1
        doubled = self._number & (self._number - 1) == 0
        self._due = trainer.state.fn != "fit" or doubled or is_last(trainer)

    def look(
        self,
        counts: Counts,
        module: Any,
        sample: Sample,
        key: int,
        *,
        loader: int,
        size: int | None,
        rank: int,
        processes: int,
    ) -> None:
        """Ask about the first batch of a dataloader, and the next ones while samples are few, or say again what is
        known; arguments as for `Counts.probe`.

        Args:
            counts: Where doubts are counted.
            module: The module, not wrapped in DDP.
            sample: The batch.
            key: Of random moves.
            loader: Number of the dataloader.
            size: Of its batches, the same on all processes; None: not known.
            rank: Which part of the data this process has.
            processes: Their number.
        """
        if not self._due:
            counts.probed = self._found.get(loader, [])
        elif not counts.answers.enough if processes == 1 else counts.answers.batches < _batches_of(size):
            counts.probe(module, sample, key, rank=rank, processes=processes)
            self._found[loader] = counts.probed


def _batches_of(size: int | None) -> int:
    """How many batches processes ask about. They may wait for one another in each forward, so the number is read off
    what all know: not off their batches, whose sizes and number may differ. Of batches of unknown size one is asked.
    """
    return 1 if size is None else min(BATCHES, math.ceil(ENOUGH / size))
