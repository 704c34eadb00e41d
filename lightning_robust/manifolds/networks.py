r"""The networks of the VAE-GAN: encoder, decoder, discriminator, and the classifier of codes.

An image is halved until it is about 3 x 3 while the channels double: 28 x 28 -> 14 -> 7 -> 3 with 64, 128, 256
channels, 56 x 48 -> ... -> 3 x 3 with 64 to 512. The decoder goes the same way back. The last layer of each network is
linear: losses start from logits. A convolution before batch normalization has no bias: the paper's has one, but it
cancels, and Adam lets it wander.

References:
    Stutz, Hein, Schiele, "Disentangling Adversarial Robustness and Generalization", CVPR 2019 (arXiv 1812.00740), and
    its code, whose architecture and initial weights these are.
"""

import math
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lightning_robust._checks import counts, number

Size = tuple[int, int]
ImageShape = tuple[int, int, int]


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

    Convolutions with kernel 4, stride 2, padding 1, each with batch normalization and ReLU; then one linear layer.

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
    normalization and ReLU. (Four 3 x 3 convolutions with interleaved outputs are the same map. On a CPU they took 0.5
    to 0.8 of the time to decode, but as long with the gradient, and up to 1.5 times as long in training.)

    Args:
        image_shape: (C, H, W).
        latent: Z, the dimension of a code.
        width: as for `plan`.
        init_std: the deviation of the first weights of all layers; as for `encoder`.
    """
    steps = plan(image_shape, width)
    channels = [*reversed(steps.channels), image_shape[0]]
    sizes = [*reversed(steps.sizes), image_shape[1:]]
    layers: list[nn.Module] = [nn.Linear(latent, steps.features), nn.Unflatten(1, (channels[0], *sizes[0]))]
    for (before, after), (small, large) in zip(pairwise(channels), pairwise(sizes), strict=True):
        extra = (large[0] - 2 * small[0], large[1] - 2 * small[1])
        up = nn.ConvTranspose2d(before, after, 6, stride=2, padding=2, output_padding=extra, bias=False)
        layers += [up, nn.BatchNorm2d(after), nn.ReLU()]
    del layers[-2:]
    up.bias = nn.Parameter(torch.zeros(channels[-1]))  # no batch normalization follows
    _init(layers, init_std)
    return nn.Sequential(*layers)


def discriminator(image_shape: ImageShape, width: float = 1.0) -> nn.Sequential:
    """Images (N, C, H, W) to logits (N, 1), positive for what looks real.

    Convolutions with kernel 6, stride 2, padding 2, each with batch normalization and ReLU; then two linear layers, 10
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


def code_classifier(latent: int, num_classes: int, hidden: int = 128) -> nn.Sequential:
    """Codes (N, latent) to logits (N, num_classes) of the classes of their images.

    Entries are brought to mean 0 and deviation 1 first, so that codes cannot hide by being small; then two hidden
    layers with ReLU.
    """
    layers: list[nn.Module] = [nn.BatchNorm1d(latent, affine=False)]
    for before, after in pairwise([latent, hidden, hidden]):
        layers += [nn.Linear(before, after), nn.ReLU()]
    layers.append(nn.Linear(hidden, num_classes))
    _init(layers, None)
    return nn.Sequential(*layers)


def _init(layers: list[nn.Module], std: float | None) -> None:
    """Normal weights and zero biases; None: variance 2 / (3 fan-in), which is what the paper's code comes to."""
    for layer in layers:
        if not isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            continue
        weight: Tensor = layer.weight
        if isinstance(layer, nn.ConvTranspose2d):  # an output pixel sees 3 x 3 inputs, through one of four kernels
            weight = torch.empty(4 * layer.out_channels, layer.in_channels, 3, 3)
        if std is None:
            nn.init.kaiming_normal_(weight, a=math.sqrt(2))
        else:
            nn.init.normal_(weight, std=std)
        if isinstance(layer, nn.ConvTranspose2d):
            _interleave_(layer.weight, weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


@torch.no_grad()
def _interleave_(kernel: Tensor, parts: Tensor) -> None:
    """Fill (I, O, 6, 6) from four kernels (4 O, I, 3, 3), one for each parity of an output pixel's row and column."""
    parts = parts.unflatten(0, (-1, 2, 2)).flip(4, 5)  # (O, row parity, column parity, I, 3, 3)
    kernel.copy_(parts.permute(3, 0, 4, 1, 5, 2).reshape(kernel.shape))
