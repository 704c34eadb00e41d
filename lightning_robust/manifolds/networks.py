r"""The networks of the VAE-GAN: encoder, decoder and discriminator.

An image is halved until it is about 3 x 3 while the channels double: 28 x 28 -> 14 -> 7 -> 3 with 64, 128, 256
channels, 56 x 48 -> ... -> 3 x 3 with 64 to 512. The decoder goes the same way back. The last layer of each network is
linear: losses start from logits. A convolution before batch normalisation has no bias: the paper's has one, but it
    cancels, and Adam lets it wander.

References:
    Stutz, Hein, Schiele, "Disentangling Adversarial Robustness and Generalization", CVPR 2019 (arXiv 1812.00740), and
    its code, whose architecture and initial weights these are.
"""

import math
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_robust._checks import counts, number

Size = tuple[int, int]
ImageShape = tuple[int, int, int]


class UpConv2d(nn.Module):
    r"""A transposed convolution, kernel 6, stride 2, padding 2: it doubles an image.

    Each output pixel sees 3 x 3 input pixels, through one of four 3 x 3 kernels, one for each parity of its row and
    column. So the map is a convolution with 3 x 3 kernels to four times the channels, whose outputs are then
    interleaved (`pixel_shuffle`): the same map with the same weights in another order, and up to four times as fast on
    CPUs.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        size: (H, W) of the output, twice that of the input or one more.
        bias: whether there is a bias for each output channel.

    Shape:
        input (N, in_channels, H', W'), output (N, out_channels, H, W); weight (4 * out_channels, in_channels, 3, 3),
        where row 4 c + 2 a + b makes the pixels of channel c in rows of parity a and columns of parity b.
    """

    bias: nn.Parameter | None

    def __init__(self, in_channels: int, out_channels: int, size: Size, *, bias: bool = True) -> None:
        super().__init__()
        self.size = size
        self.weight = nn.Parameter(torch.empty(4 * out_channels, in_channels, 3, 3))
        self.register_parameter("bias", nn.Parameter(torch.zeros(out_channels)) if bias else None)
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """Double the images."""
        bias = None if self.bias is None else self.bias.repeat_interleave(4)
        return interleave(F.conv2d(pad_to_half(x, self.size), self.weight, bias, padding=1), self.size)


def pad_to_half(x: Tensor, size: Size) -> Tensor:
    """Add a row or column of zeros to (N, C, h, w), so that twice as many are enough for (H, W) = `size`."""
    rows, columns = ((want + 1) // 2 - had for want, had in zip(size, x.shape[2:], strict=True))
    return F.pad(x, (0, columns, 0, rows)) if rows or columns else x


def interleave(x: Tensor, size: Size) -> Tensor:
    """(N, 4 C, h, w) -> (N, C, H, W): the four images of each channel into one of the size (H, W)."""
    x = F.pixel_shuffle(x, 2)
    return x if x.shape[2:] == size else x[:, :, : size[0], : size[1]]


class Plan(NamedTuple):
    """The sizes and channels of an image on its way down, from the first convolution's output to the last one's."""

    sizes: list[Size]
    channels: list[int]

    @property
    def features(self) -> int:
        """How many numbers are left at the end of the way."""
        return self.channels[-1] * self.sizes[-1][0] * self.sizes[-1][1]


def plan(image_shape: ImageShape, width: float = 1.0) -> Plan:
    """Halve an image while both halves are at least 2 pixels, and double the channels.

    Args:
        image_shape: (C, H, W).
        width: of the networks, in units of the paper's: 1 starts with 64 channels, 0.25 with 16.

    Raises:
        ValueError: if the image is smaller than 4 x 4, or `width` does not give a whole number of channels.

    Example:
        >>> plan((3, 56, 48))
        Plan(sizes=[(28, 24), (14, 12), (7, 6), (3, 3)], channels=[64, 128, 256, 512])
    """
    first, shape = 64 * number("width", width, 0, above=True), counts("image_shape", image_shape)
    if first != int(first):
        raise ValueError(f"Expected argument `width` to be a positive multiple of 1/64, but got {width}.")
    if len(shape) != 3 or min(shape[1:]) < 4:
        raise ValueError(
            f"Expected argument `image_shape` to be (C, H, W) of at least 4 x 4 pixels, but got {image_shape}."
        )
    height, width_ = shape[1:]
    sizes = []
    while min(height, width_) >= 4:
        height, width_ = height // 2, width_ // 2
        sizes.append((height, width_))
    return Plan(sizes, [int(first) * 2**i for i in range(len(sizes))])


def encoder(image_shape: ImageShape, latent: int, width: float = 1.0, init_std: float | None = 0.001) -> nn.Sequential:
    """Images (N, C, H, W) to (N, 2 * latent): the means of the codes and the logarithms of their variances.

    Convolutions with kernel 4, stride 2, padding 1, each with batch normalisation and ReLU; then one linear layer.

    Args:
        image_shape: (C, H, W).
        latent: Z, the dimension of a code.
        width: as for `plan`.
        init_std: the deviation of the first weights of the convolutions, 0.001 in the paper's code; None: by fan-in, as
            in the linear layer. Biases start at 0.
    """
    steps = plan(image_shape, width)
    layers: list[nn.Module] = []
    for before, after in pairwise([image_shape[0], *steps.channels]):
        layers += [nn.Conv2d(before, after, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    _init(layers, init_std)
    head = nn.Linear(steps.features, 2 * latent)
    _init([head], None)
    return nn.Sequential(*layers, nn.Flatten(), head)


def decoder(image_shape: ImageShape, latent: int, width: float = 1.0, init_std: float | None = 0.001) -> nn.Sequential:
    """Codes (N, latent) to logits of images (N, C, H, W): the image is their sigmoid.

    A linear layer, then transposed convolutions with kernel 6, stride 2, padding 2, each but the last with batch
    normalisation and ReLU.

    Args:
        image_shape: (C, H, W).
        latent: Z, the dimension of a code.
        width: as for `plan`.
        init_std: the deviation of the first weights of all layers; as for `encoder`.
    """
    steps = plan(image_shape, width)
    channels = [*reversed(steps.channels), image_shape[0]]
    sizes = [*reversed(steps.sizes[:-1]), image_shape[1:]]
    layers: list[nn.Module] = [nn.Linear(latent, steps.features), nn.Unflatten(1, (channels[0], *steps.sizes[-1]))]
    for before, after, size in zip(channels, channels[1:-1], sizes, strict=False):
        layers += [UpConv2d(before, after, size, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    layers += [UpConv2d(channels[-2], channels[-1], sizes[-1])]
    _init(layers, init_std)
    return nn.Sequential(*layers)


def discriminator(image_shape: ImageShape, width: float = 1.0) -> nn.Sequential:
    """Images (N, C, H, W) to logits (N, 1), positive for what looks real.

    Convolutions with kernel 6, stride 2, padding 2, each with batch normalisation and ReLU; then two linear layers, 10
    and 1 wide, with nothing between them, as in the paper's code.

    Args:
        image_shape: (C, H, W).
        width: as for `plan`.
    """
    steps = plan(image_shape, width)
    layers: list[nn.Module] = []
    for before, after in pairwise([image_shape[0], *steps.channels]):
        layers += [nn.Conv2d(before, after, 6, stride=2, padding=2, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    layers += [nn.Flatten(), nn.Linear(steps.features, 10), nn.Linear(10, 1)]
    _init(layers, None)
    return nn.Sequential(*layers)


def _init(layers: list[nn.Module], std: float | None) -> None:
    """Normal weights and zero biases; None: variance 2 / (3 fan-in), which is what the paper's code comes to."""
    for layer in layers:
        if isinstance(layer, nn.Conv2d | UpConv2d | nn.Linear):
            if std is None:
                nn.init.kaiming_normal_(layer.weight, a=math.sqrt(2))
            else:
                nn.init.normal_(layer.weight, std=std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
