"""Data modules whose images fit in memory."""

from abc import abstractmethod
from typing import Any, Literal, TypeAlias, final

import numpy as np
import torch
from torch import Tensor

from lightning_robust._checks import count, function
from lightning_robust.datamodules._batches import Augmentation, ImageBatches
from lightning_robust.datamodules.base import ImageDataModule, Part
from lightning_robust.datamodules.subsets import balanced_subset, stratified_split

Source: TypeAlias = Literal["train", "test"]
"""What a data set is published as."""


class InMemoryDataModule(ImageDataModule):
    """Labeled images that are tensors in memory; batches are (x, y), x float in [0, 1].

    A subclass supplies `load`, `num_classes` and `image_shape`. Validation is a held-out part of the training data, in
    proportion to the classes, and never the test set. A training set of `train_size` is class-balanced, and for one
    `seed` a smaller one is contained in a larger one.

    Args:
        train_size: number of training samples, a multiple of the number of classes; None: all that are not held out.
        val_size: number of training samples that are held out for validation.
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
        self.train_size = None if train_size is None else count("train_size", train_size)
        self.val_size = count("val_size", val_size, 0)
        self.augment = None if augment is None else function("augment", augment, "images -> images")
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
                rest, held_out = stratified_split(labels, self.val_size, self.seed, name="val_size")
                if self.train_size is not None:
                    rest = rest[balanced_subset(labels[rest], self.train_size, self.seed, name="train_size")]
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
        return checked(self._called(source), *self.load(source), self)

    def _called(self, source: Source) -> str:
        """What errors call the data."""
        return f"the {source} data of {type(self).__name__}"


def as_tensor(where: str, value: Any) -> Tensor:
    """A tensor as it is, a numpy array as a tensor, in float32 where it is of float64."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        plain = value.astype(np.float32) if value.dtype == np.float64 else value
        return torch.from_numpy(np.require(plain, requirements=("C", "W")))
    if not isinstance(value, Tensor):
        kind = f"an array of {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
        raise TypeError(f"Expected {where} to be tensors or numpy arrays, but got {kind}.")
    return value


def checked(where: str, images: Any, labels: Any, data: ImageDataModule) -> tuple[Tensor, Tensor]:
    """Images and labels as tensors, labels int64, if they are such as `data` has; errors call them `where`."""
    images, labels = as_tensor(where, images), as_tensor(where, labels)
    if labels.ndim != 1 or len(labels) == 0 or images.shape != (len(labels), *data.image_shape):
        raise ValueError(
            f"Expected {where} to be N >= 1 images of shape {tuple(data.image_shape)} and labels of shape (N,), "
            f"but got {tuple(images.shape)} and {tuple(labels.shape)}."
        )
    integer = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
    if not integer or int(labels.min()) < 0 or int(labels.max()) >= data.num_classes:
        got = f"labels in [{labels.min()}, {labels.max()}]" if integer else f"{labels.dtype} labels"
        raise ValueError(f"Expected {where} to have integer labels in [0, {data.num_classes - 1}], but got {got}.")
    if images.dtype == torch.uint8:
        return images, labels.long()
    if not images.is_floating_point():
        raise ValueError(f"Expected {where} to be uint8 or floating images, but got {images.dtype}.")
    low, high = float(images.min()), float(images.max())
    if not data.value_range[0] <= low <= high <= data.value_range[1]:  # false for NaN too
        raise ValueError(
            f"Expected {where} to be images in {list(data.value_range)}, but got values in [{low:g}, {high:g}]. "
            "Divide images in [0, 255] by 255, or pass them as uint8; normalize in the model's first layer."
        )
    return images, labels.long()
