"""What a gain is: a function `(logits, y) -> (N,)`, and the attributes that it may have."""

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lightning_robust import _checks
from lightning_robust.attacks._tensors import column
from lightning_robust.attacks.labels import check_class_labels, finite

GainFn = Callable[[Tensor, Any], Any]
"""`(logits, y) -> (N,)`; `Any` for a tensor, as in all types of functions here that a configuration file may name:
LightningCLI reads a class in this place as "makes objects of this class" and refuses functions without annotations."""

BROKEN = 1e30
"""The gain of a sample for which the model answers NaN or infinity: it has lost. Finite, so that means stay finite."""


def check_gain(gain: Any, logits: Tensor, y: Any) -> None:
    """Refuse labels that the gain does not take, if it says which: a method or attribute `check(logits, y)`."""
    check = getattr(gain, "check", None)
    if check is not None:
        check(logits, y)


def anchor_of(gain: Any) -> Callable[[Tensor, Any], Any] | None:
    """`(clean_logits, y) -> anchor` of an anchored gain, which takes the anchor in place of labels; else None."""
    return getattr(gain, "anchor", None)


def check_plain_gain(gain: Any) -> GainFn:
    """Refuse what is no gain of labels."""
    if anchor_of(gain) is not None:
        raise TypeError(
            f"Expected argument `gain` to be a function (logits, y) -> (N,) such as margin, but got {gain!r}."
        )
    return _checks.function("gain", gain, "(logits, y) -> (N,)")


def check_value(value: Any, n: int) -> None:
    """Refuse what is not one number per sample."""
    if not isinstance(value, Tensor) or value.shape != (n,):
        got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(
            f"Expected the gain to give one number per sample, shape (N,) with N={n}, but got {got}. A loss wants "
            "reduction='none', and a mean over all dimensions but the first."
        )


def gain_of(gain: GainFn, logits: Tensor, y: Any) -> Tensor:
    """The gain of each sample (N,), or an error where it gives something else.

    Where a logit is NaN or infinite it is `BROKEN`, without a gradient: the gain is not asked there.
    """
    whole = finite(logits)
    value = gain(torch.where(column(whole, logits), logits, 0.0), y)
    check_value(value, len(logits))
    return torch.where(whole, value, BROKEN)


Slope = Callable[[Tensor, Any], tuple[Tensor, Tensor] | None]
"""`(logits, y) -> (gain, gradient)`, (N,) and (N, K), of finite logits without autograd; None: not for such labels."""


def with_slope(gain: GainFn, slope: Slope) -> None:
    """Say what the gradient of a gain with respect to the logits is, in closed form; the loop then needs no autograd
    between the logits and the gain. It is the gradient of autograd, bit for bit.
    """
    gain.slope = gain, slope  # type: ignore[attr-defined]


def _own(gain: GainFn, name: str) -> Any:
    """What a gain says of itself: `functools.wraps` copies attributes to functions that do something else."""
    whose, value = getattr(gain, name, (None, None))
    return value if whose is gain else None


def _known_finite(logits: Tensor) -> bool:
    """Are all logits finite, and known to be at no cost? On a CPU; a sum that is finite has finite terms."""
    return logits.device.type == "cpu" and not torch.compiler.is_compiling() and math.isfinite(logits.detach().sum())


def gain_in_loop(gain: GainFn, logits: Tensor, y: Any) -> Tensor:
    """The same as `gain_of`, with less work where all logits are known to be finite."""
    if not _known_finite(logits):
        return gain_of(gain, logits, y)
    value = (_own(gain, "of_finite") or gain)(logits.clone(), y)  # a gain may write to what it is given
    check_value(value, len(logits))
    return value


def slope_of(gain: GainFn, logits: Tensor, y: Any) -> tuple[Tensor, Tensor] | None:
    """The gain, (N,), as `gain_of`, and its gradient with respect to the logits, (N, K); None where the gain does not
    know it in closed form.
    """
    slope: Slope | None = _own(gain, "slope")
    if slope is None or _known_finite(logits):
        return None if slope is None else slope(logits, y)
    whole = finite(logits)
    rows = column(whole, logits)
    known = slope(torch.where(rows, logits, 0.0), y)
    return None if known is None else (torch.where(whole, known[0], BROKEN), torch.where(rows, known[1], 0.0))


def of_classes(gain: GainFn) -> GainFn:
    """Mark a gain of class labels: their values are checked once for each batch.

    The gain is asked for finite logits alone; where one is NaN or infinite, the model has lost, and the gain is 1e30.

    Example:
        >>> import torch
        >>> from lightning_robust.attacks import class_labels, of_classes
        >>> @of_classes
        ... def wrong_probability(logits, y):
        ...     return 1 - logits.softmax(1).gather(1, class_labels(logits, y)[:, None])[:, 0]
        >>> wrong_probability(torch.zeros(1, 4), torch.tensor([2]))
        tensor([0.7500])
    """

    @functools.wraps(gain)
    def marked(logits: Tensor, y: Any) -> Tensor:
        return gain_of(gain, logits, y)

    def check(logits: Tensor, y: Any) -> None:
        check_class_labels(logits, y, f"the gain `{gain.__name__}`")

    marked.check, marked.of_finite = check, (marked, gain)  # type: ignore[attr-defined]
    return marked
