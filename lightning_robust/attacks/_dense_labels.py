"""Dense labels: one for every position of a sample, as in segmentation and token classification."""

from typing import Any

import torch
from torch import Tensor

from lightning_robust.attacks.labels import are_integers

VOID = -100
"""The label of positions that do not count, as in torch's cross entropy."""


def dense_labels(logits: Tensor, y: Any, class_dim: int, who: str) -> tuple[Tensor, Tensor]:
    """Dense logits and labels with the positions in one dimension: (N, K, P) and (N, P).

    Args:
        logits: (N, ..., K, ...), the classes in dimension `class_dim`.
        y: (N, ...) integers, one for each position; where `logits` have the classes they may have a dimension of one.
        class_dim: The dimension of the classes.
        who: What needs them, for the error.
    """
    if isinstance(y, Tensor) and are_integers(y) and logits.ndim >= 3 and -logits.ndim <= class_dim < logits.ndim:
        moved = logits.movedim(class_dim, 1)
        if y.ndim == logits.ndim and y.shape[class_dim] == 1:
            y = y.squeeze(class_dim)
        if moved.shape[:1] + moved.shape[2:] == y.shape and moved.shape[1] >= 2:
            return moved.flatten(2), y.flatten(1).long()
    hint = " Convert class indices with y.long()." if isinstance(y, Tensor) and not are_integers(y) else ""
    got = f"{y.dtype} {tuple(y.shape)}" if isinstance(y, Tensor) else type(y).__name__
    raise ValueError(
        f"Expected an integer label for every position for {who}, of the shape of the logits without their dimension "
        f"{class_dim}, the classes, or with 1 there, but got labels {got} and logits {tuple(logits.shape)}. Say where "
        f"the classes are: class_dim=1 for images (N, K, H, W), class_dim=-1 for sequences (N, T, K).{hint}"
    )


def counted(labels: Tensor, ignore_index: int | None) -> Tensor:
    """Bool, of the shape of the labels: which positions count?"""
    return torch.ones_like(labels, dtype=torch.bool) if ignore_index is None else labels != ignore_index


def check_dense_labels(logits: Tensor, y: Any, class_dim: int, ignore_index: int | None, who: str) -> None:
    """Refuse labels that are neither classes nor `ignore_index`. Waits for the device once."""
    z, labels = dense_labels(logits, y, class_dim, who)
    wrong = counted(labels, ignore_index) & ((labels < 0) | (labels >= z.shape[1]))
    if bool(wrong.any()):
        raise ValueError(
            f"Expected labels to be in [0, {z.shape[1]}), or {ignore_index} where a position does not count, but got "
            f"{int(labels[wrong][0])}. Say which value is void: ignore_index={int(labels[wrong][0])}."
        )
