"""More training data: batches with generated or pseudo-labeled images."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, final

import numpy as np
import torch
from torch import Tensor, nn

from lightning_robust import _checks
from lightning_robust._checks import count, function, instance, number
from lightning_robust._counter import bits, digest
from lightning_robust.datamodules._batches import Augmentation, Batches, ImageBatches
from lightning_robust.datamodules.base import ImageDataModule, Part, options_of
from lightning_robust.datamodules.in_memory import checked

_EXTRA_STREAM = 3


def read_npz(path: str | Path) -> tuple[Tensor, Tensor]:
    """Read generated or pseudo-labeled images from a file of numpy, as public sets of generated images are stored.

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
    good = images.ndim == 4 and images.dtype == np.uint8 and labels.dtype.kind in "iu"
    if not good or labels.shape != images.shape[:1]:
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
        batch_size: number of images that are labeled at once.

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
    parts = images.split(count("batch_size", batch_size))
    floats = (part.to(torch.float32) / 255 if part.dtype == torch.uint8 else part for part in parts)
    return torch.cat([model(x).argmax(1) for x in floats])


class _Both(NamedTuple):
    """A training batch as the loader makes it."""

    own: Any
    x: Tensor
    y: Tensor


class _ExtraBatches(Batches):
    """Batches of one data set, each with some samples of another.

    The extra samples of a batch are drawn with replacement by (seed, the indices of the batch), so that a batch is the
    same however often and wherever it is made.
    """

    def __init__(self, own: Batches, extra: ImageBatches, fraction: float, seed: int) -> None:
        super().__init__(own.rows)
        self.own, self.extra, self.fraction, self.seed = own, extra, fraction, seed

    def __getitems__(self, indices: Sequence[int]) -> Any:
        number = torch.as_tensor(indices, dtype=torch.int64)
        count = round(len(number) * self.fraction / (1 - self.fraction))
        place = torch.tensor(digest(self.seed, number)), torch.tensor(_EXTRA_STREAM), torch.arange(count)
        rows = (bits(self.seed, *place) & ((1 << 62) - 1)) % len(self.extra)
        return _Both(self.own.__getitems__(indices), *self.extra.__getitems__(rows.tolist()))


@final
class ExtraDataModule(ImageDataModule):
    """Another data module whose training batches also hold extra images: generated, or with pseudo-labels.

    The batches of `base` come as they are, every sample once an epoch, and to each of b samples are added
    b * fraction / (1 - fraction) extra ones, rounded. So the number of steps is that of `base`, and `fraction` 0.5 with
    a batch size of 128 gives batches of 256, half of them extra, as in Carmon et al. (NeurIPS 2019). Validation and
    test are those of `base`.

    Training batches are (x, y), the samples of `base` first; what else its batches hold, such as latent codes, is left
    out in training, since extra images have none.

    Extra samples are drawn with replacement, where Carmon et al. permute them; with hundreds of thousands it makes no
    difference.

    Args:
        base: the data, with its loaders' options.
        images: (M, C, H, W), uint8 or float in the range of `base`.
        labels: integers of shape (M,).
        fraction: the fraction of extra samples in a training batch, between 0 and 1.
        augment: of the extra images; that of `base` concerns its own only.
        seed: of the draws of extra samples; None: that of `base`.

    Raises:
        ValueError: if an argument has another value than said here, or the images do not fit those of `base`.

    Example:
        >>> from lightning_robust.datamodules import TensorDataModule
        >>> own = torch.zeros(40, 1, 4, 4), torch.arange(40) % 2
        >>> base = TensorDataModule(own, own, val_size=0, batch_size=10)
        >>> data = ExtraDataModule(base, torch.ones(500, 1, 4, 4), torch.arange(500) % 2, fraction=0.75)
        >>> [len(x) for x, y in data.train_dataloader()]
        [40, 40, 40, 40]
    """

    makes_batches_late = True

    def __init__(
        self,
        base: ImageDataModule,
        images: Tensor,
        labels: Tensor,
        *,
        fraction: float = 0.5,
        augment: Augmentation | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__(**options_of(instance("base", base, ImageDataModule, "an ImageDataModule")))
        self.fraction = number("fraction", fraction, 0, 1, above=True, below=True)
        images, labels = checked("arguments `images` and `labels`", images, labels, base)
        augment = None if augment is None else function("augment", augment, "images -> images")
        self.base = base
        self.num_classes, self.image_shape, self.value_range = base.num_classes, base.image_shape, base.value_range
        self._extra_seed = base.seed if seed is None else _checks.seed("seed", seed)
        self._extra = ImageBatches(images, labels, torch.arange(len(labels)), augment, self._extra_seed)

    @classmethod
    def from_npz(cls, base: ImageDataModule, path: str | Path, **kwargs: Any) -> "ExtraDataModule":
        """Extra images from a file, see `read_npz`; further arguments as for the class."""
        return cls(base, *read_npz(path), **kwargs)

    def prepare_data(self) -> None:
        """Whatever `base` does."""
        self.base.prepare_data()

    def dataset(self, part: Part) -> Batches:
        """One part of `base`."""
        return self.base.dataset(part)

    def training_dataset(self) -> Batches:
        """The training data of `base`, augmented as it does, with extra samples."""
        return _ExtraBatches(self.base.training_dataset(), self._extra, self.fraction, self._extra_seed)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Finish the batch as `base` does, and add what is extra; x in the precision of the Trainer."""
        own = self.base.on_after_batch_transfer(batch.own if isinstance(batch, _Both) else batch, dataloader_idx)
        if self.trainer is not None and isinstance(own, tuple):  # `base` has no Trainer that would tell the precision
            own = (self.trainer.precision_plugin.convert_input(own[0]), *own[1:])
        if not isinstance(batch, _Both):
            return own
        return torch.cat([own[0], batch.x.to(own[0])]), torch.cat([own[1], batch.y])
