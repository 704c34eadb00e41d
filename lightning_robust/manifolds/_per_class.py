"""One network for each class."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn


@final
class PerClass(nn.Module):
    r"""K networks of one architecture: sample n goes through network :math:`y_n`.

    The networks share nothing. Each has its own weights, statistics and gradients; a network that has no sample in the
    batch is neither read nor changed, and its gradients stay None, so that torch's optimizers pass it over. The batch
    is sorted by class, and each network sees its samples once. On a CPU this takes little more time than one network on
    the whole batch. On a GPU, where the time of a small network is the number of its kernels, it may take K times as
    long.

    Args:
        members: the K networks.

    Example:
        >>> members = [nn.Linear(3, 2) for _ in range(4)]
        >>> x, y = torch.randn(5, 3), torch.tensor([2, 0, 2, 3, 0])
        >>> torch.allclose(PerClass(members)(x, y)[1], members[0](x[1]), atol=1e-6)
        True
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Samples (N, ...) with labels (N,) from 0 to K - 1, which are ignored where K is 1.

        Raises:
            ValueError: if a label is not in this range.
        """
        if len(self.members) == 1 or len(x) == 0:
            return self.members[0](x)
        order = torch.argsort(y, stable=True)
        parts = zip(self.members, x[order].split(self._counts(y)), strict=True)
        return torch.cat([member(part) for member, part in parts if len(part)])[torch.argsort(order)]

    def _counts(self, y: Tensor) -> list[int]:
        last = len(self.members) - 1
        counts = torch.bincount(y.clamp(-1, last + 1) + 1, minlength=last + 3).tolist()
        if counts[0] or counts[-1]:
            raise ValueError(f"Expected labels from 0 to {last}, but got {int(y.min())} to {int(y.max())}.")
        return counts[1:-1]
