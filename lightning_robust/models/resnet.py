"""A residual network for small images."""

from collections.abc import Sequence

from torch import Tensor, nn

from lightning_robust._checks import count, counts

__all__ = ["resnet"]


class _BasicBlock(nn.Module):
    """relu( BN conv relu BN conv (x) + shortcut(x) ), He et al., "Deep Residual Learning" (CVPR 2016), figure 2."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
            nn.Conv2d(after, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride=stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        return (self.residual(x) + self.shortcut(x)).relu()


def resnet(
    in_channels: int = 1, num_classes: int = 10, units: Sequence[int] = (2, 2, 2), width: int = 64
) -> nn.Sequential:
    """3x3 convolution, then stages of basic blocks with `width`, 2 `width`, 4 `width`, ... channels, average, linear.

    Every stage but the first halves the image. The networks of Stutz et al. (CVPR 2019), supplementary material:
    `units=(2, 2, 2)` (2.78 million parameters for one channel and 10 classes) for FONTS, EMNIST and Fashion-MNIST,
    `units=(3, 3, 3)` (4.33 million) for CelebA. Convolutions start from N(0, 2 / fan_out), as He et al. propose. Any
    image size will do: the average is over all pixels, which is the paper's pool of (H // 4, W // 4) wherever 4
    divides H and W.

    Args:
        in_channels: C.
        num_classes: K.
        units: blocks of each stage.
        width: channels of the first stage.

    Returns:
        A network from (N, C, H, W) to logits (N, K).

    Raises:
        ValueError: if a number is not positive.

    Example:
        >>> sum(p.numel() for p in resnet().parameters())
        2776522
    """
    in_channels, num_classes = count("in_channels", in_channels), count("num_classes", num_classes)
    width = count("width", width)
    layers: list[nn.Module] = []
    layers += [nn.Conv2d(in_channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    before = width
    for stage, blocks in enumerate(counts("units", units)):
        after = width * 2**stage
        for block in range(blocks):
            layers.append(_BasicBlock(before, after, stride=2 if stage > 0 and block == 0 else 1))
            before = after
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, num_classes))
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network
