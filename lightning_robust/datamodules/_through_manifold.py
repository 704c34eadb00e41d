"""Images that the decoder of a manifold makes, with their codes.

The images of a part are made when it is first asked for, by the manifold as it then is, in evaluation mode and without
gradients, and kept in memory as float32; each process makes all of them. In a Trainer of a "true" half precision, codes
are rounded as images are.
"""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, NamedTuple, final

import torch
from torch import Tensor, nn

from lightning_robust._checks import count, instance
from lightning_robust._counter import digest
from lightning_robust._modes import evaluating
from lightning_robust.datamodules._batches import Batches
from lightning_robust.datamodules.base import ImageDataModule, Part

STREAM: dict[Part, int] = {"train": 0, "val": 1, "test": 2}
_TOLERANCE = 1e-3


class Coded(NamedTuple):
    """Images (N, C, H, W), labels (N,) and codes (z, *fixed), each entry of N rows."""

    x: Tensor
    y: Tensor
    code: tuple[Tensor, ...]


class _CodedBatches(Batches):
    """Images with labels and codes that are in memory: batches (x, y, code), code z alone or (z, *fixed)."""

    def __init__(self, samples: Coded) -> None:
        super().__init__(torch.arange(len(samples.y)))
        self.samples = samples

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor, Any]:
        rows = super().__getitems__(indices)
        z, *fixed = (entry[rows] for entry in self.samples.code)
        return self.samples.x[rows], self.samples.y[rows], (z, *fixed) if fixed else z


class ThroughManifold(ImageDataModule):
    """Images that a decoder makes, all samples of a part when it is first asked for."""

    def __init__(
        self, manifold: Any, methods: Sequence[str], *, chunk: int, device: torch.device | str | None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        for name in methods:
            if isinstance(manifold, type) or not callable(getattr(manifold, name, None)):
                got = f"the class {manifold.__name__}" if isinstance(manifold, type) else type(manifold).__name__
                raise TypeError(f"Expected argument `manifold` to have a method `{name}`, but got {got}.")
        self.manifold, self.chunk = manifold, count("chunk", chunk)
        self._asked = None if device is None else _device(device)
        self._datasets: dict[Part, _CodedBatches] = {}

    @abstractmethod
    def _samples(self, part: Part) -> Iterator[Coded]:
        """The samples of a part, at most `chunk` at once, in order; none where it is empty."""

    @property
    def device(self) -> torch.device:
        """Where images are made."""
        if self._asked is not None or not isinstance(self.manifold, nn.Module):
            return self._asked or torch.device("cpu")
        return next((t.device for t in chain(self.manifold.parameters(), self.manifold.buffers())), torch.device("cpu"))

    @final
    def dataset(self, part: Part) -> Batches:
        """One part of the data; made at the first call."""
        if part not in self._datasets:
            with inert(self.manifold, self.device, digest(self.seed, torch.tensor([STREAM[part]]))):
                chunks = [Coded(x.cpu(), y.cpu(), tuple(c.cpu() for c in code)) for x, y, code in self._samples(part)]
                x, y, codes = zip(*(chunks or [_nothing(self.image_shape)]), strict=True)
                code = tuple(torch.cat(entry) for entry in zip(*codes, strict=True))
                self._datasets[part] = _CodedBatches(Coded(torch.cat(x), torch.cat(y), code))
        return self._datasets[part]

    def _decode(self, z: Tensor, y: Tensor, fixed: Sequence[Any], shape: tuple[int, ...] | None) -> Tensor:
        """Decoded images, float32, if they are images of `shape` (None: any) in `value_range`."""
        x = self.manifold.decode(z, y, *fixed)
        good = isinstance(x, Tensor) and x.is_floating_point() and x.ndim >= 2 and len(x) == len(y)
        if not good or x.shape[1:] != (x.shape[1:] if shape is None else shape):
            sizes = ", ".join(str(size) for size in (len(y), *(("...",) if shape is None else shape)))
            raise ValueError(
                f"Expected `manifold.decode` to give float images of shape ({sizes}), but got {described(x)}."
            )
        low, high = float(x.min()), float(x.max())
        least, most = self.value_range
        room = _TOLERANCE * (most - least)
        if not least - room <= low <= high <= most + room:  # false for NaN too
            raise ValueError(
                f"Expected `manifold.decode` to give images in {[least, most]}, but got values in [{low:g}, {high:g}]. "
                "Let the decoder end with a sigmoid, or clamp its images."
            )
        return x.float()


def _nothing(shape: tuple[int, ...]) -> Coded:
    return Coded(torch.empty(0, *shape), torch.empty(0, dtype=torch.int64), (torch.empty(0, 0),))


def wide(value: Tensor) -> Tensor:
    """Half precision to float32; float32 and float64 as they are."""
    return value.to(torch.promote_types(value.dtype, torch.float32))


def described(value: Any) -> str:
    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__


def _device(device: Any) -> torch.device:
    try:
        return torch.device(instance("device", device, (str, torch.device), "a device"))
    except RuntimeError as error:
        raise ValueError(f"Expected argument `device` to be a device, but got {device!r}.") from error


@contextmanager
def inert(manifold: Any, device: torch.device, seed: int) -> Iterator[None]:
    """Evaluation mode, no gradients and a seeded stream of random numbers for a while; then everything as it was."""
    generators = [device] if device.type == "cuda" else []
    networks = [manifold] if isinstance(manifold, nn.Module) else []
    with torch.inference_mode(False), torch.no_grad(), torch.random.fork_rng(generators), evaluating(*networks):
        torch.default_generator.manual_seed(seed)
        for generator in generators:
            torch.cuda.default_generators[generator.index or 0].manual_seed(seed)
        yield
