"""Numbers that come in as a list, an array or a tensor, made plain and checked."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Numbers = Sequence[float] | Tensor
"""A list, tuple or one-dimensional tensor of numbers."""


def finite(name: str, values: Sequence[float] | Sequence[Sequence[float]] | Tensor, letters: str) -> Tensor:
    """``values`` as float64 on the CPU, after checking that it has one dimension for each letter and is finite.

    Args:
        name: how the caller calls the argument; for errors.
        values: a list, a list of lists, or a tensor on any device.
        letters: a letter for each dimension, such as ``"N"`` or ``"AB"``.

    Raises:
        ValueError: if ``values`` has another number of dimensions, is empty, or holds NaN or infinity.

    Example:
        >>> finite("x", [1, 2.5], "N")
        tensor([1.0000, 2.5000], dtype=torch.float64)
    """
    plain = shaped(name, values, letters)
    bad = plain[~plain.isfinite()]
    if bad.numel():
        raise ValueError(f"Expected argument `{name}` to be finite, but got {bad[0].item()}.")
    return plain


def shaped(name: str, values: Sequence[float] | Sequence[Sequence[float]] | Tensor, letters: str) -> Tensor:
    """Like `finite`, but NaN and infinity pass."""
    if isinstance(values, Tensor):
        plain = values.detach().cpu().to(torch.float64)  # on the CPU first: not every device has float64
    else:
        try:
            plain = torch.as_tensor(values, dtype=torch.float64)
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(f"Expected argument `{name}` to be numbers, but got {values!r}.") from error
    if plain.ndim != len(letters) or plain.numel() == 0:
        shape = f"({', '.join(letters)}{',' * (len(letters) == 1)})"
        raise ValueError(f"Expected argument `{name}` to have shape {shape}, none 0, but got {tuple(plain.shape)}.")
    return plain
