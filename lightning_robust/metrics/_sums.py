"""The base of metrics whose states are sums over samples."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn
from torchmetrics import Metric


class SummedMetric(Metric):
    """A metric whose states are sums over samples: they add up over batches and over processes."""

    is_differentiable = False
    full_state_update = False

    def add_sums(self, **zeros: Tensor) -> None:
        """Add states by name, each with its value before the first sample."""
        for name, zero in zeros.items():
            self.add_state(name, zero, dist_reduce_fx="sum")

    def accumulate(self, **sums: Any) -> None:
        """Add what a batch has to the states, by name."""
        for name, value in sums.items():
            setattr(self, name, getattr(self, name) + value)


class Float64Metric(SummedMetric):
    """A metric of floating point sums, which follow the module to another device but keep their dtype.

    ``module.to(torch.bfloat16)``, which is how Lightning's precision ``"bf16-true"`` starts, also turns the floating
    point states of the metrics inside the module into bfloat16, and a sum in bfloat16 stops growing after a few hundred
    samples. Here such a call, and ``set_dtype``, leave the dtype of the states alone.

    The sums are float64, which the MPS device lacks: keep these metrics on the CPU there.
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = "") -> nn.Module:
        return super()._apply(lambda tensor: tensor.to(fn(tensor).device), exclude_state)
