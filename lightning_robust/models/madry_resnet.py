"""The CIFAR-10 network of Madry et al., narrow and wide."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lightning_robust._checks import boolean, count, counts
from lightning_robust.models.per_image_standardize import PerImageStandardize

__all__ = ["madry_resnet"]

_SLOPE = 0.1


def _norm(channels: int) -> nn.BatchNorm2d:
    # decay 0.9 and epsilon 0.001, as in the TensorFlow layer
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.1)


def _conv(before: int, after: int, stride: int = 1) -> nn.Conv2d:
    conv = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
    nn.init.normal_(conv.weight, std=(2 / (9 * after)) ** 0.5)
    return conv


class _PreActivationBlock(nn.Module):
    """x + conv act BN conv act BN (x), He et al., "Identity Mappings in Deep Residual Networks" (ECCV 2016).

    The shortcut has no weights: it averages stride x stride pixels and pads the new channels with zeros, half on
    either side. With `shared`, the shortcut starts after the first activation.
    """

    def __init__(self, before: int, after: int, stride: int, shared: bool) -> None:
        super().__init__()
        self.shared = shared
        self.activate = nn.Sequential(_norm(before), nn.LeakyReLU(_SLOPE))
        self.residual = nn.Sequential(
            _conv(before, after, stride), _norm(after), nn.LeakyReLU(_SLOPE), _conv(after, after)
        )
        self.pool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.pad = ((after - before) // 2, (after - before + 1) // 2)

    def forward(self, x: Tensor) -> Tensor:
        activated = self.activate(x)
        shortcut = self.pool(activated if self.shared else x)
        left, right = self.pad
        return self.residual(activated) + nn.functional.pad(shortcut, (0, 0, 0, 0, left, right))


def madry_resnet(
    in_channels: int = 3,
    num_classes: int = 10,
    filters: Sequence[int] = (16, 16, 32, 64),
    units: int = 5,
    standardize: bool = True,
) -> nn.Sequential:
    """A pre-activation residual network with leaky ReLU and shortcuts without weights.

        standardise each image -> conv 3x3 filters[0] -> stages of `units` blocks with filters[1], filters[2], ...
        channels -> BatchNorm -> leaky ReLU 0.1 -> average over pixels -> linear K

    Every stage but the first halves the image. Madry et al. (ICLR 2018) and Schmidt et al. (NeurIPS 2018): the default
    is the narrow network; (16, 160, 320, 640) is the wide one of the CIFAR-10 challenge, (16, 64, 128, 256) the one
    for SVHN. Weights of convolutions start from N(0, 2 / fan_out), those of the linear layer uniform with variance 1 /
    fan_in, as in their code.

    Their weight decay of 2e-4 acts on the weights of convolutions and linear layers only.

    Args:
        in_channels: C.
        num_classes: K.
        filters: channels of the first convolution and of each stage; they must not fall from one to the next.
        units: blocks of each stage.
        standardize: put `PerImageStandardize` first; images come in [0, 1].

    Returns:
        A network from (N, C, H, W) to logits (N, K), with H and W divisible by 2 to the number of stages less one.

    Raises:
        ValueError: if a number is not positive, or `filters` are fewer than two or fall.

    Example:
        >>> sum(p.numel() for p in madry_resnet(filters=(16, 160, 320, 640)).parameters())
        45901914
    """
    in_channels, num_classes = count("in_channels", in_channels), count("num_classes", num_classes)
    units = count("units", units)
    filters = counts("filters", filters)
    if len(filters) < 2 or list(filters) != sorted(filters):
        raise ValueError(f"Expected argument `filters` to be two or more numbers that do not fall, but got {filters}.")
    layers: list[nn.Module] = [PerImageStandardize()] if boolean("standardize", standardize) else []
    layers.append(_conv(in_channels, filters[0]))
    before = filters[0]
    for stage, after in enumerate(filters[1:]):
        for unit in range(units):
            stride = 2 if stage > 0 and unit == 0 else 1
            layers.append(_PreActivationBlock(before, after, stride, shared=stage == 0 and unit == 0))
            before = after
    linear = nn.Linear(before, num_classes)
    with torch.no_grad():
        bound = (3 / before) ** 0.5
        linear.weight.uniform_(-bound, bound)
        linear.bias.zero_()
    head = [_norm(before), nn.LeakyReLU(_SLOPE), nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear]
    return nn.Sequential(*layers, *head)
