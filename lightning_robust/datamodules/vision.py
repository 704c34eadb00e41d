"""Public image sets through torchvision, downloaded to the user's machine by `prepare_data`.

Images stay as they are published: uint8 in memory, float32 in [0, 1] in a batch, not normalized.
"""

import gzip
import zlib
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
import torch
from torch import Tensor
from torchvision import datasets

from lightning_robust._checks import path
from lightning_robust.datamodules.in_memory import InMemoryDataModule, Source

_DEBIAN = Path("/usr/share/datasets")
"""Where Debian's packages put data sets."""


class DownloadError(OSError):
    """A data set is not in its folder and cannot be fetched; the message says what to do."""


class VisionDataModule(InMemoryDataModule):
    """An image set that torchvision knows how to fetch.

    Args:
        root: the folder that holds the files, as torchvision lays them out, or that they are downloaded into.
        kwargs: as for `InMemoryDataModule`.
    """

    elsewhere: ClassVar[str] = ""
    """Where else the files may come from, a sentence for the error of a failed download."""

    def __init__(self, root: str | Path = "data", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.root = path("root", root)

    @abstractmethod
    def read(self, source: Source, *, download: bool) -> tuple[Tensor, Tensor]:
        """Images, uint8 (N, C, H, W), and labels, int64 (N,).

        With `download`, files that are missing are fetched; without, they are a RuntimeError, as for torchvision.
        """

    @final
    def prepare_data(self) -> None:
        """Download what is missing; checksums are those of torchvision.

        Raises:
            DownloadError: if that fails: no network, a full disk, a folder that cannot be written.
        """
        try:
            self.read("train", download=True)
            self.read("test", download=True)
        except (OSError, RuntimeError) as error:
            reason = str(error).strip().rpartition("\n")[2].rstrip(".") or type(error).__name__
            raise DownloadError(
                f"{type(self).__name__} is not in {str(self.root)!r} and could not be downloaded to it ({reason}). "
                "Put its files there, or set `root` to the folder that holds them." + f" {self.elsewhere}".rstrip()
            ) from error

    @final
    def load(self, source: Source) -> tuple[Tensor, Tensor]:
        """Read what was downloaded.

        Raises:
            FileNotFoundError: if the files are missing or their checksums are wrong.
        """
        try:
            return self.read(source, download=False)
        except RuntimeError as error:
            raise FileNotFoundError(
                f"The files of {type(self).__name__} in {str(self.root)!r} are missing or damaged. "
                "Call `prepare_data()` to download them, or set `root` to the folder that holds them."
            ) from error


def read_idx(path: Path) -> Tensor:
    """The bytes of a gzipped IDX file, uint8, in the shape that it states.

    Raises:
        ValueError: if it is cut short or is none.
    """
    try:
        data = gzip.decompress(path.read_bytes())
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{str(path)!r} is damaged: {error}.") from error
    ndim = data[3] if data[:3] == b"\0\0\x08" and len(data) >= 4 else 0
    start = 4 + 4 * ndim
    shape = np.frombuffer(data[4:start], ">u4") if len(data) >= start else np.zeros(0, ">u4")
    if not ndim or len(shape) != ndim or len(data) - start != int(shape.prod(dtype=np.int64)):
        raise ValueError(f"{str(path)!r} is no IDX file of bytes.")
    return torch.from_numpy(np.frombuffer(data, np.uint8, offset=start).reshape(shape.tolist()).copy())


def _gzipped(folders: Iterable[Path], names: Sequence[str]) -> list[Tensor] | None:
    """What the files hold in the first folder that has them all, undamaged; None where none does."""
    for folder in folders:
        paths = [folder / f"{name}.gz" for name in names]
        try:
            return [read_idx(path) for path in paths]
        except (OSError, ValueError):
            continue
    return None


class _MNISTLike(VisionDataModule):
    """Images of 28 x 28 in IDX files, as they are published (gzipped) or as torchvision leaves them (unpacked).

    Gzipped files are read where they are, in a folder named like the data set in `root`, or in `root` itself where that
    is its name: nothing is unpacked or fetched.
    """

    num_classes = 10
    image_shape = (1, 28, 28)
    published: ClassVar[type[datasets.MNIST]]
    folder: ClassVar[str]
    """The name of its folder, other than torchvision's."""
    names: ClassVar[tuple[str, str]] = ("train", "t10k")
    """What names of files begin with."""
    options: ClassVar[dict[str, Any]] = {}

    def read(self, source: Source, *, download: bool) -> tuple[Tensor, Tensor]:
        """Images and labels."""
        name = self.names[source == "test"]
        files = [f"{name}-images-idx3-ubyte", f"{name}-labels-idx1-ubyte"]
        torchvisions = self.root / self.published.__name__
        if not all((torchvisions / "raw" / file).exists() for file in files):
            own = [self.root] if self.root.name in (self.folder, torchvisions.name) else []
            folders = (torchvisions / "raw", torchvisions, self.root / self.folder, *own, _DEBIAN / self.folder)
            arrays = _gzipped(folders, files)
            if arrays is not None:
                return arrays[0][:, None], arrays[1].long()
        unpacked = self.published(self.root, train=source == "train", download=download, **self.options)
        return unpacked.data[:, None], unpacked.targets


@final
class MNIST(_MNISTLike):
    """Handwritten digits: 60,000 training and 10,000 test images of 28 x 28, 10 classes."""

    published = datasets.MNIST
    folder = "mnist"


@final
class FashionMNIST(_MNISTLike):
    """Pieces of clothing: 60,000 training and 10,000 test images of 28 x 28, 10 classes.

    Where `root` does not have the files, those of Debian's package dataset-fashion-mnist are read, if it is installed.
    """

    elsewhere = "On Debian and Ubuntu `apt install dataset-fashion-mnist` is enough."
    published = datasets.FashionMNIST
    folder = "fashion-mnist"


@final
class EMNISTDigits(_MNISTLike):
    """The "digits" split of EMNIST: 240,000 training and 40,000 test images of 28 x 28, 10 classes.

    The files hold each image transposed; here digits stand upright.
    """

    published = datasets.EMNIST
    folder = "emnist"
    names = ("emnist-digits-train", "emnist-digits-test")
    options: ClassVar[dict[str, Any]] = {"split": "digits"}

    def read(self, source: Source, *, download: bool) -> tuple[Tensor, Tensor]:
        """Images and labels."""
        images, labels = super().read(source, download=download)
        return images.mT.contiguous(), labels


class _CIFAR(VisionDataModule):
    """Images of 32 x 32 that torchvision reads into one array."""

    image_shape = (3, 32, 32)
    published: ClassVar[type[datasets.CIFAR10]]

    def read(self, source: Source, *, download: bool) -> tuple[Tensor, Tensor]:
        """Images and labels."""
        files = self.published(self.root, train=source == "train", download=download)
        return torch.from_numpy(files.data).movedim(3, 1).contiguous(), torch.tensor(files.targets)


@final
class CIFAR10(_CIFAR):
    """Small photographs: 50,000 training and 10,000 test images of 32 x 32 in color, 10 classes."""

    num_classes = 10
    published = datasets.CIFAR10


@final
class CIFAR100(_CIFAR):
    """Small photographs: 50,000 training and 10,000 test images of 32 x 32 in color, 100 (fine) classes."""

    num_classes = 100
    published = datasets.CIFAR100


class _SVHN(VisionDataModule):
    """Images of 32 x 32 in files of Matlab."""

    num_classes = 10
    image_shape = (3, 32, 32)
    training: ClassVar[tuple[str, ...]]
    """The files that are for training."""

    def read(self, source: Source, *, download: bool) -> tuple[Tensor, Tensor]:
        """Images and labels."""
        parts = self.training if source == "train" else ("test",)
        files = [datasets.SVHN(self.root, split=part, download=download) for part in parts]
        images = torch.cat([torch.from_numpy(file.data) for file in files])
        return images.contiguous(), torch.cat([torch.from_numpy(file.labels) for file in files])


@final
class SVHN(_SVHN):
    """House numbers: 73,257 training and 26,032 test images of 32 x 32 in color, 10 classes; reading needs scipy."""

    training = ("train",)


@final
class SVHNExtra(_SVHN):
    """House numbers with the extra training images: 604,388 training and 26,032 test images, 10 classes.

    The 73,257 training images come first, then the 531,131 extra ones, which are easier. In memory they take 1.9 GB;
    reading needs scipy, and twice that memory.

    References:
        Netzer et al., "Reading digits in natural images with unsupervised feature learning", 2011. Schmidt et al.
        (NeurIPS 2018) train on both parts, to reach the plateau of standard accuracy.
    """

    training = ("train", "extra")
