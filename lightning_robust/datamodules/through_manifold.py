"""Data sets seen through a manifold: images that its decoder makes, with their codes."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, NamedTuple, final

import torch
from torch import Tensor, nn

from lightning_robust import _checks
from lightning_robust._checks import count, instance, interval, number
from lightning_robust.datamodules._batches import Batches
from lightning_robust.datamodules._counter import digest, uniform
from lightning_robust.datamodules.base import ImageDataModule, Part

_STREAM: dict[Part, int] = {"train": 0, "val": 1, "test": 2}
_TOLERANCE = 1e-3


class _Coded(NamedTuple):
    """Images (N, C, H, W), labels (N,) and codes (z, *fixed), each entry of N rows."""

    x: Tensor
    y: Tensor
    code: tuple[Tensor, ...]


class _CodedBatches(Batches):
    """Images with labels and codes that are in memory: batches (x, y, code)."""

    def __init__(self, samples: _Coded) -> None:
        super().__init__(torch.arange(len(samples.y)))
        self.samples = samples

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor, Any]:
        rows = super().__getitems__(indices)
        return self.samples.x[rows], self.samples.y[rows], _unwrapped(tuple(c[rows] for c in self.samples.code))

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Any]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"Expected argument `index` to be in [{-len(self)}, {len(self)}), but got {index}.")
        return self.samples.x[index], self.samples.y[index], _unwrapped(tuple(c[index] for c in self.samples.code))


class _ThroughManifold(ImageDataModule):
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
    def _samples(self, part: Part) -> Iterator[_Coded]:
        """The samples of a part, at most `chunk` at once, in order; none where it is empty."""

    @property
    def device(self) -> torch.device:
        """Where images are made."""
        return _device_of(self.manifold) if self._asked is None else self._asked

    @final
    def dataset(self, part: Part) -> Batches:
        """One part of the data; made at the first call."""
        if part not in self._datasets:
            seed = digest(self.seed, torch.tensor([_STREAM[part]]))
            with _evaluating(self.manifold, self.device, seed):
                chunks = [_Coded(x.cpu(), y.cpu(), tuple(c.cpu() for c in code)) for x, y, code in self._samples(part)]
                self._datasets[part] = _CodedBatches(_joined(chunks) if chunks else _nothing(self.image_shape))
        return self._datasets[part]

    def _decode(self, z: Tensor, y: Tensor, fixed: Sequence[Any], shape: tuple[int, ...] | None) -> Tensor:
        """Decoded images, float32, if they are images of `shape` (None: any) in `value_range`."""
        x = self.manifold.decode(z, y, *fixed)
        good = isinstance(x, Tensor) and x.is_floating_point() and x.ndim >= 2 and len(x) == len(y)
        if not good or x.shape[1:] != (x.shape[1:] if shape is None else shape):
            wanted = "(" + ", ".join(str(size) for size in (len(y), *(("...",) if shape is None else shape))) + ")"
            raise ValueError(f"Expected `manifold.decode` to give float images of shape {wanted}, but got {_told(x)}.")
        low, high = float(x.min()), float(x.max())
        least, most = self.value_range
        room = _TOLERANCE * (most - least)
        if not least - room <= low <= high <= most + room:  # false for NaN too
            raise ValueError(
                f"Expected `manifold.decode` to give images in {[least, most]}, but got values in [{low:g}, {high:g}]. "
                "Let the decoder end with a sigmoid, or clamp its images."
            )
        return x.float()


@final
class Reconstructed(_ThroughManifold):
    r"""Another data set as a manifold sees it: each image x is replaced by decode(encode(x)).

    Labels, order, parts and training subsets are those of `data`. Batches are `(x, y, code)`: `code` is the code of the
    reconstructed image, z of shape (N, Z) or a tuple (z, *fixed), so that `LatentSpace(manifold)` with `code=2` attacks
    around it, within the manifold on which x lies. The encoder gets the true labels: with a manifold for each class, as
    `VAEGAN(num_classes=K)` is, every image is projected onto that of its own class.

    The images of a part are made when it is first asked for, by the manifold as it then is, in evaluation mode and
    without gradients, and kept in memory as float32; each process makes all of them. Augmentation of `data` is left
    out: the codes would not fit. In a Trainer of a "true" half precision, codes are rounded as images are.

    Args:
        data: the data set, with its loaders' settings.
        manifold: anything with `encode(x, y) -> z` and `decode(z, y) -> x`; a code may also be a tuple (z, *fixed) of
            tensors, then `decode(z, y, *fixed)` is called.
        code: where the batches of `data` bring codes of this manifold, as `Fonts` does (2); None: `manifold.encode` is
            asked.
        chunk: how many images to make at once.
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
        >>> x, y, z = Reconstructed(TensorDataModule(own, own, val_size=4), Brightness()).tensors("test", limit=3)
        >>> x.shape, z.shape, torch.allclose(x.mean((1, 2, 3)), own[0][:3].mean((1, 2, 3)))
        (torch.Size([3, 1, 4, 4]), torch.Size([3, 1]), True)

    References:
        Stutz, Hein, Schiele, CVPR 2019 (arXiv 1812.00740), evaluate classifiers on reconstructed test images so.
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
        instance("data", data, ImageDataModule, "an ImageDataModule")
        super().__init__(manifold, ("encode", "decode"), chunk=chunk, device=device, **_settings_of(data))
        self.data, self.code = data, None if code is None else count("code", code, 2)
        self.num_classes, self.image_shape, self.value_range = data.num_classes, data.image_shape, data.value_range

    def prepare_data(self) -> None:
        """Whatever `data` does."""
        self.data.prepare_data()

    def _samples(self, part: Part) -> Iterator[_Coded]:
        dataset = self.data.dataset(part)
        for start in range(0, len(dataset), self.chunk):
            rows = range(start, min(start + self.chunk, len(dataset)))
            batch = self.data.on_after_batch_transfer(_moved(dataset.__getitems__(rows), self.device), 0)
            x, y = _wide(batch[0]), batch[1]
            if self.code is not None and len(batch) <= self.code:
                raise ValueError(
                    f"Expected argument `code` to be where the batches of `data` bring codes, but they have "
                    f"{len(batch)} entries, and got {self.code}."
                )
            code = self.manifold.encode(x, y) if self.code is None else batch[self.code]
            z, *fixed = code if isinstance(code, tuple | list) else (code,)
            if not isinstance(z, Tensor) or z.ndim < 2 or len(z) != len(x) or not z.is_floating_point():
                raise ValueError(f"Expected codes to be float of shape ({len(x)}, Z), but got {_told(z)}.")
            for entry in fixed:
                if not isinstance(entry, Tensor) or entry.ndim < 1 or len(entry) != len(x):
                    raise ValueError(
                        f"Expected what stays fixed in a code to be tensors of {len(x)} rows, but got {_told(entry)}."
                    )
            yield _Coded(self._decode(z, y, fixed, self.image_shape), y, (_wide(z), *fixed))


@final
class Sampled(_ThroughManifold):
    r"""Images of random codes: decode(z, y) with z standard normal within :math:`|z_d| \le bound`, balanced labels.

    Batches are `(x, y, code)`, the code being z of shape (N, Z). Label of row i is i mod K. Each number of a code
    belongs to (`data_seed`, part, row, coordinate): it does not depend on the sizes, so a smaller training set is the
    beginning of a larger one, and no two parts share a sample.

    The label says which class's decoder makes the image, so it is true as far as that decoder is good. A manifold that
    ignores labels has no labelled samples: its images are not of the classes that are written beside them.

    The images of a part are made when it is first asked for, by the manifold as it then is, in evaluation mode and
    without gradients, and kept in memory as float32; each process makes all of them. In a Trainer of a "true" half
    precision, codes are rounded as images are.

    Args:
        manifold: anything with `decode(z, y) -> x`.
        num_classes: K.
        latent: Z, the dimension of a code.
        train_size: how many training samples.
        val_size: how many validation samples.
        test_size: how many test samples.
        bound: beyond which there are no codes.
        data_seed: which virtual data set.
        value_range: the least and greatest value a pixel can have.
        chunk: how many images to make at once.
        device: where to make them; None: that of the manifold's parameters, and the CPU if it has none.
        kwargs: as for `ImageDataModule`; `seed` is that of the training order.

    Raises:
        TypeError: if `manifold` has no `decode`.
        ValueError: if an argument is outside its range, or, when made, an image is outside `value_range` by more than
            0.1 %.

    Example:
        >>> from lightning_robust.manifolds import VAEGAN
        >>> vaegan = VAEGAN(latent=4, num_classes=3, width=1 / 16)
        >>> data = Sampled(vaegan, vaegan.num_classes, vaegan.latent, test_size=6)
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
        z, y = (found.to(self.device) for found in self._codes("test", torch.arange(1)))
        with _evaluating(manifold, self.device, 0):
            self.image_shape = tuple(self._decode(z, y, (), None).shape[1:])

    def _codes(self, part: Part, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Codes float32 (N, Z), by inversion of the distribution function, and labels (N,)."""
        place = torch.tensor(_STREAM[part]), rows[:, None], torch.arange(self.latent)
        share = torch.special.ndtr(torch.tensor(-self.bound, dtype=torch.float64))
        u = uniform(self.data_seed, *place).double()
        z = torch.special.ndtri(share + (1 - 2 * share) * (u + 2.0**-25)).clamp(-self.bound, self.bound)
        return z.float(), rows % self.num_classes

    def _samples(self, part: Part) -> Iterator[_Coded]:
        size = self._sizes[part]
        for start in range(0, size, self.chunk):
            rows = torch.arange(start, min(start + self.chunk, size))
            z, y = (found.to(self.device) for found in self._codes(part, rows))
            yield _Coded(self._decode(z, y, (), self.image_shape), y, (z,))


def _unwrapped(code: tuple[Tensor, ...]) -> Any:
    """A code as manifolds give it: z alone, or (z, *fixed)."""
    return code if len(code) > 1 else code[0]


def _joined(chunks: Sequence[_Coded]) -> _Coded:
    x, y, codes = zip(*chunks, strict=True)
    return _Coded(torch.cat(x), torch.cat(y), tuple(torch.cat(entry) for entry in zip(*codes, strict=True)))


def _nothing(shape: tuple[int, ...]) -> _Coded:
    return _Coded(torch.empty(0, *shape), torch.empty(0, dtype=torch.int64), (torch.empty(0, 0),))


def _wide(value: Tensor) -> Tensor:
    """Half precision to float32; float32 and float64 as they are."""
    return value.to(torch.promote_types(value.dtype, torch.float32))


def _told(value: Any) -> str:
    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__


def _settings_of(data: ImageDataModule) -> dict[str, Any]:
    names = ("batch_size", "eval_batch_size", "num_workers", "pin_memory", "drop_last", "seed")
    return {name: vars(data)[name] for name in names}


def _device(device: Any) -> torch.device:
    try:
        return torch.device(instance("device", device, (str, torch.device), "a device"))
    except RuntimeError as error:
        raise ValueError(f"Expected argument `device` to be a device, but got {device!r}.") from error


def _device_of(manifold: Any) -> torch.device:
    tensors = chain(manifold.parameters(), manifold.buffers()) if isinstance(manifold, nn.Module) else iter(())
    first = next(tensors, None)
    return torch.device("cpu") if first is None else first.device


def _moved(batch: Any, device: torch.device) -> Any:
    return tuple(_moved(part, device) for part in batch) if isinstance(batch, tuple) else batch.to(device)


@contextmanager
def _evaluating(manifold: Any, device: torch.device, seed: int) -> Iterator[None]:
    """Evaluation mode, no gradients and a seeded stream of random numbers for a while; then everything as it was."""
    modules = [m for m in manifold.modules() if m.training] if isinstance(manifold, nn.Module) else []
    generators = [device] if device.type == "cuda" else []
    with torch.inference_mode(False), torch.no_grad(), torch.random.fork_rng(devices=generators):
        torch.default_generator.manual_seed(seed)
        for generator in generators:
            torch.cuda.default_generators[generator.index or 0].manual_seed(seed)
        for module in modules:
            module.training = False
        try:
            yield
        finally:
            for module in modules:
                module.training = True
