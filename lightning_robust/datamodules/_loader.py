"""A training loader that goes on in the middle of an epoch."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

from lightning_robust.datamodules._shuffle import Shuffle


class ResumableLoader(DataLoader):
    """A `DataLoader` whose state is which batches of which epoch it has served.

    Lightning keeps the state of such a loader in its checkpoints. When training goes on from a checkpoint in the middle
    of an epoch, the batches of that epoch that were served before are passed over, so that none comes twice and none is
    left out. The sampler must know the epoch, as `Shuffle` does, also inside Lightning's distributed sampler; with any
    other there is nothing to resume.
    """

    _progress = (-1, 0)
    _resume = (-1, 0)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        epoch = self.sampler.epoch if isinstance(self.sampler, Shuffle | DistributedSampler) else -1
        served = self._resume[1] if epoch >= 0 and self._resume[0] == epoch else 0
        self._resume = (-1, 0)
        for batch in islice(super().__iter__(), served, None):
            served += 1
            self._progress = (epoch, served)
            yield batch

    def state_dict(self) -> dict[str, int]:
        """The current epoch, and the number of its batches that have been served."""
        return {"epoch": self._progress[0], "served": self._progress[1]}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """If the next pass is the epoch of the state, it begins after the batches that were served."""
        self._resume = (state["epoch"], state["served"])
