"""More training data: the extra part of SVHN, and batches mixed with generated or pseudo-labelled images."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, final

import numpy as np
import torch
from torch import Tensor, nn
from torchvision import datasets

from lightning_robust import _checks
from lightning_robust._checks import count, function, instance, number
from lightning_robust.datamodules._batches import Augmentation, Batches, ImageBatches
from lightning_robust.datamodules._counter import bits, digest
from lightning_robust.datamodules.base import ImageDataModule, Part
from lightning_robust.datamodules.in_memory import Source, as_tensor, whole
from lightning_robust.datamodules.vision import VisionDataModule

_EXTRA_STREAM = 3


@final
class SVHNExtra(VisionDataModule):
    """House numbers with the extra training images: 604,388 training and 26,032 test images, 10 classes.

    The 73,257 training images come first, then the 531,131 extra ones, which are easier. In memory they take 1.9 GB;
    reading needs scipy, and twice that memory.

    References:
        Netzer et al., "Reading digits in natural images with unsupervised feature learning", 2011. Schmidt et al.
        (NeurIPS 2018) train on both parts, to reach the plateau of standard accuracy.
    """

    num_classes = 10
    image_shape = (3, 32, 32)

    def read(self, source: Source, *, download: bool) -> tuple[Tensor, Tensor]:
        """Images and labels."""
        parts = ("train", "extra") if source == "train" else ("test",)
        images, labels = [], []
        for part in parts:
            files = datasets.SVHN(self.root, split=part, download=download)
            images.append(torch.from_numpy(files.data))
            labels.append(torch.from_numpy(files.labels))
        return torch.cat(images).contiguous(), torch.cat(labels)


def read_npz(path: str | Path) -> tuple[Tensor, Tensor]:
    """Read generated or pseudo-labelled images from a file of numpy, as public sets of generated images are stored.

    Args:
        path: a file with the arrays `image`, uint8 of shape (M, H, W, C), and `label`, integers of shape (M,).

    Returns:
        Images, uint8 of shape (M, C, H, W), and labels, int64 of shape (M,).

    Raises:
        ValueError: if the file holds something else. Pickled objects are never loaded.
    """
    place = _checks.path("path", path)
    with place.open("rb") as file:
        try:
            loaded = np.load(file, allow_pickle=False)
            arrays = {name: loaded[name] for name in ("image", "label") if name in loaded.files}
        except Exception:  # numpy's own text advises to load pickles
            raise ValueError(
                f"Expected argument `path` to name an .npz file of plain arrays, but {str(path)!r} is damaged, or "
                "something else, or holds Python objects, which are never loaded."
            ) from None
    if len(arrays) < 2:
        raise ValueError(f"Expected {str(path)!r} to hold the arrays image and label, but got {sorted(loaded.files)}.")
    images, labels = arrays["image"], arrays["label"]
    if (
        images.ndim != 4
        or images.dtype != np.uint8
        or labels.shape != images.shape[:1]
        or labels.dtype.kind not in "iu"
    ):
        raise ValueError(
            f"Expected {str(path)!r} to hold uint8 images (M, H, W, C) and integer labels (M,), but got "
            f"{images.dtype} {images.shape} and {labels.dtype} {labels.shape}."
        )
    return torch.from_numpy(images).movedim(3, 1).contiguous(), torch.from_numpy(labels.astype(np.int64))


@torch.no_grad()
def pseudo_labels(model: Callable[[Tensor], Tensor], images: Tensor, batch_size: int = 512) -> Tensor:
    """Label images by a classifier, for self-training (Carmon et al., NeurIPS 2019; Alayrac et al., NeurIPS 2019).

    Args:
        model: images, float in [0, 1], to logits (N, K); a network must be in evaluation mode.
        images: (M, C, H, W), uint8 or float in [0, 1], on the device of the model.
        batch_size: how many images to label at once.

    Returns:
        The most likely classes, int64 of shape (M,).

    Raises:
        ValueError: if the model is in training mode.

    Example:
        >>> pseudo_labels(lambda x: torch.stack([1 - x.mean((1, 2, 3)), x.mean((1, 2, 3))], 1), torch.ones(3, 1, 2, 2))
        tensor([1, 1, 1])
    """
    if isinstance(model, nn.Module) and model.training:
        raise ValueError(
            "Expected argument `model` to be in evaluation mode, but got it in training: call `model.eval()`."
        )
    function("model", model, "images -> logits")
    instance("images", images, Tensor, "a tensor (M, C, H, W)")
    found = []
    for part in images.split(count("batch_size", batch_size)):
        x = part.to(torch.float32) / 255 if part.dtype == torch.uint8 else part
        found.append(model(x).argmax(1))
    return torch.cat(found)


class _Both(NamedTuple):
    """A training batch as the loader makes it."""

    own: Any
    x: Tensor
    y: Tensor


class _MixedBatches(Batches):
    """Batches of one data set, each with some samples of another.

    The extra samples of a batch are drawn with replacement by (seed, the indices of the batch), so that a batch is the
    same however often and wherever it is made.
    """

    def __init__(self, own: Batches, extra: ImageBatches, share: float, seed: int) -> None:
        super().__init__(own.rows)
        self.own, self.extra, self.share, self.seed = own, extra, share, seed

    def __getitems__(self, indices: Sequence[int]) -> Any:
        number = torch.as_tensor(indices, dtype=torch.int64)
        count = round(len(number) * self.share / (1 - self.share))
        place = torch.tensor(digest(self.seed, number)), torch.tensor(_EXTRA_STREAM), torch.arange(count)
        rows = (bits(self.seed, *place) & ((1 << 62) - 1)) % len(self.extra)
        return _Both(self.own.__getitems__(indices), *self.extra.__getitems__(rows.tolist()))


@final
class Mixed(ImageDataModule):
    """Another data module whose training batches also hold extra images: generated, or with pseudo-labels.

    The batches of `base` come as they are, every sample once an epoch, and to each of b samples are added
    b * share / (1 - share) extra ones, rounded. So the number of steps is that of `base`, and `share` 0.5 with a
    batch size of 128 gives batches of 256, half of them extra, as in Carmon et al. (NeurIPS 2019). Validation and test
    are those of `base`.

    Training batches are (x, y), the samples of `base` first; what else its batches hold, such as latent codes, is left
    out in training, since extra images have none.

    Extra samples are drawn with replacement, where Carmon et al. permute them; with hundreds of thousands it makes no
    difference.

    Args:
        base: the data, with its loaders' settings.
        images: (M, C, H, W), uint8 or float in the range of `base`.
        labels: int64 of shape (M,).
        share: the share of extra samples in a training batch, between 0 and 1.
        augment: of the extra images; that of `base` concerns its own only.
        seed: of the draws of extra samples; None: that of `base`.

    Raises:
        ValueError: if an argument has another value than said here, or the images do not fit those of `base`.

    Example:
        >>> from lightning_robust.datamodules import TensorDataModule
        >>> own = torch.zeros(40, 1, 4, 4), torch.arange(40) % 2
        >>> base = TensorDataModule(own, own, val_size=0, batch_size=10)
        >>> mixed = Mixed(base, torch.ones(500, 1, 4, 4), torch.arange(500) % 2, share=0.75)
        >>> len(base.train_dataloader()), mixed.training_dataset().__getitems__(range(10)).x.shape
        (4, torch.Size([30, 1, 4, 4]))
    """

    def __init__(
        self,
        base: ImageDataModule,
        images: Tensor,
        labels: Tensor,
        *,
        share: float = 0.5,
        augment: Augmentation | None = None,
        seed: int | None = None,
    ) -> None:
        instance("base", base, ImageDataModule, "an ImageDataModule")
        super().__init__(
            batch_size=base.batch_size,
            eval_batch_size=base.eval_batch_size,
            num_workers=base.num_workers,
            pin_memory=base.pin_memory,
            drop_last=base.drop_last,
            seed=base.seed,
        )
        self.share = number("share", share, 0, 1, above=True, below=True)
        images, labels = as_tensor("argument `images`", images), as_tensor("argument `labels`", labels)
        if images.ndim < 2 or tuple(images.shape[1:]) != tuple(base.image_shape) or len(images) == 0:
            raise ValueError(
                f"Expected argument `images` to be M >= 1 images of shape {tuple(base.image_shape)}, but got "
                f"{tuple(images.shape)}."
            )
        if images.dtype != torch.uint8:
            low, high = float(images.min()), float(images.max())
            if not (images.is_floating_point() and base.value_range[0] <= low <= high <= base.value_range[1]):
                raise ValueError(
                    f"Expected argument `images` to be uint8, or floating in {list(base.value_range)}, but got "
                    f"{images.dtype} in [{low:g}, {high:g}]."
                )
        if labels.shape != images.shape[:1]:
            raise ValueError(
                f"Expected argument `labels` to be of shape ({len(images)},), but got {tuple(labels.shape)}."
            )
        labels = whole("argument `labels`", labels, base.num_classes)
        augment = None if augment is None else function("augment", augment, "images -> images")
        self.base = base
        self.num_classes, self.image_shape, self.value_range = base.num_classes, base.image_shape, base.value_range
        self._extra_seed = base.seed if seed is None else _checks.seed("seed", seed)
        self._extra = ImageBatches(images, labels, torch.arange(len(labels)), augment, self._extra_seed)

    @classmethod
    def from_npz(cls, base: ImageDataModule, path: str | Path, **kwargs: Any) -> "Mixed":
        """Extra images from a file, see `read_npz`; further arguments as for `Mixed`."""
        return cls(base, *read_npz(path), **kwargs)

    def prepare_data(self) -> None:
        """Whatever `base` does."""
        self.base.prepare_data()

    def dataset(self, part: Part) -> Batches:
        """One part of `base`."""
        return self.base.dataset(part)

    def training_dataset(self) -> Batches:
        """The training data of `base`, augmented as it does, with extra samples."""
        return _MixedBatches(self.base.training_dataset(), self._extra, self.share, self._extra_seed)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Finish the batch as `base` does, and add what is extra; x in the precision of the Trainer."""
        if not isinstance(batch, _Both):
            return self._converted(self.base.on_after_batch_transfer(batch, dataloader_idx))
        x, y, *_ = self._converted(self.base.on_after_batch_transfer(batch.own, dataloader_idx))
        return torch.cat([x, batch.x.to(x)]), torch.cat([y, batch.y])

    def _converted(self, batch: Any) -> Any:
        """`base` has no Trainer that would tell it the precision."""
        if self.trainer is None or not isinstance(batch, tuple):
            return batch
        return (self.trainer.precision_plugin.convert_input(batch[0]), *batch[1:])
