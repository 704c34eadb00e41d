"""The pre-activation ResNet-18 of the robustness literature."""

from torch import Tensor, nn

from lightning_robust._checks import count

__all__ = ["preact_resnet18"]


class _PreActivationBlock(nn.Module):
    """shortcut + conv relu BN conv relu BN (x), with a 1x1 convolution of relu BN (x) where the shape changes."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.activate = nn.Sequential(nn.BatchNorm2d(before), nn.ReLU())
        self.residual = nn.Sequential(
            nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
            nn.Conv2d(after, after, 3, padding=1, bias=False),
        )
        self.shortcut = None
        if stride != 1 or before != after:
            self.shortcut = nn.Conv2d(before, after, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        activated = self.activate(x)
        shortcut = x if self.shortcut is None else self.shortcut(activated)
        return self.residual(activated) + shortcut


def preact_resnet18(in_channels: int = 3, num_classes: int = 10, width: int = 64) -> nn.Sequential:
    """A pre-activation ResNet-18 for 32x32 images: the usual network of papers on CIFAR-10 ("PRN-18").

        conv 3x3 -> 2 blocks each of width, 2 width, 4 width, 8 width channels -> BatchNorm -> ReLU -> average ->
        linear K

    Every stage but the first halves the image. He et al., "Identity Mappings in Deep Residual Networks" (ECCV 2016),
    with the final BatchNorm that Wong et al. (ICLR 2020) and Rice et al. (ICML 2020) use: 11,172,170 parameters.
    Weights start as PyTorch draws them, as in their code. Normalise with a `Normalize` before it.

    Args:
        in_channels: C.
        num_classes: K.
        width: channels of the first stage.

    Returns:
        A network from (N, C, H, W) to logits (N, K).

    Raises:
        ValueError: if a number is not positive.

    Example:
        >>> sum(p.numel() for p in preact_resnet18().parameters())
        11172170
    """
    in_channels, num_classes = count("in_channels", in_channels), count("num_classes", num_classes)
    width = count("width", width)
    layers: list[nn.Module] = [nn.Conv2d(in_channels, width, 3, padding=1, bias=False)]
    before = width
    for stage in range(4):
        for block in range(2):
            after = width * 2**stage
            layers.append(_PreActivationBlock(before, after, stride=2 if stage > 0 and block == 0 else 1))
            before = after
    head = [nn.BatchNorm2d(before), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, num_classes)]
    return nn.Sequential(*layers, *head)
