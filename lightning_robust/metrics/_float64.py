"""A base for metrics whose states are floating point sums."""

from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torchmetrics import Metric


class Float64Metric(Metric):
    """A metric whose states follow the module to another device, but keep their dtype.

    ``module.to(torch.bfloat16)``, which is how Lightning's precision ``"bf16-true"`` starts, also turns the floating
    point states of the metrics inside the module into bfloat16, and a sum in bfloat16 stops growing after a few hundred
    samples. Here such a call, and ``set_dtype``, leave the dtype of the states alone.

    The sums are float64, which the MPS device lacks: keep these metrics on the CPU there.
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = "") -> nn.Module:
        return super()._apply(lambda tensor: tensor.to(fn(tensor).device), exclude_state)
