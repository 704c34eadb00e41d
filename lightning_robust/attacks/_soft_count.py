"""A soft count of the positions that are wrong, for `dense_correct`, which counts positions."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_robust.attacks._dense_labels import check_dense_labels, counted, dense_labels
from lightning_robust.attacks.anchored import Anchored
from lightning_robust.attacks.dense import _Dense

_STEEPNESS = 4.0


@dataclass(frozen=True)
class _Margins:
    """The margins of all positions, and which positions count, (N, P) both."""

    class_dim: int
    ignore_index: int | None

    def __call__(self, logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        z, labels = dense_labels(logits, y, self.class_dim, "`dense`")
        counts = counted(labels, self.ignore_index)
        own = torch.where(counts, labels, 0)[:, None]
        highest = z.scatter(1, own, -torch.inf).amax(1)
        return highest - z.gather(1, own)[:, 0], counts


@dataclass(frozen=True)
class _SoftCount:
    margins: _Margins

    def __call__(self, logits: Tensor, anchor: tuple[Tensor, Any]) -> Tensor:
        scale, y = anchor
        values, counts = self.margins(logits, y)
        share = torch.where(counts, torch.sigmoid(_STEEPNESS * values / scale), 0.0)
        return share.sum(1) / counts.sum(1).clamp_min(1)

    def check(self, logits: Tensor, anchor: tuple[Tensor, Any]) -> None:
        check_dense_labels(logits, anchor[1], self.margins.class_dim, self.margins.ignore_index, "`dense`")


@dataclass(frozen=True)
class _CleanMargins:
    margins: _Margins

    def __call__(self, clean_logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        check_dense_labels(clean_logits, y, self.margins.class_dim, self.margins.ignore_index, "`dense`")
        scale = self.margins(clean_logits, y)[0].abs()
        return torch.where(scale.isfinite() & (scale > torch.finfo(scale.dtype).tiny), scale, 1.0), y


def soft_count(gain: Any) -> Anchored | None:
    r"""A gain for the labels of a dense one, :math:`\frac1P \sum_p \sigma(4\,m_p(x_{adv}) / |m_p(x)|)`.

    m: the margins of the P positions that count. A mean of margins may rise at a few positions without end, where the
    verdict counts each position once. Here each adds 0 to 1, in units of its own clean margin.

    Args:
        gain: What `dense` makes, which knows where the classes are; None is returned for others.
    """
    if not isinstance(gain, _Dense):
        return None
    margins = _Margins(gain.class_dim, gain.ignore_index)
    return Anchored(_SoftCount(margins), _CleanMargins(margins))
