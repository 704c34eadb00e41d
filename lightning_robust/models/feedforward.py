"""Networks without shortcuts: those of Stutz et al. (CVPR 2019) and the one of Madry et al. (ICLR 2018) for MNIST.

Each function makes a network from images (N, C, H, W) to logits (N, K).
"""

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from lightning_robust._checks import count, counts, number

__all__ = ["madry_mnist", "mlp", "standard_net", "vgg"]


def _height_and_width(image_size: int | Sequence[int], least: int = 1) -> tuple[int, int]:
    """(H, W) from one number for a square or a pair."""
    if not hasattr(image_size, "__len__"):
        side = count("image_size", image_size, least)
        return side, side
    pair = counts("image_size", image_size, least)
    if len(pair) != 2:
        raise ValueError(f"Expected argument `image_size` to be an integer or a pair (H, W), but got {image_size!r}.")
    return pair[0], pair[1]


def _kaiming_(network: nn.Sequential, negative_slope: float = 0.0) -> nn.Sequential:
    """Weights from N(0, 2 / ((1 + a^2) fan_in)), a the slope of the activation below zero, and biases of 0.

    He et al., "Delving Deep into Rectifiers" (ICCV 2015), eq. (15).
    """
    for module in network:
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, a=negative_slope)
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]
    return network


def standard_net(
    in_channels: int = 1,
    num_classes: int = 10,
    image_size: int | Sequence[int] = 28,
    negative_slope: float = math.sqrt(2),
) -> nn.Sequential:
    """A small LeNet-like network: strided convolutions, then two linear layers.

        conv 4x4 stride 2 -> BatchNorm -> ReLU    with 16, 32, 64, ... channels, while half the side is at least 2
        flatten -> linear 10 K -> linear K        without a nonlinearity between the two

    The main classifier of Stutz et al., supplementary material. 100,262 parameters for 28x28x1 and 10 classes; 196,622
    for CelebA's 56x48x3 and 2 classes.

    Weights start as He et al. propose, with the slope a of the activation taken as `negative_slope`. The default
    repeats the code of the paper, which passes the gain sqrt(2) where the slope belongs: the standard deviation is
    sqrt(2/3) / sqrt(fan_in) instead of sqrt(2) / sqrt(fan_in). Pass 0 for the initialization that ReLU calls for.

    Args:
        in_channels: C.
        num_classes: K.
        image_size: side of a square image, or (H, W).
        negative_slope: a, see above.

    Raises:
        ValueError: if a number is not positive or an image is smaller than 4 pixels.

    Example:
        >>> sum(p.numel() for p in standard_net().parameters())
        100262
    """
    in_channels, num_classes = count("in_channels", in_channels), count("num_classes", num_classes)
    height, width = _height_and_width(image_size, least=4)
    negative_slope = number("negative_slope", negative_slope)
    layers: list[nn.Module] = []
    channels = 16
    while min(height, width) // 2 >= 2:
        layers += [nn.Conv2d(in_channels, channels, 4, stride=2, padding=1), nn.BatchNorm2d(channels), nn.ReLU()]
        in_channels, channels = channels, 2 * channels
        height, width = height // 2, width // 2
    hidden = 10 * num_classes
    head = [nn.Flatten(), nn.Linear(in_channels * height * width, hidden), nn.Linear(hidden, num_classes)]
    return _kaiming_(nn.Sequential(*layers, *head), negative_slope)


def mlp(
    in_channels: int = 1,
    num_classes: int = 10,
    image_size: int | Sequence[int] = 28,
    hidden: Sequence[int] = (128, 128, 128, 128),
) -> nn.Sequential:
    """Linear layers with ReLU and, after it, BatchNorm.

        flatten -> [linear -> ReLU -> BatchNorm] per entry of `hidden` -> linear K

    The multi-layer perceptron of Stutz et al., supplementary material: 152,330 parameters for 28x28x1 and 10 classes.
    Weights start as He et al. propose for ReLU.

    Args:
        in_channels: C.
        num_classes: K.
        image_size: side of a square image, or (H, W).
        hidden: units of the hidden layers.

    Example:
        >>> sum(p.numel() for p in mlp().parameters())
        152330
    """
    in_channels, num_classes = count("in_channels", in_channels), count("num_classes", num_classes)
    height, width = _height_and_width(image_size)
    units = [in_channels * height * width, *counts("hidden", hidden, empty=True)]
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in pairwise(units):
        layers += [nn.Linear(before, after), nn.ReLU(), nn.BatchNorm1d(after)]
    return _kaiming_(nn.Sequential(*layers, nn.Linear(units[-1], num_classes)))


def vgg(
    in_channels: int = 1,
    num_classes: int = 10,
    image_size: int | Sequence[int] = 28,
    channels: Sequence[int] = (64, 128, 128, 256, 256),
    hidden: Sequence[int] = (1024, 1024),
) -> nn.Sequential:
    """3x3 convolutions with BatchNorm and ReLU, a 2x2 max-pool wherever the number of channels changes, linear layers.

    The VGG of Stutz et al., supplementary material, without dropout: 15.0 million parameters for 28x28x1 and 10
    classes. Weights start as He et al. propose for ReLU.

    Args:
        in_channels: C.
        num_classes: K.
        image_size: side of a square image, or (H, W).
        channels: channels of the convolutions; a change from one to the next puts a max-pool between them.
        hidden: units of the hidden linear layers.

    Raises:
        ValueError: if a number is not positive or the pools leave nothing of the image.
    """
    in_channels, num_classes = count("in_channels", in_channels), count("num_classes", num_classes)
    channels, hidden = counts("channels", channels), counts("hidden", hidden, empty=True)
    height, width = _height_and_width(image_size)
    layers: list[nn.Module] = []
    for before, after in pairwise([in_channels, *channels]):
        if layers and after != before:
            layers.append(nn.MaxPool2d(2))
            height, width = height // 2, width // 2
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
    if min(height, width) < 1:
        raise ValueError(f"Expected argument `image_size` to survive the max-pools, but got {image_size!r}.")
    units = [channels[-1] * height * width, *hidden]
    layers.append(nn.Flatten())
    for before, after in pairwise(units):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return _kaiming_(nn.Sequential(*layers, nn.Linear(units[-1], num_classes)))


def madry_mnist(in_channels: int = 1, num_classes: int = 10) -> nn.Sequential:
    """Two 5x5 convolutions with max-pools and a hidden layer of 1024 units, for 28x28 images.

        [conv 5x5 -> ReLU -> max-pool 2x2] with 32, then 64 channels -> linear 1024 -> ReLU -> linear K

    The network of Madry et al. (ICLR 2018) and of Schmidt et al. (NeurIPS 2018) for MNIST: 3,274,634 parameters.
    Weights start from a normal distribution of standard deviation 0.1 cut at two deviations, biases at 0.1, as in
    their code.

    Args:
        in_channels: C.
        num_classes: K.

    Example:
        >>> sum(p.numel() for p in madry_mnist().parameters())
        3274634
    """
    in_channels, num_classes = count("in_channels", in_channels), count("num_classes", num_classes)
    network = nn.Sequential(
        *[nn.Conv2d(in_channels, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)],
        *[nn.Conv2d(32, 64, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)],
        *[nn.Flatten(), nn.Linear(7 * 7 * 64, 1024), nn.ReLU(), nn.Linear(1024, num_classes)],
    )
    for module in network:
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.trunc_normal_(module.weight, std=0.1, a=-0.2, b=0.2)
            nn.init.constant_(module.bias, 0.1)  # type: ignore[arg-type]
    return network
