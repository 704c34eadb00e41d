"""Checks of manifolds, images and labels."""

from typing import Any

import torch
from torch import Tensor

from lightning_robust._checks import instance
from lightning_robust.manifolds._pixels import ROUNDING


def check_manifold(name: str, value: Any) -> None:
    """Raise unless `value` has the methods of a manifold."""
    for method in ("encode", "decode"):
        if isinstance(value, type) or not callable(getattr(value, method, None)):
            got = f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
            raise TypeError(f"Expected argument `{name}` to have a method `{method}`, but got {got}.")


def check_images(name: str, value: Any) -> None:
    """Raise unless `value` is a tensor with at least one image."""
    if not len(instance(name, value, Tensor, "a tensor (N, C, H, W)")):
        raise ValueError(f"Expected argument `{name}` to hold at least one image, but got none.")


def check_range(name: str, value: Tensor) -> None:
    """Raise unless the pixels of images lie in [0, 1], up to rounding."""
    low, high = (float(end) for end in value.detach().aminmax()) if value.numel() else (0.0, 1.0)
    if not (low >= -ROUNDING and high <= 1 + ROUNDING):  # NaN too
        raise ValueError(
            f"Expected argument `{name}` to be images in [0, 1], to which this manifold cuts, but got values from "
            f"{low:.4g} to {high:.4g}. Normalized images: make the normalization the first layer of the model instead."
        )


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
