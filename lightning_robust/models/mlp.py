"""A multi-layer perceptron."""

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from lightning_robust._checks import count, counts
from lightning_robust.models._checks import height_and_width
from lightning_robust.models._init import kaiming_

__all__ = ["mlp"]


def mlp(
    in_channels: int = 1,
    num_classes: int = 10,
    image_size: int | Sequence[int] = 28,
    hidden: Sequence[int] = (128, 128, 128, 128),
) -> nn.Sequential:
    """Linear layers with ReLU and, after it, BatchNorm.

        flatten -> [linear -> ReLU -> BatchNorm] per entry of `hidden` -> linear K

    The multi-layer perceptron of Stutz et al. (CVPR 2019), supplementary material: 152,330 parameters for 28x28x1 and
    10 classes. Weights start as He et al. propose for ReLU.

    Args:
        in_channels: C.
        num_classes: K.
        image_size: side of a square image, or (H, W).
        hidden: units of the hidden layers.

    Returns:
        A network from (N, C, H, W) to logits (N, K).

    Raises:
        ValueError: if a number is not positive.

    Example:
        >>> sum(p.numel() for p in mlp().parameters())
        152330
    """
    in_channels, num_classes = count("in_channels", in_channels), count("num_classes", num_classes)
    height, width = height_and_width(image_size)
    units = [in_channels * height * width, *counts("hidden", hidden, empty=True)]
    layers: list[nn.Module] = [nn.Flatten()]
    for d_in, d_out in pairwise(units):
        layers += [nn.Linear(d_in, d_out), nn.ReLU(), nn.BatchNorm1d(d_out)]
    network = nn.Sequential(*layers, nn.Linear(units[-1], num_classes))
    kaiming_(network)
    return network
