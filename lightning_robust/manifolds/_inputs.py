"""Checks of manifolds, images and labels."""

from typing import Any

import torch
from torch import Tensor

from lightning_robust._checks import instance


def check_manifold(name: str, value: Any) -> None:
    """Raise unless `value` has the methods of a manifold."""
    for method in ("encode", "decode"):
        if isinstance(value, type) or not callable(getattr(value, method, None)):
            raise TypeError(f"Expected argument `{name}` to have a method `{method}`, but got {value!r}.")


def check_images(name: str, value: Any) -> None:
    """Raise unless `value` is a tensor with at least one image."""
    if not len(instance(name, value, Tensor, "a tensor (N, C, H, W)")):
        raise ValueError(f"Expected argument `{name}` to hold at least one image, but got none.")


def check_labels(name: str, value: Any, n: int, num_classes: int) -> None:
    """Raise unless `value` is int64 of shape (n,) with labels from 0 to `num_classes` - 1."""
    instance(name, value, Tensor, f"an int64 tensor of shape ({n},)")
    if value.shape != (n,) or value.dtype != torch.int64:
        raise ValueError(
            f"Expected argument `{name}` to be int64 of shape ({n},), but got {value.dtype} {tuple(value.shape)}."
        )
    if n and not 0 <= int(value.min()) <= int(value.max()) < num_classes:
        raise ValueError(
            f"Expected argument `{name}` to hold labels from 0 to {num_classes - 1}, "
            f"but got labels from {int(value.min())} to {int(value.max())}."
        )
