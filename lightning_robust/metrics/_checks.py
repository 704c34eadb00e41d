"""Checks of tensors that the metrics share."""

import numpy as np
import torch
from torch import Tensor

from lightning_robust._checks import number

Sizes = tuple[int | str, ...]
"""The sizes of a tensor: a number is required as it is, a letter is free, ``"..."`` at the end is any more sizes."""

INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def describe(value: object) -> str:
    """What a value is, for the end of an error message: dtype and shape of a tensor, else type and value."""
    if isinstance(value, Tensor):
        return f"a {str(value.dtype).removeprefix('torch.')} tensor of shape {tuple(value.shape)}"
    return f"{type(value).__name__} {value!r}"


def has_sizes(value: Tensor, sizes: Sizes) -> bool:
    """Whether the shape of ``value`` agrees with ``sizes``."""
    fixed = sizes[:-1] if sizes[-1] == "..." else sizes
    if len(fixed) > value.ndim or (len(fixed) < value.ndim and fixed == sizes):
        return False
    return all(isinstance(size, str) or size == n for size, n in zip(fixed, value.shape, strict=False))


def _written(sizes: Sizes) -> str:
    return f"({', '.join(map(str, sizes))}{',' if len(sizes) == 1 else ''})"


def check_bool(name: str, value: Tensor, sizes: Sizes) -> None:
    """Raise unless ``value`` is a boolean tensor of these sizes."""
    if not (isinstance(value, Tensor) and value.dtype == torch.bool and has_sizes(value, sizes)):
        raise ValueError(
            f"Expected argument `{name}` to be a boolean tensor of shape {_written(sizes)}, but got {describe(value)}."
        )


def check_float(name: str, value: Tensor, sizes: Sizes) -> None:
    """Raise unless ``value`` is a floating point tensor of these sizes."""
    if not (isinstance(value, Tensor) and value.is_floating_point() and has_sizes(value, sizes)):
        raise ValueError(
            f"Expected argument `{name}` to be a floating point tensor of shape {_written(sizes)}, "
            f"but got {describe(value)}."
        )


def check_integers(name: str, value: Tensor, n: int) -> None:
    """Raise unless ``value`` is an integer tensor of shape (n,)."""
    integer = isinstance(value, Tensor) and value.dtype in INTEGERS
    if not (integer and has_sizes(value, (n,))):
        raise ValueError(
            f"Expected argument `{name}` to be an integer tensor of shape ({n},), but got {describe(value)}."
        )


def check_labels(name: str, value: Tensor, n: int, num_classes: int) -> None:
    """Raise unless ``value`` is an integer tensor of shape (n,) with entries 0, ..., num_classes - 1."""
    check_integers(name, value, n)
    if n and not 0 <= int(value.min()) <= int(value.max()) < num_classes:
        raise ValueError(
            f"Expected argument `{name}` to hold labels from 0 to {num_classes - 1}, "
            f"but got labels from {int(value.min())} to {int(value.max())}."
        )


def coverage(confidence: float) -> float:
    """Return the nominal coverage of an interval, a number strictly between 0 and 1, or raise."""
    return number("confidence", confidence, 0, 1, above=True, below=True)


def amounts(name: str, value: float | Tensor) -> Tensor:
    """Return a number or a tensor of numbers, none of them negative, in float64, or raise."""
    numbers = torch.as_tensor(value if isinstance(value, Tensor | np.ndarray) else number(name, value)).double()
    if not bool((numbers >= 0).all()):  # false for NaN too
        raise ValueError(f"Expected argument `{name}` to be at least 0, but got {value}.")
    return numbers


def counted(mask: Tensor | None, n: int, device: torch.device) -> Tensor:
    """The samples to count: the boolean ``mask`` (N,) where one is given, else all ``n``."""
    if mask is None:
        return torch.ones(n, dtype=torch.bool, device=device)
    check_bool("mask", mask, (n,))
    return mask
