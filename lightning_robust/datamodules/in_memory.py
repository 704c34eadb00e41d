"""Data modules whose images fit in memory."""

from abc import abstractmethod
from typing import Any, Literal, TypeAlias, final

import torch
from torch import Tensor

from lightning_robust.datamodules._batches import Augmentation, ImageBatches
from lightning_robust.datamodules.base import ImageDataModule, Part, at_least
from lightning_robust.datamodules.subsets import balanced_subset, stratified_split

Source: TypeAlias = Literal["train", "test"]
"""What a data set is published as."""


class InMemoryDataModule(ImageDataModule):
    """Labelled images that are tensors in memory; batches are (x, y), x float in [0, 1].

    A subclass supplies `load`. Validation is a held-out part of the training data, in proportion to the classes, and
    never the test set. A training set of `train_size` is class-balanced, and for one `seed` a smaller one is
    contained in a larger one.

    Args:
        train_size: how many samples to train on, a multiple of the number of classes; None: all that are not held out.
        val_size: how many training samples to hold out for validation.
        augment: a random map of a batch of training images (N, C, H, W), such as `RandomCropFlip()`, that draws from
            torch's default generator; None: none. It is seeded for each batch, so what it does depends on (seed,
            epoch, samples of the batch) alone.
        kwargs: as for `ImageDataModule`.
    """

    def __init__(
        self,
        *,
        train_size: int | None = None,
        val_size: int = 5000,
        augment: Augmentation | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.train_size = None if train_size is None else at_least("train_size", train_size, 1)
        self.val_size = at_least("val_size", val_size, 0)
        self.augment = augment
        self._datasets: dict[Part, ImageBatches] = {}

    @abstractmethod
    def load(self, source: Source) -> tuple[Tensor, Tensor]:
        """Read images, uint8 or float of shape (N, C, H, W), and labels, int64 of shape (N,)."""

    @final
    def dataset(self, part: Part) -> ImageBatches:
        """One part of the data; read at the first call."""
        if part not in self._datasets:
            if part == "test":
                images, labels = self._checked("test")
                self._datasets["test"] = ImageBatches(images, labels, torch.arange(len(labels)))
            else:
                images, labels = self._checked("train")
                rest, held_out = stratified_split(labels, self.val_size, self.seed)
                if self.train_size is not None:
                    rest = rest[balanced_subset(labels[rest], self.train_size, self.seed)]
                self._datasets["train"] = ImageBatches(images, labels, rest)
                self._datasets["val"] = ImageBatches(images, labels, held_out)
        return self._datasets[part]

    @final
    def training_dataset(self) -> ImageBatches:
        """The training data, augmented."""
        plain = self.dataset("train")
        return ImageBatches(plain.images, plain.labels, plain.rows, self.augment, self.seed)

    def _checked(self, source: Source) -> tuple[Tensor, Tensor]:
        """The data, if it is what `num_classes`, `image_shape` and `value_range` say."""
        images, labels = self.load(source)
        where = f"the {source} data of {type(self).__name__}"
        if labels.ndim != 1 or len(labels) == 0 or images.shape != (len(labels), *self.image_shape):
            raise ValueError(
                f"Expected {where} to be N >= 1 images of shape {self.image_shape} and labels of shape (N,), "
                f"but got {tuple(images.shape)} and {tuple(labels.shape)}."
            )
        if labels.dtype != torch.int64 or int(labels.min()) < 0 or int(labels.max()) >= self.num_classes:
            raise ValueError(
                f"Expected {where} to have int64 labels in [0, {self.num_classes - 1}], "
                f"but got {labels.dtype} labels in [{labels.min()}, {labels.max()}]."
            )
        if images.dtype == torch.uint8:
            return images, labels
        if not images.is_floating_point():
            raise ValueError(f"Expected {where} to be uint8 or floating images, but got {images.dtype}.")
        low, high = float(images.min()), float(images.max())
        if not self.value_range[0] <= low <= high <= self.value_range[1]:  # false for NaN too
            raise ValueError(
                f"Expected {where} to be images in {list(self.value_range)}, but got values in [{low:g}, {high:g}]. "
                "Divide images in [0, 255] by 255, or pass them as uint8; normalise in the model's first layer."
            )
        return images, labels
