"""Data modules: labeled images in [0, 1], a seeded, held-out validation part, nested class-balanced training sets."""

from lightning_robust.datamodules._batches import Batches
from lightning_robust.datamodules.augment import RandomCropFlip
from lightning_robust.datamodules.base import ImageDataModule, Part
from lightning_robust.datamodules.celeba import CelebA
from lightning_robust.datamodules.extra import ExtraDataModule, pseudo_labels, read_npz
from lightning_robust.datamodules.fonts import Fonts, FontsCode
from lightning_robust.datamodules.generated import GeneratedDataModule
from lightning_robust.datamodules.in_memory import InMemoryDataModule
from lightning_robust.datamodules.reconstructed import ReconstructedDataModule
from lightning_robust.datamodules.subsets import balanced_subset, stratified_split
from lightning_robust.datamodules.tensors import TensorDataModule
from lightning_robust.datamodules.vision import (
    CIFAR10,
    CIFAR100,
    MNIST,
    SVHN,
    EMNISTDigits,
    FashionMNIST,
    SVHNExtra,
    VisionDataModule,
)

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "MNIST",
    "SVHN",
    "Batches",
    "CelebA",
    "EMNISTDigits",
    "ExtraDataModule",
    "FashionMNIST",
    "Fonts",
    "FontsCode",
    "GeneratedDataModule",
    "ImageDataModule",
    "InMemoryDataModule",
    "Part",
    "RandomCropFlip",
    "ReconstructedDataModule",
    "SVHNExtra",
    "TensorDataModule",
    "VisionDataModule",
    "balanced_subset",
    "pseudo_labels",
    "read_npz",
    "stratified_split",
]
