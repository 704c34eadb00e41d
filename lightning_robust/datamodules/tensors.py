"""A data module made of tensors."""

from typing import Any, final

from torch import Tensor

from lightning_robust.datamodules.in_memory import InMemoryDataModule, Source


@final
class TensorDataModule(InMemoryDataModule):
    """Labelled images that the caller has in memory.

    Args:
        train: images (N, C, H, W), uint8 or float in `value_range`, and labels, int64 of shape (N,). Images may have
            any other shape (N, ...) of at least two dimensions.
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
        train: tuple[Tensor, Tensor],
        test: tuple[Tensor, Tensor],
        *,
        num_classes: int | None = None,
        value_range: tuple[float, float] = (0.0, 1.0),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._sources = {"train": train, "test": test}
        self.num_classes = int(train[1].max()) + 1 if num_classes is None else num_classes
        self.image_shape = tuple(train[0].shape[1:])
        self.value_range = value_range

    def load(self, source: Source) -> tuple[Tensor, Tensor]:
        """The tensors as they were passed."""
        return self._sources[source]
