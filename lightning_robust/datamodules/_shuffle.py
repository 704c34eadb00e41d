"""The order in which training samples are drawn."""

from collections.abc import Iterator

from torch.utils.data import Sampler

from lightning_robust.datamodules._counter import permutation


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
