"""The learning problems of the study: a data set, models and the settings of their training."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lightning_robust import _checks
from lightning_robust._lightning import pl
from lightning_robust.datamodules import (
    CIFAR10,
    MNIST,
    FashionMNIST,
    Fonts,
    RandomCropFlip,
    SVHNExtra,
    TensorDataModule,
    stratified_split,
)
from lightning_robust.models import RobustClassifier, madry_mnist, madry_resnet
from lightning_robust_studies.schmidt2018.threshold import ThresholdFilters

Make = Callable[[float, int], pl.LightningModule]
"""`(eps_train, optimizer steps) -> untrained module`."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A learning problem of the study.

    Functions must be importable (at the top of a module, or `functools.partial` of such), since cells run in other
    processes.

    Args:
        data: `(n, seed) -> LightningDataModule`, with n training images, of which smaller sets are contained in larger
            ones, held-out validation images, and the same test images for all.
        models: For each name `(eps_train, steps) -> LightningModule`, which logs neither `val/clean_acc` nor
            `val/robust_acc`.
        sizes: Numbers of training images n.
        eps_train: Radii of adversarial training (Linf, in units of the images); 0 is natural training.
        eps_test: Radii of the attack in evaluation; 0 is accuracy without an attack.
        steps: Optimizer steps of every model, the same for all n, so that models of few images are not undertrained.
        train_steps: Steps of PGD in training.
        steps_per_image: Optimizer steps for each training image where these are more than `steps`, so that models of
            many images are not undertrained either; 0: `steps` is for all.
        low: The least value of a pixel.
        high: The greatest.
        batch: `input`, `target` and `forward` of the callbacks, for batches that are not (x, y).

    Raises:
        ValueError: An argument is not as described.
    """

    data: Callable[[int, int], pl.LightningDataModule]
    models: Mapping[str, Make]
    sizes: Sequence[int] = field(repr=False)
    eps_train: Sequence[float] = field(repr=False)
    eps_test: Sequence[float] = field(repr=False)
    steps: int = field(repr=False)
    train_steps: int = field(default=10, repr=False)
    steps_per_image: float = field(default=0.0, repr=False)
    low: float = 0.0
    high: float = 1.0
    batch: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"Expected argument `low` to be less than `high`, but got {self.low} and {self.high}.")
        if not self.models:
            raise ValueError("Expected argument `models` to hold at least one, but got none.")
        _checks.counts("sizes", self.sizes)
        for name in ("eps_train", "eps_test"):
            _checks.values(name, getattr(self, name), 0)
        for name in ("steps", "train_steps"):
            _checks.count(name, getattr(self, name))
        _checks.number("steps_per_image", self.steps_per_image, 0)


def small_net(channels: int, side: int, classes: int) -> nn.Sequential:
    """Two strided convolutions and two linear layers, for images (N, channels, side, side)."""
    kernel = 5 if side > 16 else 3
    stride = 2 if side > 16 else 1
    half = -(-side // stride)
    return nn.Sequential(
        nn.Conv2d(channels, 16, kernel, stride, kernel // 2),
        nn.ReLU(),
        nn.Conv2d(16, 32, kernel, 2, kernel // 2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * (-(-half // 2)) ** 2, 64),
        nn.ReLU(),
        nn.Linear(64, classes),
    )


def pooled_net(channels: int, side: int, classes: int) -> nn.Sequential:
    """Two convolutions of 3 x 3, each with a maximum over 2 x 2, and two linear layers, for (N, channels, side, side).

    Example:
        >>> sum(p.numel() for p in pooled_net(1, 28, 10).parameters())
        421642
    """
    return nn.Sequential(
        nn.Conv2d(channels, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * (side // 4) ** 2, 128),
        nn.ReLU(),
        nn.Linear(128, classes),
    )


def one_cycle(net: Callable[[], nn.Module], eps_train: float, steps: int, *, lr: float = 3e-3) -> RobustClassifier:
    """A small network with Adam, its rate rising and falling once over the training."""
    return RobustClassifier(
        net(),
        optimizer=partial(torch.optim.Adam, lr=lr),
        scheduler=partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=lr, total_steps=steps),
        interval="step",
    )


def thresholded(make: Callable[..., Any], net: Callable[..., nn.Module], eps_train: float, steps: int) -> Any:
    """A module behind threshold filters, as in the paper with eps 0.1 for natural training, else eps_train.

    Args:
        make: `(net, eps_train, steps) -> module`.
        net: Takes the number of channels, which the filters double.
        eps_train: The radius of training.
        steps: Optimizer steps.
    """
    return make(partial(_behind, eps_train or 0.1, net), eps_train, steps)


def _behind(eps: float, net: Callable[..., nn.Module]) -> nn.Module:
    return nn.Sequential(ThresholdFilters(eps), net(2))


def constant_adam(net: Callable[[], nn.Module], eps_train: float, steps: int) -> RobustClassifier:
    """Adam with rate 1e-4, as the MNIST challenge of Madry et al. (the paper's weight decay is not part of it)."""
    return RobustClassifier(net(), optimizer=partial(torch.optim.Adam, lr=1e-4))


def momentum(net: Callable[[], nn.Module], eps_train: float, steps: int) -> RobustClassifier:
    """SGD with momentum 0.9, weight decay 2e-4 and rates 0.1, 0.01 and 0.001, changed after 1/2 and 3/4 of the steps.

    These are the CIFAR-10 challenge's settings of Madry et al.; its decay is on kernels alone.
    """
    return RobustClassifier(
        net(),
        optimizer=partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=2e-4),
        scheduler=partial(torch.optim.lr_scheduler.MultiStepLR, milestones=[steps // 2, 3 * steps // 4], gamma=0.1),
        interval="step",
    )


def digits(n: int, seed: int, test_size: int = 597, val_size: int = 200) -> TensorDataModule:
    """The 1797 handwritten digits of 8 x 8 that come with scikit-learn, in [0, 1]; the test images are always the same.

    Raises:
        ModuleNotFoundError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "The digits come with scikit-learn, which is not installed: pip install 'lightning-robust[digits]'."
        ) from error
    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
    y = torch.tensor(labels, dtype=torch.int64)
    train, test = stratified_split(y, test_size, seed=0)
    return TensorDataModule(
        (x[train], y[train]),
        (x[test], y[test]),
        num_classes=10,
        train_size=n,
        val_size=val_size,
        batch_size=50,
        eval_batch_size=250,
        seed=seed,
    )


def letters(n: int, seed: int, test_size: int = 10_000) -> Fonts:
    """Letters under small affine maps: n class-balanced ones at random."""
    return Fonts(
        "easy", train_size=n, subset="balanced", test_size=test_size, batch_size=50, eval_batch_size=250, seed=seed
    )


@dataclass(frozen=True, kw_only=True)
class Downloaded:
    """A public data set, called with n and a seed.

    Args:
        kind: The data module.
        root: Its folder, which does not change results.
        val_size: The number of validation images.
        batch_size: Of training.
        augment: Of training images.
    """

    kind: Callable[..., pl.LightningDataModule]
    root: str = field(repr=False)
    val_size: int
    batch_size: int
    augment: RandomCropFlip | None = None

    def __call__(self, n: int, seed: int) -> pl.LightningDataModule:
        """The data module with n training images."""
        return self.kind(
            self.root,
            train_size=n,
            val_size=self.val_size,
            batch_size=self.batch_size,
            eval_batch_size=250,
            augment=self.augment,
            seed=seed,
        )


def _resnet(filters: Sequence[int]) -> nn.Module:
    return madry_resnet(filters=filters)


_WIDTHS = {"resnet": (16, 16, 32, 64), "resnet-x4": (16, 64, 128, 256), "resnet-x10": (16, 160, 320, 640)}


def problems(root: str | Path = "data") -> dict[str, Problem]:
    """The built-in problems by name.

    Of clothes there are two networks: "cnn" has two convolutions with pooling, as those of published results that err
    on 7.5 to 7.8 % of the test images, and "small" takes a fifth of its time. The settings of MNIST, CIFAR-10 and SVHN
    are those of the paper where it states them, else those of the challenges of Madry et al.; the sizes and the radii
    of CIFAR-10 and SVHN, the learning rate of SVHN and all settings of clothes are our choice.

    Args:
        root: The folder of downloaded data sets.
    """
    root = str(root)
    small = {"digits": partial(small_net, side=8, classes=10), "fonts": partial(small_net, side=28, classes=10)}
    plain = {name: partial(one_cycle, partial(net, 1)) for name, net in small.items()}
    behind = partial(thresholded, one_cycle, small["digits"])
    clothes = {"cnn": partial(pooled_net, 1, 28, 10), "small": partial(small["fonts"], 1)}
    resnets = {name: partial(momentum, partial(_resnet, widths)) for name, widths in _WIDTHS.items()}
    byte = 1 / 255
    return {
        "fonts": Problem(
            data=letters,
            models={"cnn": plain["fonts"]},
            sizes=(250, 500, 1000, 2000, 4000),
            eps_train=(0.0, 0.05, 0.1),
            eps_test=(0.0, 0.05, 0.1),
            steps=600,
            train_steps=5,
        ),
        "digits": Problem(
            data=digits,
            models={"cnn": plain["digits"], "cnn+threshold": behind},
            sizes=(60, 150, 400, 900),
            eps_train=(0.0, 0.1, 0.2),
            eps_test=(0.0, 0.1, 0.2),
            steps=600,
            train_steps=7,
        ),
        "fashion": Problem(
            data=Downloaded(kind=FashionMNIST, root=root, val_size=1000, batch_size=100),
            models={name: partial(one_cycle, net) for name, net in clothes.items()},
            sizes=(250, 1000, 2500, 10_000, 59_000),
            eps_train=(0.0, 0.05, 0.1),
            eps_test=(0.0, 0.05, 0.1),
            steps=1000,
            train_steps=5,
            steps_per_image=0.1,
        ),
        "mnist": Problem(
            data=Downloaded(kind=MNIST, root=root, val_size=5000, batch_size=50),
            models={
                "cnn": partial(constant_adam, madry_mnist),
                "cnn+threshold": partial(thresholded, constant_adam, madry_mnist),
            },
            sizes=(1000, 2000, 5000, 10_000, 20_000, 40_000, 49_000),
            eps_train=(0.0, 0.1, 0.2, 0.3),
            eps_test=(0.0, 0.1, 0.2, 0.3),
            steps=100_000,
            train_steps=20,
        ),
        "cifar10": Problem(
            data=Downloaded(kind=CIFAR10, root=root, val_size=2500, batch_size=128, augment=RandomCropFlip(flip=True)),
            models={name: resnets[name] for name in ("resnet", "resnet-x10")},
            sizes=(2000, 5000, 10_000, 20_000, 30_000, 40_000),
            eps_train=(0.0, byte, 2 * byte, 4 * byte, 8 * byte),
            eps_test=(0.0, byte, 2 * byte, 4 * byte, 8 * byte),
            steps=80_000,
            train_steps=10,
        ),
        "svhn": Problem(
            data=Downloaded(
                kind=SVHNExtra, root=root, val_size=2500, batch_size=128, augment=RandomCropFlip(flip=False)
            ),
            models={name: resnets[name] for name in ("resnet", "resnet-x4")},
            sizes=(5000, 10_000, 25_000, 75_000, 150_000, 300_000),
            eps_train=(0.0, byte, 2 * byte, 4 * byte),
            eps_test=(0.0, byte, 2 * byte, 4 * byte),
            steps=80_000,
            train_steps=10,
        ),
    }
