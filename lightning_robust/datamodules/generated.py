"""Images of random codes."""

from collections.abc import Iterator
from typing import Any, final

import torch
from torch import Tensor

from lightning_robust import _checks
from lightning_robust._checks import count, interval, number
from lightning_robust._counter import uniform
from lightning_robust._noise import normal_within
from lightning_robust.datamodules._through_manifold import STREAM, Coded, ThroughManifold, inert
from lightning_robust.datamodules.base import Part


@final
class GeneratedDataModule(ThroughManifold):
    r"""Images of random codes: decode(z, y) with z standard normal within :math:`|z_d| \le bound`, balanced labels.

    Batches are `(x, y, code)`, the code being z of shape (N, Z). Label of row i is i mod K. Each number of a code
    belongs to (`data_seed`, part, row, coordinate): it does not depend on the sizes, so a smaller training set is the
    beginning of a larger one, and no two parts share a sample.

    The label says which class's decoder makes the image: it is as correct as that decoder is good. A manifold that
    ignores labels has no labeled samples: its images are not of the classes that are written beside them.

    Args:
        manifold: anything with `decode(z, y) -> x`.
        num_classes: K.
        latent: Z, the dimension of a code.
        train_size: number of training samples.
        val_size: number of validation samples.
        test_size: number of test samples.
        bound: the largest absolute value of a code's entry.
        data_seed: which virtual data set.
        value_range: the least and greatest value a pixel can have.
        chunk: number of images that are made at once.
        device: where to make them; None: that of the manifold's parameters, and the CPU if it has none.
        kwargs: as for `ImageDataModule`; `seed` is that of the training order.

    Raises:
        TypeError: if `manifold` has no `decode`.
        ValueError: if an argument is outside its range, or, when made, an image is outside `value_range` by more than
            0.1 %.

    Example:
        >>> from lightning_robust.manifolds import VAEGAN
        >>> vaegan = VAEGAN(latent=4, num_classes=3, width=1 / 16)
        >>> data = GeneratedDataModule(vaegan, vaegan.num_classes, vaegan.latent, test_size=6)
        >>> x, y, z = data.tensors("test")
        >>> x.shape, y, bool((z.abs() <= 2).all())
        (torch.Size([6, 1, 28, 28]), tensor([0, 1, 2, 0, 1, 2]), True)

    References:
        Stutz, Hein, Schiele, CVPR 2019 (arXiv 1812.00740), evaluate classifiers on 4000 such samples of each class.
    """

    def __init__(
        self,
        manifold: Any,
        num_classes: int,
        latent: int,
        *,
        train_size: int = 10_000,
        val_size: int = 1000,
        test_size: int = 10_000,
        bound: float = 2.0,
        data_seed: int = 0,
        value_range: tuple[float, float] = (0.0, 1.0),
        chunk: int = 500,
        device: torch.device | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(manifold, ("decode",), chunk=chunk, device=device, **kwargs)
        self.num_classes, self.latent = count("num_classes", num_classes), count("latent", latent)
        self._sizes: dict[Part, int] = {
            "train": count("train_size", train_size),
            "val": count("val_size", val_size, 0),
            "test": count("test_size", test_size),
        }
        self.bound = number("bound", bound, 0, above=True)
        self.data_seed = _checks.seed("data_seed", data_seed)
        self.value_range = interval("value_range", value_range, finite=False)
        with inert(manifold, self.device, 0):
            self.image_shape = tuple(self._made("test", torch.arange(1), None).x.shape[1:])

    def _made(self, part: Part, rows: Tensor, shape: tuple[int, ...] | None) -> Coded:
        """The samples of some rows."""
        place = torch.tensor(STREAM[part]), rows[:, None], torch.arange(self.latent)
        middles = uniform(self.data_seed, *place).double() + 2.0**-25
        z, y = normal_within(middles, self.bound).float().to(self.device), (rows % self.num_classes).to(self.device)
        return Coded(self._decode(z, y, (), shape), y, (z,))

    def _samples(self, part: Part) -> Iterator[Coded]:
        for start in range(0, self._sizes[part], self.chunk):
            yield self._made(part, torch.arange(start, min(start + self.chunk, self._sizes[part])), self.image_shape)
