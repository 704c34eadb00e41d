"""What all image data modules share: the loaders."""

from abc import ABC, abstractmethod
from functools import partial
from typing import Any, ClassVar, Literal, final

import torch
from torch.utils.data import DataLoader

from lightning_robust import _checks
from lightning_robust._checks import boolean, count
from lightning_robust._lightning import pl
from lightning_robust.datamodules._batches import Batches, identity
from lightning_robust.datamodules._loader import ResumableLoader, Shuffle

Part = Literal["train", "val", "test"]


class ImageDataModule(pl.LightningDataModule, ABC):
    """Labeled images in [0, 1], in three parts: train, val (held out from the training data) and test.

    A subclass supplies `dataset`; the loaders are made here and are final. They draw nothing from the global
    generators. The training order depends on (seed, epoch) alone; under several processes Lightning puts its own
    sampler around it.

    Args:
        batch_size: of training, for each process.
        eval_batch_size: of validation and test; None: `batch_size`.
        num_workers: processes that make batches. The data is in memory and a batch is one indexing operation, so 0 is
            usually fastest.
        pin_memory: whether loaders put batches into page-locked memory.
        drop_last: whether training drops a last batch that is smaller than the others.
        seed: of the training order, of the held-out validation part and of training subsets.

    Attributes:
        num_classes: the number of classes K; labels are 0 to K - 1.
        image_shape: the shape (C, H, W) of an image.
        value_range: the least and greatest value a pixel can have.
    """

    num_classes: int
    image_shape: tuple[int, ...]
    value_range: tuple[float, float] = (0.0, 1.0)

    makes_batches_late: ClassVar[bool] = False
    """Whether `on_after_batch_transfer` makes a batch of what loaders give. It must leave a made batch as it is."""

    def __init__(
        self,
        *,
        batch_size: int = 128,
        eval_batch_size: int | None = None,
        num_workers: int = 0,
        pin_memory: bool = False,
        drop_last: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.batch_size = count("batch_size", batch_size)
        self.eval_batch_size = None if eval_batch_size is None else count("eval_batch_size", eval_batch_size)
        self.num_workers = count("num_workers", num_workers, 0)
        self.pin_memory, self.drop_last = boolean("pin_memory", pin_memory), boolean("drop_last", drop_last)
        self.seed = _checks.seed("seed", seed)

    @abstractmethod
    def dataset(self, part: Part) -> Batches:
        """One part of the data. Training data comes without augmentation.

        Called often: what is expensive is made once.
        """

    def training_dataset(self) -> Batches:
        """What the training loader draws from: `dataset("train")`, augmented where a subclass does so."""
        return self.dataset("train")

    def tensors(self, part: Part, limit: int | None = None) -> Any:
        """The first `limit` samples of a part (None: all of them) as one batch on the CPU; without a Trainer.

        Example:
            >>> from lightning_robust.datamodules import Fonts
            >>> x, y, code = Fonts().tensors("test", limit=20)
            >>> x.shape
            torch.Size([20, 1, 28, 28])
        """
        dataset = self.dataset(part)
        size = len(dataset) if limit is None else min(count("limit", limit), len(dataset))
        return self.on_after_batch_transfer(dataset.__getitems__(range(size)), 0)

    @final
    def setup(self, stage: str) -> None:
        """Read the data, so that a missing file is noticed before training starts."""
        parts: dict[str, tuple[Part, ...]] = {"fit": ("train", "val"), "validate": ("val",)}
        for part in parts.get(stage, ("test",)):
            self.dataset(part)

    @final
    def train_dataloader(self) -> DataLoader:
        """Shuffled batches of `batch_size`."""
        dataset = self.training_dataset()
        epoch = 0 if self.trainer is None else self.trainer.current_epoch
        order = Shuffle(len(dataset), self.seed, epoch)
        return ResumableLoader(
            dataset, batch_size=self.batch_size, sampler=order, drop_last=self.drop_last, **self._loader_options()
        )

    @final
    def val_dataloader(self) -> DataLoader | list[DataLoader]:
        """Batches of the held-out part of the training data; no loader if it is empty."""
        dataset = self.dataset("val")
        return self._eval_loader(dataset) if len(dataset) else []

    @final
    def test_dataloader(self) -> DataLoader:
        """Batches of the test data."""
        return self._eval_loader(self.dataset("test"))

    @final
    def predict_dataloader(self) -> DataLoader:
        """Batches of the test data."""
        return self._eval_loader(self.dataset("test"))

    def _eval_loader(self, dataset: Batches) -> DataLoader:
        size = self.batch_size if self.eval_batch_size is None else self.eval_batch_size
        return DataLoader(dataset, batch_size=size, **self._loader_options())

    def _loader_options(self) -> dict[str, Any]:
        """Without a running Trainer nobody calls `on_after_batch_transfer`: then loaders do."""
        late = self.makes_batches_late and (self.trainer is None or self.trainer.state.status != "running")
        return {
            "num_workers": self.num_workers,
            "persistent_workers": self.num_workers > 0,
            "pin_memory": self.pin_memory,
            "collate_fn": partial(self.on_after_batch_transfer, dataloader_idx=0) if late else identity,
            # Without one of its own, a loader draws the seed of its workers from the global generator.
            "generator": torch.Generator().manual_seed(self.seed),
        }


def options_of(data: ImageDataModule) -> dict[str, Any]:
    """The arguments of `ImageDataModule` with which a data module was made."""
    names = ("batch_size", "eval_batch_size", "num_workers", "pin_memory", "drop_last", "seed")
    return {name: getattr(data, name) for name in names}
