"""Dense labels: when a sample counts as right, and the gain."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_robust import _checks
from lightning_robust.attacks._dense_labels import VOID, check_dense_labels, counted, dense_labels
from lightning_robust.attacks._gain import GainFn, check_plain_gain, check_value
from lightning_robust.attacks.gains import log_odds
from lightning_robust.attacks.labels import Correct


def _where(class_dim: Any, ignore_index: Any) -> tuple[int, int | None]:
    """The checked arguments of that name."""
    void = None if ignore_index is None else _checks.seed("ignore_index", ignore_index)
    return _checks.seed("class_dim", class_dim), void


@dataclass(frozen=True)
class _DenseCorrect:
    share: float
    class_dim: int
    ignore_index: int | None

    def __call__(self, logits: Tensor, y: Tensor) -> Tensor:
        check_dense_labels(logits, y, self.class_dim, self.ignore_index, "`dense_correct`")
        z, labels = dense_labels(logits, y, self.class_dim, "`dense_correct`")
        counts = counted(labels, self.ignore_index)
        hits = ((z.argmax(1) == labels) & counts).sum(1)
        return hits >= self.share * counts.sum(1)


def dense_correct(share: float = 1.0, *, class_dim: int = 1, ignore_index: int | None = VOID) -> Correct:
    """Are at least a share of the positions of a sample right? For segmentation and token classification.

    Robust accuracy then is the share of samples of which no attack brings the pixel (token) accuracy below `share`.

    Args:
        share: In [0, 1]; 1: every position must be right.
        class_dim: The dimension of the classes in the logits: 1 for (N, K, H, W), -1 for (N, T, K).
        ignore_index: The label of positions that do not count; None: all count. A sample of such positions alone is
            right.

    Returns:
        `(logits, y) -> (N,) bool`.

    Example:
        >>> logits = torch.tensor([[[3.0, 0.0], [3.0, 0.0]]])  # (N, T, K): class 0 twice
        >>> dense_correct(0.5, class_dim=-1)(logits, torch.tensor([[0, 1]]))
        tensor([True])
    """
    return _DenseCorrect(float(_checks.number("share", share, 0, 1)), *_where(class_dim, ignore_index))


def mean_where(values: Tensor, counts: Tensor) -> Tensor:
    """(N,) means of (N, P) values over the positions that count; 0 where none does."""
    return torch.where(counts, values, 0.0).sum(1) / counts.sum(1).clamp_min(1)


@dataclass(frozen=True)
class Dense:
    """A gain of class labels as one of dense labels, see `dense`."""

    gain: GainFn
    class_dim: int
    ignore_index: int | None

    def __call__(self, logits: Tensor, y: Tensor) -> Tensor:
        return mean_where(*self.values(logits, y))

    def values(self, logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The gain of each position, and which positions count, (N, P) both."""
        z, labels = dense_labels(logits, y, self.class_dim, "`dense`")
        counts = counted(labels, self.ignore_index)
        rows = z.transpose(1, 2).flatten(0, 1)  # (N P, K): every position is a sample
        value = self.gain(rows, torch.where(counts, labels, 0).flatten())
        check_value(value, len(rows))
        return value.reshape(labels.shape), counts

    def check(self, logits: Tensor, y: Any) -> None:
        check_dense_labels(logits, y, self.class_dim, self.ignore_index, "`dense`")


def dense(gain: GainFn = log_odds, *, class_dim: int = 1, ignore_index: int | None = VOID) -> GainFn:
    """A gain of class labels as one of dense labels: its mean over the positions of a sample that count.

    Args:
        gain: A gain of class labels, such as `log_odds`, `margin`, `cross_entropy`.
        class_dim: The dimension of the classes in the logits: 1 for (N, K, H, W), -1 for (N, T, K).
        ignore_index: The label of positions that do not count, such as 255; None: all count.

    Returns:
        `(logits, y) -> (N,)` for integer labels of the shape of the logits without their classes; in their place may be
        a dimension of one, as masks (N, 1, H, W) have it.

    Example:
        >>> from lightning_robust.attacks import margin
        >>> logits = torch.tensor([[[2.0, 0.0], [0.0, 1.0]]])  # (N, T, K)
        >>> dense(margin, class_dim=-1)(logits, torch.tensor([[0, -100]]))
        tensor([-2.])
    """
    return Dense(check_plain_gain(gain), *_where(class_dim, ignore_index))
