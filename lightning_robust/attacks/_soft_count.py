"""Soft counts of the positions that are wrong, for `dense_correct`, which counts positions."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lightning_robust.attacks.anchored import Anchored
from lightning_robust.attacks.dense import Dense, mean_where
from lightning_robust.attacks.gains import margin

_STEEPNESS = (8.0, 32.0, 16.0, 16.0, 4.0, 64.0)
"""In turn of units of its own clean margin for each position, and of one unit for all positions of a sample."""


@dataclass(frozen=True)
class _SoftCount:
    margins: Dense
    steepness: float

    def __call__(self, logits: Tensor, anchor: tuple[Tensor, Any]) -> Tensor:
        scale, y = anchor
        values, counts = self.margins.values(logits, y)
        return mean_where(torch.sigmoid(self.steepness * values / scale), counts)

    def check(self, logits: Tensor, anchor: tuple[Tensor, Any]) -> None:
        self.margins.check(logits, anchor[1])


@dataclass(frozen=True)
class _CleanMargins:
    """(N, P) the sizes of the clean margins, or their mean over the positions (N, 1); and the labels."""

    margins: Dense
    mean: bool

    def __call__(self, clean_logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        self.margins.check(clean_logits, y)
        values, counts = self.margins.values(clean_logits, y)
        scale = mean_where(values.abs(), counts)[:, None] if self.mean else values.abs()
        return torch.where(scale.isfinite() & (scale > torch.finfo(scale.dtype).tiny), scale, 1.0), y


def soft_counts(gain: Any) -> tuple[Anchored, ...]:
    r"""Gains for the labels of a dense one, :math:`\frac1P \sum_p \sigma(a\,m_p(x_{adv}) / s_p)`.

    m: the margins of the P positions that count. A mean of margins may rise at a few positions without end, where the
    verdict counts each position once. Here each adds 0 to 1. The unit is :math:`s_p = |m_p(x)|`, which finds more where
    positions have logits of different scales, or the mean of these over the positions, which finds more where they have
    not. A small steepness a pulls at all positions, a large one at those near their boundary.

    Args:
        gain: What `dense` makes, which knows where the classes are; there is none for others.
    """
    if not isinstance(gain, Dense):
        return ()
    margins = replace(gain, gain=margin)
    return tuple(
        Anchored(_SoftCount(margins, steepness), _CleanMargins(margins, mean=number % 2 == 1))
        for number, steepness in enumerate(_STEEPNESS)
    )
