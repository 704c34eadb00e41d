"""The order of training samples, and a loader that goes on in the middle of an epoch."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from torch.utils.data import DataLoader, Sampler
from torch.utils.data.distributed import DistributedSampler

from lightning_robust._counter import permutation


class Shuffle(Sampler[int]):
    """All samples once an epoch, in an order that depends on (seed, epoch) alone.

    Nothing is drawn from a global generator, and an epoch that is resumed has the order that it would have had.
    Lightning sets the epoch; without it, each pass over the sampler is the next epoch. In epoch e, sample i of n
    appears as index `e * n + i`, see `lightning_robust.datamodules._batches`.

    Args:
        size: the number of samples n.
        seed: of the order.
        epoch: of the first pass.
    """

    def __init__(self, size: int, seed: int = 0, epoch: int = 0) -> None:
        self.size, self.seed, self.epoch = size, seed, epoch

    def __len__(self) -> int:
        return self.size

    def set_epoch(self, epoch: int) -> None:
        """The next pass is epoch `epoch`."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        epoch, self.epoch = self.epoch, self.epoch + 1
        return iter((permutation(self.size, self.seed, epoch) + epoch * self.size).tolist())


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
