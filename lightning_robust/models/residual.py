"""Residual networks for small images: those of the two papers, and the usual one of papers on CIFAR-10.

Each function makes a network from images (N, C, H, W) to logits (N, K).
"""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from lightning_robust._checks import boolean, count, counts
from lightning_robust.models.normalize import PerImageStandardize

__all__ = ["madry_resnet", "preact_resnet18", "resnet"]

_SLOPE = 0.1


def _conv(before: int, after: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)


def _blocks(
    block: Callable[[int, int, int, bool], nn.Module], before: int, stages: Sequence[tuple[int, int]]
) -> list[nn.Module]:
    """`block(channels before, channels after, stride, is it the first)` for stages of (channels, number of blocks).

    Every stage but the first halves the image.
    """
    blocks: list[nn.Module] = []
    for stage, (after, number) in enumerate(stages):
        for unit in range(number):
            blocks.append(block(before, after, 2 if stage > 0 and unit == 0 else 1, not blocks))
            before = after
    return blocks


class _BasicBlock(nn.Module):
    """relu( BN conv relu BN conv (x) + shortcut(x) ), He et al., "Deep Residual Learning" (CVPR 2016), figure 2."""

    def __init__(self, before: int, after: int, stride: int, first: bool) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            _conv(before, after, stride), nn.BatchNorm2d(after), nn.ReLU(), _conv(after, after), nn.BatchNorm2d(after)
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride=stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        return (self.residual(x) + self.shortcut(x)).relu()


class _PreActivationBlock(nn.Module):
    """shortcut + conv relu BN conv relu BN (x), with a 1x1 convolution of relu BN (x) where the shape changes."""

    def __init__(self, before: int, after: int, stride: int, first: bool) -> None:
        super().__init__()
        self.activate = nn.Sequential(nn.BatchNorm2d(before), nn.ReLU())
        self.residual = nn.Sequential(
            _conv(before, after, stride), nn.BatchNorm2d(after), nn.ReLU(), _conv(after, after)
        )
        self.shortcut = None
        if stride != 1 or before != after:
            self.shortcut = nn.Conv2d(before, after, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        activated = self.activate(x)
        shortcut = x if self.shortcut is None else self.shortcut(activated)
        return self.residual(activated) + shortcut


class _MadryBlock(nn.Module):
    """shortcut(x) + conv act BN conv act BN (x), with a shortcut that has no weights.

    It averages stride x stride pixels and pads the new channels with zeros, half on either side. That of the first
    block starts after the activation.
    """

    def __init__(self, before: int, after: int, stride: int, first: bool) -> None:
        super().__init__()
        self.first = first
        self.activate = nn.Sequential(_madry_norm(before), nn.LeakyReLU(_SLOPE))
        self.residual = nn.Sequential(
            _madry_conv(before, after, stride), _madry_norm(after), nn.LeakyReLU(_SLOPE), _madry_conv(after, after)
        )
        self.pool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.pad = ((after - before) // 2, (after - before + 1) // 2)

    def forward(self, x: Tensor) -> Tensor:
        activated = self.activate(x)
        shortcut = self.pool(activated if self.first else x)
        return self.residual(activated) + nn.functional.pad(shortcut, (0, 0, 0, 0, *self.pad))


def _madry_norm(channels: int) -> nn.BatchNorm2d:
    # decay 0.9 and epsilon 0.001, as in the TensorFlow layer
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.1)


def _madry_conv(before: int, after: int, stride: int = 1) -> nn.Conv2d:
    conv = _conv(before, after, stride)
    nn.init.normal_(conv.weight, std=(2 / (9 * after)) ** 0.5)
    return conv


def resnet(
    in_channels: int = 1, num_classes: int = 10, units: Sequence[int] = (2, 2, 2), width: int = 64
) -> nn.Sequential:
    """3x3 convolution, then stages of basic blocks with `width`, 2 `width`, 4 `width`, ... channels, average, linear.

    The networks of Stutz et al. (CVPR 2019), supplementary material: `units=(2, 2, 2)` (2.78 million parameters for
    one channel and 10 classes) for FONTS, EMNIST and Fashion-MNIST, `units=(3, 3, 3)` (4.33 million) for CelebA.
    Convolutions start from N(0, 2 / fan_out), as He et al. propose. Any image size will do: the average is over all
    pixels, which is the paper's pool of (H // 4, W // 4) wherever 4 divides H and W.

    Args:
        in_channels: C.
        num_classes: K.
        units: blocks of each stage; every stage but the first halves the image.
        width: channels of the first stage.

    Example:
        >>> sum(p.numel() for p in resnet().parameters())
        2776522
    """
    in_channels, num_classes = count("in_channels", in_channels), count("num_classes", num_classes)
    width = count("width", width)
    stages = [(width * 2**stage, blocks) for stage, blocks in enumerate(counts("units", units))]
    network = nn.Sequential(
        *[_conv(in_channels, width), nn.BatchNorm2d(width), nn.ReLU()],
        *_blocks(_BasicBlock, width, stages),
        *[nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(stages[-1][0], num_classes)],
    )
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network


def preact_resnet18(in_channels: int = 3, num_classes: int = 10, width: int = 64) -> nn.Sequential:
    """A pre-activation ResNet-18 for 32x32 images: the usual network of papers on CIFAR-10 ("PRN-18").

        conv 3x3 -> 2 blocks each of width, 2 width, 4 width, 8 width channels -> BatchNorm -> ReLU -> average ->
        linear K

    Every stage but the first halves the image. He et al., "Identity Mappings in Deep Residual Networks" (ECCV 2016),
    with the final BatchNorm that Wong et al. (ICLR 2020) and Rice et al. (ICML 2020) use: 11,172,170 parameters.
    Weights start as PyTorch draws them, as in their code. Normalize with a `Normalize` before it.

    Args:
        in_channels: C.
        num_classes: K.
        width: channels of the first stage.

    Example:
        >>> sum(p.numel() for p in preact_resnet18().parameters())
        11172170
    """
    in_channels, num_classes = count("in_channels", in_channels), count("num_classes", num_classes)
    width = count("width", width)
    first, last = _conv(in_channels, width), 8 * width
    blocks = _blocks(_PreActivationBlock, width, [(width * 2**stage, 2) for stage in range(4)])
    head = [nn.BatchNorm2d(last), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(last, num_classes)]
    return nn.Sequential(first, *blocks, *head)


def madry_resnet(
    in_channels: int = 3,
    num_classes: int = 10,
    filters: Sequence[int] = (16, 16, 32, 64),
    units: int = 5,
    standardize: bool = True,
) -> nn.Sequential:
    """A pre-activation residual network with leaky ReLU and shortcuts without weights.

        standardize each image -> conv 3x3 filters[0] -> stages of `units` blocks with filters[1], filters[2], ...
        channels -> BatchNorm -> leaky ReLU 0.1 -> average over pixels -> linear K

    Every stage but the first halves the image, whose sides must be even. Madry et al. (ICLR 2018) and Schmidt et al.
    (NeurIPS 2018): the default is the narrow network; (16, 160, 320, 640) is the wide one of the CIFAR-10 challenge,
    (16, 64, 128, 256) the one for SVHN. Weights of convolutions start from N(0, 2 / fan_out), those of the linear layer
    uniform with variance 1 / fan_in, as in their code.

    Their weight decay of 2e-4 acts on the weights of convolutions and linear layers only.

    Args:
        in_channels: C.
        num_classes: K.
        filters: channels of the first convolution and of each stage; they must not fall from one to the next.
        units: blocks of each stage.
        standardize: put `PerImageStandardize` first; images come in [0, 1].

    Example:
        >>> sum(p.numel() for p in madry_resnet(filters=(16, 160, 320, 640)).parameters())
        45901914
    """
    in_channels, num_classes = count("in_channels", in_channels), count("num_classes", num_classes)
    filters, units = counts("filters", filters), count("units", units)
    if len(filters) < 2 or list(filters) != sorted(filters):
        raise ValueError(f"Expected argument `filters` to be two or more numbers that do not fall, but got {filters}.")
    first: list[nn.Module] = [PerImageStandardize()] if boolean("standardize", standardize) else []
    first.append(_madry_conv(in_channels, filters[0]))
    blocks = _blocks(_MadryBlock, filters[0], [(after, units) for after in filters[1:]])
    linear = nn.Linear(filters[-1], num_classes)
    bound = (3 / filters[-1]) ** 0.5
    nn.init.uniform_(linear.weight, -bound, bound)
    nn.init.zeros_(linear.bias)
    head = [_madry_norm(filters[-1]), nn.LeakyReLU(_SLOPE), nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear]
    return nn.Sequential(*first, *blocks, *head)
