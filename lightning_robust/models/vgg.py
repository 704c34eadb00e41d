"""A small VGG."""

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from lightning_robust._checks import count, counts
from lightning_robust.models._checks import height_and_width
from lightning_robust.models._init import kaiming_

__all__ = ["vgg"]


def vgg(
    in_channels: int = 1,
    num_classes: int = 10,
    image_size: int | Sequence[int] = 28,
    channels: Sequence[int] = (64, 128, 128, 256, 256),
    hidden: Sequence[int] = (1024, 1024),
) -> nn.Sequential:
    """3x3 convolutions with BatchNorm and ReLU, a 2x2 max-pool wherever the number of channels changes, linear layers.

    The VGG of Stutz et al. (CVPR 2019), supplementary material, without dropout: 15.0 million parameters for 28x28x1
    and 10 classes. Weights start as He et al. propose for ReLU.

    Args:
        in_channels: C.
        num_classes: K.
        image_size: side of a square image, or (H, W).
        channels: channels of the convolutions; a change from one to the next puts a max-pool between them.
        hidden: units of the hidden linear layers.

    Returns:
        A network from (N, C, H, W) to logits (N, K).

    Raises:
        ValueError: if a number is not positive or the pools leave nothing of the image.
    """
    in_channels, num_classes = count("in_channels", in_channels), count("num_classes", num_classes)
    channels, hidden = counts("channels", channels), counts("hidden", hidden, empty=True)
    height, width = height_and_width(image_size)
    layers: list[nn.Module] = []
    for before, after in pairwise([in_channels, *channels]):
        if layers and after != before:
            layers.append(nn.MaxPool2d(2))
            height, width = height // 2, width // 2
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
    if min(height, width) < 1:
        raise ValueError(f"Expected argument `image_size` to survive the max-pools, but got {image_size!r}.")
    units = [in_channels, *channels][-1] * height * width
    layers.append(nn.Flatten())
    for after in hidden:
        layers += [nn.Linear(units, after), nn.ReLU()]
        units = after
    network = nn.Sequential(*layers, nn.Linear(units, num_classes))
    kaiming_(network)
    return network
