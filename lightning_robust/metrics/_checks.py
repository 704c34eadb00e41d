"""Checks of arguments that the metrics share: every error names the argument, the expectation and the value."""

import torch
from torch import Tensor

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


def check_labels(name: str, value: Tensor, n: int, num_classes: int) -> None:
    """Raise unless ``value`` is an integer tensor of shape (n,) with entries 0, ..., num_classes - 1."""
    integer = isinstance(value, Tensor) and value.dtype in INTEGERS
    if not (integer and has_sizes(value, (n,))):
        raise ValueError(
            f"Expected argument `{name}` to be an integer tensor of shape ({n},), but got {describe(value)}."
        )
    if n and not 0 <= int(value.min()) <= int(value.max()) < num_classes:
        raise ValueError(
            f"Expected argument `{name}` to hold labels from 0 to {num_classes - 1}, "
            f"but got labels from {int(value.min())} to {int(value.max())}."
        )


def check_count(name: str, value: int, least: int = 1) -> int:
    """Return ``value``, an integer of at least ``least``, or raise."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"Expected argument `{name}` to be an integer of at least {least}, but got {value!r}.")
    return value


def check_confidence(confidence: float) -> float:
    """Return ``confidence``, a number strictly between 0 and 1, or raise."""
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"Expected argument `confidence` to be strictly between 0 and 1, but got {confidence!r}.")
    return confidence


def counted(mask: Tensor | None, n: int, device: torch.device) -> Tensor:
    """The samples to count: the boolean ``mask`` (N,) where one is given, else all ``n``."""
    if mask is None:
        return torch.ones(n, dtype=torch.bool, device=device)
    check_bool("mask", mask, (n,))
    return mask
