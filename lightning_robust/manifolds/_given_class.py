"""One network for all classes, which gets the class."""

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_robust.manifolds._labels import own_class


@final
class GivenClass(nn.Module):
    """One network for all classes: what it is told of the class stands beside its input, as further channels.

    A vector (N, D) gets K entries, 1 for its class and 0 for the others. An image (N, C, H, W) gets one more channel, a
    plane that is learned for each class.

    Args:
        network: takes K entries or one channel more than it is given.
        num_classes: K.
        size: (H, W) of images; None: the inputs are vectors.

    Example:
        >>> network = GivenClass(nn.Linear(2 + 3, 4), num_classes=3)
        >>> network(torch.randn(5, 2), torch.tensor([2, 0, 2, 1, 0])).shape
        torch.Size([5, 4])

    References:
        Mirza, Osindero, "Conditional generative adversarial nets", 2014 (arXiv 1411.1784), sections 3.2 and 4.1: the
        label is a further input, as a one-hot vector. Their networks are no convolutions, so that there are no planes.
    """

    def __init__(self, network: nn.Module, num_classes: int, size: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.members = nn.ModuleList([network])
        self.num_classes = num_classes
        self.planes = None
        if size is not None:
            self.planes = nn.Sequential(nn.Embedding(num_classes, size[0] * size[1]), nn.Unflatten(1, (1, *size)))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Inputs (N, ...) with labels (N,) from 0 to K - 1.

        Raises:
            ValueError: if a label is not in this range.
        """
        labels = own_class(y, len(x), self.num_classes, x.device)
        told = F.one_hot(labels, self.num_classes) if self.planes is None else self.planes(labels)
        return self.members[0](torch.cat([x, told.to(x)], dim=1))
