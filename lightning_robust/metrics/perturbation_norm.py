"""How far adversarial examples are from the inputs they were made of."""

import math
from typing import Any

import torch
from torch import Tensor

from lightning_robust._checks import number
from lightning_robust.metrics._checks import check_float, counted
from lightning_robust.metrics._sums import Float64Metric


def difference(start: Tensor, end: Tensor) -> Tensor:
    """``end - start``, one row per sample (N, d), in float32 at least: half precision inputs are widened first."""
    dtype = torch.promote_types(torch.promote_types(start.dtype, end.dtype), torch.float32)
    return (end.detach().to(dtype) - start.detach().to(dtype)).flatten(1)


def check_order(p: float) -> float:
    """Return ``p`` as a float, one of 1, 2 and infinity, or raise."""
    order = float(number("p", p, 1, finite=False))
    if order not in (1, 2, math.inf):
        raise ValueError(f"Expected argument `p` to be 1, 2 or float('inf'), but got {p!r}.")
    return order


def perturbation_norm(x: Tensor, x_adv: Tensor, p: float) -> Tensor:
    r"""The norm :math:`\|x_\text{adv} - x\|_p` of each sample, over all its entries.

    Args:
        x: Clean inputs or codes, floating point (N, ...).
        x_adv: Adversarial ones, of the same shape. In half precision the difference is taken in float32.
        p: 1, 2 or ``float("inf")``.

    Returns:
        The norms (N,), float32, or float64 where an input is.

    Example:
        >>> x = torch.zeros(2, 1, 2, 2)
        >>> x_adv = torch.tensor([[[[3.0, 0.0], [0.0, 4.0]]], [[[0.0, 0.0], [0.0, -2.0]]]])
        >>> perturbation_norm(x, x_adv, p=2)
        tensor([5., 2.])
    """
    order = check_order(p)
    check_float("x", x, ("N", "d", "..."))
    check_float("x_adv", x_adv, tuple(x.shape))
    return torch.linalg.vector_norm(difference(x, x_adv), ord=order, dim=1)


class PerturbationNorm(Float64Metric):
    r"""Mean and maximum of the norms :math:`\|x_\text{adv} - x\|_p` over the samples.

    The same for pixels, latent codes and affine parameters: a sample is a row of any shape. Units are those of the
    inputs.

    ``update`` takes

    - ``x`` float (N, ...): clean inputs or codes. Half precision is welcome, the norm is taken in float32.
    - ``x_adv`` float (N, ...): adversarial ones, of the same shape.
    - ``mask`` bool (N,), optional: the samples to count, for example the successful attacks.

    ``compute`` returns a dictionary of scalars; its keys start with ``l1``, ``l2`` or ``linf``

    - ``l2_mean``, ``l2_max`` float32: NaN where nothing was counted.
    - ``l2_count`` int64: the counted samples.

    Args:
        p: 1, 2 or ``float("inf")``.
        kwargs: Arguments of :class:`torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> from lightning_robust.metrics import PerturbationNorm
        >>> metric = PerturbationNorm(p=float("inf"))
        >>> x = torch.zeros(2, 1, 2, 2)
        >>> x_adv = torch.tensor([[[[0.1, 0.0], [0.0, 0.0]]], [[[0.0, 0.0], [0.2, -0.3]]]])
        >>> metric.update(x, x_adv)
        >>> metric.compute()
        {'linf_mean': tensor(0.2000), 'linf_max': tensor(0.3000), 'linf_count': tensor(2)}
    """

    higher_is_better = None

    order: Tensor
    norm_sum: Tensor
    norm_max: Tensor
    total: Tensor

    def __init__(self, p: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.p = check_order(p)
        # A constant among the states: a MetricCollection lets metrics whose states agree after the first batch share
        # them for good, and two orders do agree on a batch where one entry was moved, or none. It is the first state,
        # since torchmetrics 1.4 compares no other one.
        self.add_state("order", torch.tensor(self.p, dtype=torch.float64), dist_reduce_fx="max")
        self.add_state("norm_max", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="max")
        self.add_sums(norm_sum=torch.tensor(0.0, dtype=torch.float64), total=torch.tensor(0))

    def update(self, x: Tensor, x_adv: Tensor, mask: Tensor | None = None) -> None:
        """Take in a batch: ``x`` and ``x_adv`` float (N, ...), ``mask`` bool (N,)."""
        norms = perturbation_norm(x, x_adv, self.p).double()
        kept = counted(mask, len(norms), norms.device)
        norms = torch.where(kept, norms, 0.0)
        self.norm_max = torch.cat([self.norm_max[None], norms]).amax()
        self.accumulate(norm_sum=norms.sum(), total=kept.sum())

    def compute(self) -> dict[str, Tensor]:
        """Mean, maximum and count."""
        name = "linf" if self.p == math.inf else f"l{self.p:.0f}"
        return {
            f"{name}_mean": (self.norm_sum / self.total).float(),
            f"{name}_max": torch.where(self.total > 0, self.norm_max, torch.nan).float(),
            f"{name}_count": self.total,
        }
