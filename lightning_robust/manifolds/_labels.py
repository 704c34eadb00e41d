"""Labels that choose what is a class's own."""

from typing import Any

import torch
from torch import Tensor

from lightning_robust._checks import instance


def own_class(y: Any, n: int, num_classes: int, device: torch.device) -> Tensor:
    """The class of each of N samples: int64 of shape (N,), all 0 where there is one class.

    Raises:
        ValueError: if a label is no integer in 0, ..., K - 1, or there are not N of them.

    Example:
        >>> own_class(torch.tensor([3, 7]), 2, 1, torch.device("cpu"))
        tensor([0, 0])
    """
    if num_classes == 1:
        return torch.zeros(n, dtype=torch.int64, device=device)
    instance("y", y, Tensor, "a tensor (N,) of labels")
    fits = y.shape == (n,) and not y.is_floating_point()
    # Values are looked at wherever they can be: no graph of `torch.compile` can, and what it belongs to has done so.
    if not fits or not (torch.compiler.is_compiling() or bool(((y >= 0) & (y < num_classes)).all())):
        got = f"{int(y.min())} to {int(y.max())}" if fits else f"{y.dtype} of shape {(*y.shape,)}"
        raise ValueError(
            f"Expected argument `y` to be labels of shape ({n},) from 0 to {num_classes - 1}, but got {got}."
        )
    return y.long()
