"""Map-style datasets that index tensors once per batch.

The loader hands a whole list of indices to `__getitems__`, which returns a finished batch: no sample is touched alone
and nothing is collated. An index may exceed the length: index `epoch * len + i` is sample i in that epoch. So what
differs from epoch to epoch, the augmentation, depends on the index alone, also in worker processes that outlive an
epoch.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils.data import Dataset

from lightning_robust._counter import digest

Augmentation = Callable[[Tensor], Any]
"""A random map of a batch of images, float32 (N, C, H, W) to the same, that draws from torch's default generator.

(`Any`: a command line would take `Callable[[Tensor], Tensor]` to mean a class whose instances are tensors.)
"""

T = TypeVar("T")


def identity(batch: T) -> T:
    """The collate function of a dataset whose `__getitems__` returns a finished batch."""
    return batch


class Batches(Dataset[Any]):
    """A selection of rows, served as batches.

    Args:
        rows: int64 of shape (N,), the rows of the data that belong to this selection, in order.
    """

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, indices: Sequence[int]) -> Any:
        return self.rows[torch.as_tensor(indices, dtype=torch.int64) % len(self.rows)]

    def __getitem__(self, index: int) -> Any:
        if not -len(self) <= index < len(self):
            raise IndexError(f"Expected argument `index` to be in [{-len(self)}, {len(self)}), but got {index}.")
        return _first(self.__getitems__([index]))


def _first(batch: Any) -> Any:
    """The first sample of a batch; tuples may be nested."""
    return tuple(_first(part) for part in batch) if isinstance(batch, tuple) else batch[0]


class ImageBatches(Batches):
    """Labeled images that are in memory: batches (x, y).

    Args:
        images: (M, C, H, W), uint8, which become float32 in [0, 1], or float, which stay as they are.
        labels: int64 of shape (M,).
        rows: the rows of `images` that belong to this selection.
        augment: applied to x; None: nothing is. The default generator is seeded for the time of the call, by `seed`
            and the indices, and put back: a batch is augmented in the same way however often and wherever it is made.
        seed: of the augmentation.
    """

    def __init__(
        self, images: Tensor, labels: Tensor, rows: Tensor, augment: Augmentation | None = None, seed: int = 0
    ) -> None:
        super().__init__(rows)
        self.images, self.labels, self.augment, self.seed = images, labels, augment, seed

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        rows = super().__getitems__(indices)
        x, y = self.images[rows], self.labels[rows]
        if x.dtype == torch.uint8:
            x = x.to(torch.float32) / 255
        if self.augment is None:
            return x, y
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(digest(self.seed, torch.as_tensor(indices, dtype=torch.int64)))
            return self.augment(x), y
