"""A data set as a manifold sees it."""

from collections.abc import Iterator
from typing import Any, final

import torch
from torch import Tensor

from lightning_robust._checks import count, instance
from lightning_robust._codes import parts
from lightning_robust.datamodules._through_manifold import Coded, ThroughManifold, described, wide
from lightning_robust.datamodules.base import ImageDataModule, Part, options_of


@final
class ReconstructedDataModule(ThroughManifold):
    r"""Another data set as a manifold sees it: each image x is replaced by decode(encode(x)).

    Labels, order, parts and training subsets are those of `data`. Batches are `(x, y, code)`: `code` is the code of the
    reconstructed image, z of shape (N, Z) or a tuple (z, *fixed), so that `LatentSpace(manifold)` with `code=2` attacks
    around it, within the manifold on which x lies. The encoder gets the true labels: with a manifold for each class, as
    `VAEGAN(num_classes=K)` is, every image is projected onto that of its own class. Augmentation of `data` is left out:
    the codes would not fit.

    Args:
        data: the data set, with its loaders' options.
        manifold: anything with `encode(x, y) -> z` and `decode(z, y) -> x`; a code may also be a tuple (z, *fixed) of
            tensors, then `decode(z, y, *fixed)` is called.
        code: where the batches of `data` bring codes of this manifold, as `Fonts` does (2); None: `manifold.encode` is
            asked.
        chunk: number of images that are made at once.
        device: where to make them; None: that of the manifold's parameters, and the CPU if it has none.

    Raises:
        TypeError: if `data` is no `ImageDataModule`, or `manifold` has not both methods.
        ValueError: when made: if a code is not float (N, Z), or an image has another shape than those of `data` or is
            outside their range by more than 0.1 %.

    Example:
        >>> from lightning_robust.datamodules import TensorDataModule
        >>> class Brightness:
        ...     def encode(self, x, y):
        ...         return x.mean((1, 2, 3))[:, None]
        ...     def decode(self, z, y):
        ...         return z[:, :, None, None].expand(-1, 1, 4, 4)
        >>> own = torch.rand(20, 1, 4, 4), torch.arange(20) % 2
        >>> data = ReconstructedDataModule(TensorDataModule(own, own, val_size=4), Brightness())
        >>> x, y, z = data.tensors("test", limit=3)
        >>> x.shape, z.shape, torch.allclose(x.mean((1, 2, 3)), own[0][:3].mean((1, 2, 3)))
        (torch.Size([3, 1, 4, 4]), torch.Size([3, 1]), True)

    References:
        Stutz, Hein, Schiele, CVPR 2019 (arXiv 1812.00740), evaluate classifiers on reconstructed test images.
    """

    def __init__(
        self,
        data: ImageDataModule,
        manifold: Any,
        *,
        code: int | None = None,
        chunk: int = 500,
        device: torch.device | str | None = None,
    ) -> None:
        options = options_of(instance("data", data, ImageDataModule, "an ImageDataModule"))
        super().__init__(manifold, ("encode", "decode"), chunk=chunk, device=device, **options)
        self.data, self.code = data, None if code is None else count("code", code, 2)
        self.num_classes, self.image_shape, self.value_range = data.num_classes, data.image_shape, data.value_range

    def prepare_data(self) -> None:
        """Whatever `data` does."""
        self.data.prepare_data()

    def _samples(self, part: Part) -> Iterator[Coded]:
        dataset = self.data.dataset(part)
        for start in range(0, len(dataset), self.chunk):
            batch = dataset.__getitems__(range(start, min(start + self.chunk, len(dataset))))
            batch = self.data.on_after_batch_transfer(self.data.transfer_batch_to_device(batch, self.device, 0), 0)
            x, y = wide(batch[0]), batch[1]
            z, *fixed = self._code(batch, x, y)
            yield Coded(self._decode(z, y, fixed, self.image_shape), y, (wide(z), *fixed))

    def _code(self, batch: Any, x: Tensor, y: Tensor) -> tuple[Any, ...]:
        """(z, *fixed) of a batch, if it is a code."""
        if self.code is not None and len(batch) <= self.code:
            raise ValueError(
                f"Expected argument `code` to be where the batches of `data` bring codes, but they have {len(batch)} "
                f"entries, and got {self.code}."
            )
        code = self.manifold.encode(x, y) if self.code is None else batch[self.code]
        z, *fixed = parts(code)
        if not isinstance(z, Tensor) or z.ndim < 2 or len(z) != len(x) or not z.is_floating_point():
            raise ValueError(f"Expected codes to be float of shape ({len(x)}, Z), but got {described(z)}.")
        for entry in fixed:
            if not isinstance(entry, Tensor) or entry.ndim < 1 or len(entry) != len(x):
                got = described(entry)
                raise ValueError(f"Expected what stays fixed in a code to be tensors of {len(x)} rows, but got {got}.")
        return z, *fixed
