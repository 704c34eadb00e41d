"""Small operations on tensors and frozen dataclasses that all attacks share."""

from typing import Any

import torch
from torch import Tensor


def wide(x: Tensor) -> Tensor:
    """The tensor in float32 or float64: half precision is widened."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def column(values: Tensor, like: Tensor) -> Tensor:
    """One value per sample, (N,), as (N, 1, ...), which broadcasts against `like` (N, ...)."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def dims(x: Tensor) -> tuple[int, ...]:
    """All dimensions of (N, ...) but the first."""
    return tuple(range(1, x.ndim))


def set_fields(instance: Any, **values: Any) -> None:
    """Give fields of a frozen dataclass their checked values, from `__post_init__`."""
    for name, value in values.items():
        object.__setattr__(instance, name, value)
