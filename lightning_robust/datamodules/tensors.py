"""A data module made of tensors."""

from typing import Any, final

import numpy as np
from torch import Tensor

from lightning_robust._checks import count, interval
from lightning_robust.datamodules.in_memory import InMemoryDataModule, Source, as_tensor


@final
class TensorDataModule(InMemoryDataModule):
    """Labeled images that the caller has in memory.

    Args:
        train: images (N, C, H, W), uint8 or float in `value_range`, and integer labels of shape (N,). Images may have
            any other shape (N, ...) of at least two dimensions. Numpy arrays are welcome; float64 becomes float32.
        test: likewise.
        num_classes: the number of classes; None: one more than the greatest training label.
        value_range: the least and greatest value a pixel of float images can have.
        kwargs: as for `InMemoryDataModule`; `val_size` counts samples of `train`.

    Example:
        >>> import torch
        >>> x, y = torch.rand(100, 1, 8, 8), torch.arange(100) % 10
        >>> data = TensorDataModule(train=(x, y), test=(x, y), val_size=20, batch_size=16)
        >>> data.num_classes, len(data.dataset("train")), len(data.dataset("val"))
        (10, 80, 20)
    """

    def __init__(
        self,
        train: tuple[Tensor | np.ndarray, Tensor | np.ndarray],
        test: tuple[Tensor | np.ndarray, Tensor | np.ndarray],
        *,
        num_classes: int | None = None,
        value_range: tuple[float, float] = (0.0, 1.0),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._sources = {"train": _pair("train", train), "test": _pair("test", test)}
        images, labels = self._sources["train"]
        self.num_classes = int(labels.max()) + 1 if num_classes is None else count("num_classes", num_classes)
        self.image_shape = tuple(images.shape[1:])
        self.value_range = interval("value_range", value_range, finite=False)
        self.dataset("train"), self.dataset("test")  # what does not fit is refused here, not in the Trainer

    def load(self, source: Source) -> tuple[Tensor, Tensor]:
        """The tensors as they were passed."""
        return self._sources[source]

    def _called(self, source: Source) -> str:
        return f"argument `{source}`"


def _pair(name: str, value: Any) -> tuple[Tensor, Tensor]:
    if not isinstance(value, tuple | list) or len(value) != 2:
        got = f"{len(value)} things" if isinstance(value, tuple | list) else type(value).__name__
        raise TypeError(f"Expected argument `{name}` to be a pair (images, labels), but got {got}.")
    images, labels = (as_tensor(f"argument `{name}`", part) for part in value)
    if images.ndim < 2 or labels.numel() == 0:
        raise ValueError(
            f"Expected argument `{name}` to be images (N, ...) of at least two dimensions and N >= 1 labels, "
            f"but got {tuple(images.shape)} and {tuple(labels.shape)}."
        )
    return images, labels
