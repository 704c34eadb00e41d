"""Public image sets through torchvision, downloaded to the user's machine by `prepare_data`.

Images stay as they are published: uint8 in memory, float32 in [0, 1] in a batch, not normalised.
"""

from abc import abstractmethod
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor
from torchvision import datasets

from lightning_robust.datamodules.in_memory import InMemoryDataModule, Source


class VisionDataModule(InMemoryDataModule):
    """An image set that torchvision knows how to fetch.

    Args:
        root: the folder that holds the files, as torchvision lays them out, or that they are downloaded into.
        kwargs: as for `InMemoryDataModule`.
    """

    def __init__(self, root: str | Path = "data", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.root = Path(root)

    @abstractmethod
    def read(self, source: Source, *, download: bool) -> tuple[Tensor, Tensor]:
        """Images, uint8 (N, C, H, W), and labels, int64 (N,).

        With `download`, files that are missing are fetched.
        """

    @final
    def prepare_data(self) -> None:
        """Download what is missing; checksums are those of torchvision."""
        self.read("train", download=True)
        self.read("test", download=True)

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


@final
class MNIST(VisionDataModule):
    """Handwritten digits: 60,000 training and 10,000 test images of 28 x 28, 10 classes."""

    num_classes = 10
    image_shape = (1, 28, 28)

    def read(self, source: Source, *, download: bool) -> tuple[Tensor, Tensor]:
        """Images and labels."""
        files = datasets.MNIST(self.root, train=source == "train", download=download)
        return files.data[:, None], files.targets


@final
class FashionMNIST(VisionDataModule):
    """Pieces of clothing: 60,000 training and 10,000 test images of 28 x 28, 10 classes."""

    num_classes = 10
    image_shape = (1, 28, 28)

    def read(self, source: Source, *, download: bool) -> tuple[Tensor, Tensor]:
        """Images and labels."""
        files = datasets.FashionMNIST(self.root, train=source == "train", download=download)
        return files.data[:, None], files.targets


@final
class EMNISTDigits(VisionDataModule):
    """The "digits" split of EMNIST: 240,000 training and 40,000 test images of 28 x 28, 10 classes.

    The files hold each image transposed; here digits stand upright.
    """

    num_classes = 10
    image_shape = (1, 28, 28)

    def read(self, source: Source, *, download: bool) -> tuple[Tensor, Tensor]:
        """Images and labels."""
        files = datasets.EMNIST(self.root, split="digits", train=source == "train", download=download)
        return files.data.mT.contiguous()[:, None], files.targets


@final
class CIFAR10(VisionDataModule):
    """Small photographs: 50,000 training and 10,000 test images of 32 x 32 in colour, 10 classes."""

    num_classes = 10
    image_shape = (3, 32, 32)

    def read(self, source: Source, *, download: bool) -> tuple[Tensor, Tensor]:
        """Images and labels."""
        files = datasets.CIFAR10(self.root, train=source == "train", download=download)
        return torch.from_numpy(files.data).movedim(3, 1).contiguous(), torch.tensor(files.targets)


@final
class CIFAR100(VisionDataModule):
    """Small photographs: 50,000 training and 10,000 test images of 32 x 32 in colour, 100 (fine) classes."""

    num_classes = 100
    image_shape = (3, 32, 32)

    def read(self, source: Source, *, download: bool) -> tuple[Tensor, Tensor]:
        """Images and labels."""
        files = datasets.CIFAR100(self.root, train=source == "train", download=download)
        return torch.from_numpy(files.data).movedim(3, 1).contiguous(), torch.tensor(files.targets)


@final
class SVHN(VisionDataModule):
    """House numbers: 73,257 training and 26,032 test images of 32 x 32 in colour, 10 classes; reading needs scipy."""

    num_classes = 10
    image_shape = (3, 32, 32)

    def read(self, source: Source, *, download: bool) -> tuple[Tensor, Tensor]:
        """Images and labels."""
        files = datasets.SVHN(self.root, split=source, download=download)
        return torch.from_numpy(files.data).contiguous(), torch.from_numpy(files.labels)
