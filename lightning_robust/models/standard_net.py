"""The main classifier of Stutz, Hein and Schiele (CVPR 2019)."""

import math
from collections.abc import Sequence

from torch import nn

from lightning_robust._checks import count, number
from lightning_robust.models._checks import height_and_width
from lightning_robust.models._init import kaiming_

__all__ = ["standard_net"]


def standard_net(
    in_channels: int = 1,
    num_classes: int = 10,
    image_size: int | Sequence[int] = 28,
    negative_slope: float = math.sqrt(2),
) -> nn.Sequential:
    """A small LeNet-like network: strided convolutions, then two linear layers.

        conv 4x4 stride 2 -> BatchNorm -> ReLU    with 16, 32, 64, ... channels, while half the side is at least 2
        flatten -> linear 10 K -> linear K        without a nonlinearity between the two

    "Disentangling Adversarial Robustness and Generalization", supplementary material. 100,262 parameters for 28x28x1
    and 10 classes; 196,622 for CelebA's 56x48x3 and 2 classes.

    Weights start as He et al. propose, with the slope a of the activation taken as `negative_slope`. The default
    repeats the code of the paper, which passes the gain sqrt(2) where the slope belongs: the standard deviation is
    sqrt(2/3) / sqrt(fan_in) instead of sqrt(2) / sqrt(fan_in). Pass 0 for the initialisation that ReLU calls for.

    Args:
        in_channels: C.
        num_classes: K.
        image_size: side of a square image, or (H, W).
        negative_slope: a, see above.

    Returns:
        A network from (N, C, H, W) to logits (N, K).

    Raises:
        ValueError: if a number is not positive or an image is smaller than 4 pixels.

    Example:
        >>> sum(p.numel() for p in standard_net().parameters())
        100262
    """
    in_channels, num_classes = count("in_channels", in_channels), count("num_classes", num_classes)
    height, width = height_and_width(image_size, least=4)
    negative_slope = number("negative_slope", negative_slope)
    layers: list[nn.Module] = []
    channels = 16
    while min(height, width) // 2 >= 2:
        layers += [nn.Conv2d(in_channels, channels, 4, stride=2, padding=1), nn.BatchNorm2d(channels), nn.ReLU()]
        in_channels, channels = channels, 2 * channels
        height, width = height // 2, width // 2
    hidden = 10 * num_classes
    head = [nn.Flatten(), nn.Linear(in_channels * height * width, hidden), nn.Linear(hidden, num_classes)]
    network = nn.Sequential(*layers, *head)
    kaiming_(network, negative_slope)
    return network
