"""The data sets of the manifold study, and what may be done to their images."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from lightning_robust import AffineSpace
from lightning_robust.datamodules import MNIST, CelebA, EMNISTDigits, FashionMNIST, Fonts, ImageDataModule
from lightning_robust.manifolds import FontsManifold


@dataclass(frozen=True, kw_only=True)
class ManifoldData:
    """A data set as the study sees it.

    Args:
        module: data module; called with train_size, batch_size and seed, and with `root` where `on_disk`.
        classes: names of the K classes.
        image_shape: (C, H, W).
        latent: Z, the size of the codes of learned manifolds.
        beta: weight of the reconstruction in learning them.
        class_beta: the weights of single classes that differ, where each class has a manifold of its own.
        maps: affine maps of adversarial transformations.
        true: manifold of the data, where it is known; its codes are third in each batch.
        on_disk: whether the data is read from a folder, into which torchvision downloads it.
    """

    module: Callable[..., ImageDataModule]
    classes: tuple[str, ...]
    image_shape: tuple[int, int, int] = (1, 28, 28)
    latent: int = 10
    beta: float = 3.0
    class_beta: Mapping[int, float] = field(default_factory=dict)
    maps: AffineSpace = field(default_factory=AffineSpace)
    true: FontsManifold | None = None
    on_disk: bool = True

    def make(self, root: str, *, train_size: int | None = None, **options: Any) -> ImageDataModule:
        """The data module.

        Args:
            root: folder of data sets.
            train_size: number of training images, class-balanced; None: all that are not held out.
            **options: further options of the data module.
        """
        return self.module(train_size=train_size, **options, **({"root": root} if self.on_disk else {}))


def _letters() -> ManifoldData:
    manifold = FontsManifold("hard")
    return ManifoldData(
        module=partial(Fonts, "hard"),
        classes=tuple("ABCDEFGHIJ"),
        maps=AffineSpace(**asdict(manifold.ranges)),
        true=manifold,
        on_disk=False,
    )


_DIGITS = tuple("0123456789")
_CLOTHES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")

DATA: Mapping[str, ManifoldData] = {
    "fonts": _letters(),
    "emnist": ManifoldData(module=EMNISTDigits, classes=_DIGITS, beta=2.25, class_beta={1: 5.0, 7: 3.0}),
    "fashion": ManifoldData(module=FashionMNIST, classes=_CLOTHES, beta=2.75),
    "mnist": ManifoldData(module=MNIST, classes=_DIGITS),
    "celeba": ManifoldData(module=CelebA, classes=("female", "male"), image_shape=(3, 56, 48), latent=25),
}
"""All data sets by name; sizes of codes and weights are the paper's."""
