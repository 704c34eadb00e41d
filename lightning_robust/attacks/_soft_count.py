"""A soft count of the positions that are wrong, for `dense_correct`, which counts positions."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lightning_robust.attacks.anchored import Anchored
from lightning_robust.attacks.dense import Dense, mean_where
from lightning_robust.attacks.gains import margin

_STEEPNESS = 4.0


@dataclass(frozen=True)
class _SoftCount:
    margins: Dense

    def __call__(self, logits: Tensor, anchor: tuple[Tensor, Any]) -> Tensor:
        scale, y = anchor
        values, counts = self.margins.values(logits, y)
        return mean_where(torch.sigmoid(_STEEPNESS * values / scale), counts)

    def check(self, logits: Tensor, anchor: tuple[Tensor, Any]) -> None:
        self.margins.check(logits, anchor[1])


@dataclass(frozen=True)
class _CleanMargins:
    margins: Dense

    def __call__(self, clean_logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        self.margins.check(clean_logits, y)
        scale = self.margins.values(clean_logits, y)[0].abs()
        return torch.where(scale.isfinite() & (scale > torch.finfo(scale.dtype).tiny), scale, 1.0), y


def soft_count(gain: Any) -> Anchored | None:
    r"""A gain for the labels of a dense one, :math:`\frac1P \sum_p \sigma(4\,m_p(x_{adv}) / |m_p(x)|)`.

    m: the margins of the P positions that count. A mean of margins may rise at a few positions without end, where the
    verdict counts each position once. Here each adds 0 to 1, in units of its own clean margin.

    Args:
        gain: What `dense` makes, which knows where the classes are; None is returned for others.
    """
    if not isinstance(gain, Dense):
        return None
    margins = replace(gain, gain=margin)
    return Anchored(_SoftCount(margins), _CleanMargins(margins))
