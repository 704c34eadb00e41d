"""Whether a model answers as it did: a number for each output, kept in the ledger, and compared when asked again."""

from collections.abc import Callable

import torch
from torch import Tensor

from lightning_robust._nested import plain
from lightning_robust.attacks._tensors import wide

_FINE, _COARSE = 0.05, 0.1
"""Shares of an output that rounding changes at most, in another type or on another processor; of half precision."""

_OWN = 4.0
"""So much more than by its place in a batch a model has to differ that answers at random, or by its company there."""


def numbers_of(output: Tensor) -> Tensor:
    """(N,) a number for each output: a sum of its entries with fixed weights, to which a constant that is added to all
    entries adds nothing.

    Args:
        output: (N, ...) float.

    Example:
        >>> numbers_of(torch.tensor([[0.0, 0.0], [1.0, 0.0], [2.0, 1.0]])).tolist()
        [0.0, 0.47..., 0.47...]
    """
    flat = _flat(output)
    weights = torch.arange(1, flat.shape[1] + 1, dtype=torch.float64).cos()
    weights = weights - weights.mean() if len(weights) > 1 else weights
    return (flat * weights.to(flat.dtype).to(flat.device)).sum(1)


def other_outputs(before: Tensor, output: Tensor, elsewhere: Callable[[], Tensor], *, half: bool = False) -> int:
    """How many outputs are others than before, beyond rounding and, of a random model, beyond its own spread.

    Args:
        before: (N,) what `numbers_of` gave; NaN: not known.
        output: (N, ...) the outputs now.
        elsewhere: Gives them for the same inputs at other places of a batch, in other company. Asked if it matters.
        half: Does the model compute in half precision?
    """
    flat, now = _flat(output), numbers_of(output)
    size = (flat.var(1, correction=0) * flat.shape[1]).sqrt() if flat.shape[1] > 1 else flat[:, 0].abs()
    share = _COARSE if half or output.element_size() < 4 else _FINE
    allowed = share * torch.maximum(size, size.nanmedian())
    moved = (now - before.to(now)).abs()
    if not bool((moved > allowed).any()):
        return 0
    spread = (numbers_of(elsewhere()) - now).square().nanmean().sqrt()
    return int((moved > torch.maximum(allowed, _OWN * spread)).sum())


def other_verdicts(before: Tensor, right: Tensor, elsewhere: Callable[[], Tensor]) -> int:
    """How many samples are right in one and wrong in the other, beyond those that turn when asked again elsewhere.

    Args:
        before: (N,) bool: which were right.
        right: (N,) bool: which are right now.
        elsewhere: Gives it for the same inputs at other places of a batch, in other company. Asked if it matters.
    """
    turned = int((before != right).sum())
    return max(0, turned - int(_OWN * int((elsewhere() != right).sum()))) if turned else 0


def _flat(output: Tensor) -> Tensor:
    """(N, D) at least in float32."""
    return wide(plain(output).detach().reshape(len(output), -1))
