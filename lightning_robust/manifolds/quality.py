"""How well an auto-encoder does: reconstruction error and statistics of its codes."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


class CodeQuality(Metric):
    r"""Reconstruction error, and how normal the codes are.

    ``update`` takes ``x`` and ``x_rec`` float (N, C, H, W) and ``z`` float (N, Z). ``compute`` returns scalars

    - ``rec_mse``: the mean squared error of a pixel.
    - ``code_mean``, ``code_var``: mean and variance of all entries of all codes; 0 and 1 where codes are standard
      normal.
    - ``code_within_2``: the share of codes with :math:`\max_d |z_d| \le 2`, those that the paper calls valid.

    Example:
        >>> metric = CodeQuality()
        >>> z = torch.tensor([[1.0, 3.0], [-1.0, 1.0]])
        >>> metric.update(torch.zeros(2, 1, 2, 2), torch.full((2, 1, 2, 2), 0.5), z)
        >>> {name: round(float(value), 2) for name, value in metric.compute().items()}
        {'rec_mse': 0.25, 'code_mean': 1.0, 'code_var': 2.0, 'code_within_2': 0.5}
    """

    is_differentiable = False
    higher_is_better = None
    full_state_update = False

    squared_error: Tensor
    pixels: Tensor
    code_sum: Tensor
    code_square: Tensor
    entries: Tensor
    within: Tensor
    total: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name in ("squared_error", "code_sum", "code_square"):
            self.add_state(name, torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        for name in ("pixels", "entries", "within", "total"):
            self.add_state(name, torch.tensor(0), dist_reduce_fx="sum")

    def update(self, x: Tensor, x_rec: Tensor, z: Tensor) -> None:
        """Take in a batch."""
        z = z.double()
        self.squared_error += (x.double() - x_rec.double()).square().sum()
        self.pixels += x.numel()
        self.code_sum += z.sum()
        self.code_square += z.square().sum()
        self.entries += z.numel()
        self.within += (z.abs() <= 2).all(1).sum()
        self.total += len(z)

    def compute(self) -> dict[str, Tensor]:
        """Error and statistics."""
        mean = self.code_sum / self.entries
        return {
            "rec_mse": (self.squared_error / self.pixels).float(),
            "code_mean": mean.float(),
            "code_var": (self.code_square / self.entries - mean.square()).float(),
            "code_within_2": (self.within / self.total).float(),
        }
