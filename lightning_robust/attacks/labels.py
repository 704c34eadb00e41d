r"""What labels mean, and when a sample counts as right.

Class labels, which every gain of this package and `classified` take, are

- (N,) integers of any integer type, in [0, K) for K >= 2 logits (N, K);
- (N, 1) integers, the same with a dimension of one;
- (N, K) probabilities: floats, rows that are not negative and sum to 1, as Mixup and CutMix make them. A gain of
  probabilities is the expected gain, :math:`\sum_k q_k\,G(z, k)`; a sample is right if the most likely class is the
  predicted one.

Any other labels belong to the gain and to a function `correct`: see `binary.py` for one logit and for several yes/no
labels, `dense.py` for labels of positions.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from lightning_robust._nested import plain

Correct = Callable[[Tensor, Any], Any]
"""`(output, y) -> (N,) bool`: for each sample, is the model's output right? Why `Any`, see `GainFn`."""


UNSIGNED = (torch.uint16, torch.uint32, torch.uint64)
"""Types that torch can store, and not compute with."""

_SIGNED = (torch.int8, torch.int16, torch.int32, torch.int64)


def are_integers(y: Tensor) -> bool:
    """Is it a tensor of integers, booleans not counted?"""
    return y.dtype in (*_SIGNED, *UNSIGNED, torch.uint8)


def are_class_labels(logits: Tensor, y: Any) -> bool:
    """Have logits and labels the types and shapes of K-way classification? The values are not looked at."""
    if not isinstance(y, Tensor) or logits.ndim != 2 or logits.shape[1] < 2 or len(logits) != y.shape[:1].numel():
        return False
    if are_integers(y):
        return y.ndim == 1 or (y.ndim == 2 and y.shape[1] == 1)
    return y.is_floating_point() and y.shape == logits.shape


def class_labels(logits: Tensor, y: Any, who: str = "this") -> Tensor:
    """The labels as (N,) int64 or as probabilities (N, K).

    Args:
        logits: (N, K), K >= 2.
        y: Class labels; labels of another kind are refused with the gain and the `correct` that belong to them.
        who: What needs them, for the error.
    """
    if not are_class_labels(logits, y):
        raise ValueError(_refusal(logits, y, who))
    if are_integers(y):
        return y.reshape(-1).long()
    return y.to(torch.promote_types(logits.dtype, torch.float32))


def check_class_labels(logits: Tensor, y: Any, who: str = "this") -> None:
    """Refuse labels that are not in [0, K), and rows that are no probabilities. Waits for the device once."""
    labels, classes = class_labels(logits, y, who), logits.shape[1]
    if labels.ndim == 1:
        low, high = (int(v) for v in torch.stack(labels.aminmax()).tolist())
        if low < 0:
            raise ValueError(
                f"Expected labels to be at least 0, but got {low}. If it marks samples that do not count, leave them "
                "out of the batch, or write a gain that ignores them."
            )
        if high >= classes:
            raise ValueError(
                f"Expected labels to be less than the number of classes, {classes}, but got {high}. Is the last layer "
                "too small, or do the labels start at 1?"
            )
    elif not bool(_are_probabilities(labels).all()):
        row = [round(v, 3) for v in labels[~_are_probabilities(labels)][0].tolist()[:8]]
        raise ValueError(
            f"Expected float labels of shape (N, K) to be probabilities, rows that are not negative and sum to 1, but "
            f"got the row {row}. {_YES_NO} {_OWN}"
        )


def _are_probabilities(y: Tensor) -> Tensor:
    """(N,) bool; 1 % off for the rounding of half precision."""
    return (y >= 0).all(1) & ((y.sum(1) - 1).abs() <= 1e-2)


_YES_NO = (
    "For yes/no labels (one logit, or several labels per sample) say gain=binary_margin in the attack and "
    "correct=binary_correct in the callback or the call."
)
_OWN = (
    "For labels of another kind, such as regression targets, write a gain (output, y) -> (N,), and say what is right "
    "in the callback or the call: correct=(output, y) -> (N,) bool."
)
_DENSE = (
    "For dense labels say gain=dense(log_odds) in the attack, or dense(log_odds, class_dim=-1) if the classes come "
    "last, and correct=dense_correct(...) alike in the callback or the call."
)


def _refusal(logits: Tensor, y: Any, who: str) -> str:
    """What is wrong with labels that are no class labels, and what to do."""
    wanted = f"Expected class labels for {who}, integers (N,) with logits (N, K), K >= 2"
    if not isinstance(y, Tensor):
        convert = "" if y is None else " If they are classes, make them a tensor: torch.as_tensor(y)."
        return f"{wanted}, but got labels of type {type(y).__name__}.{convert} {_OWN}"
    got = f"but got labels {str(y.dtype).removeprefix('torch.')} {tuple(y.shape)} and logits {tuple(logits.shape)}"
    if y.ndim == 0 or len(y) != len(logits):
        return f"Expected one label per input (N={len(logits)}), {got}."
    if logits.ndim == 1 or (logits.ndim == 2 and logits.shape[1] == 1):
        return f"{wanted}, {got}: one logit. {_YES_NO} {_OWN}"
    if logits.ndim > 2 and y.ndim == 1:
        pooled = "Flatten the output" if logits[0, 0].numel() == 1 else "Pool the output to one position"
        return f"{wanted}, {got}. {pooled}: forward=lambda module, batch: module(batch[0]).flatten(2).mean(2)."
    if logits.ndim > 2:
        return f"{wanted}, {got}. {_DENSE}"
    if y.ndim == 1:
        return f"{wanted}, {got}. Convert class indices with y.long(). {_OWN}"
    if are_integers(y) or y.dtype == torch.bool:
        return f"{wanted}, {got}. Where one class is marked in each row, take y.argmax(1). {_YES_NO}"
    return f"{wanted}, {got}. {_OWN}"


ROWS = (
    "Each input has one output and one label. Where the model makes one output of several rows, such as crops or "
    "frames of a sample, collate inputs of shape (N, rows, ...), and flatten them for it: "
    "forward=lambda module, batch: module(batch[0].flatten(0, 1))."
)
"""What to do where inputs, outputs and labels are not the same number."""


def check_output(output: Any, n: int) -> None:
    """Refuse what is not the output of a model for `n` samples."""
    if not isinstance(output, Tensor):
        raise TypeError(
            f"Expected the model to return logits, a tensor (N, K), but got {type(output).__name__}. "
            "Say how to get them: forward=lambda module, batch: module(batch[...]).logits"
        )
    if not output.is_floating_point():
        raise TypeError(
            f"Expected the model to return logits, floats, but got {output.dtype}. Does `forward` return predicted "
            "classes? Say how to get the logits: forward=lambda module, batch: ..."
        )
    if output.ndim == 0 or len(output) != n:
        raise ValueError(f"Expected logits of shape (N, K) with N={n}, but got {tuple(output.shape)}. {ROWS}")


def classified(logits: Tensor, y: Tensor) -> Tensor:
    """Is the largest logit (N, K) that of the label, (N,) bool? The default where labels are class labels.

    Example:
        >>> classified(torch.tensor([[2.0, 0.0], [2.0, 0.0]]), torch.tensor([0, 1]))
        tensor([ True, False])
    """
    check_class_labels(logits, y, "`classified`, which says what is right")
    labels = class_labels(logits, y)
    return logits.argmax(1) == (labels if labels.ndim == 1 else labels.argmax(1))


def finite(output: Tensor) -> Tensor:
    """(N,) bool: is the whole output of a sample finite?"""
    return plain(output).reshape(len(output), -1).isfinite().all(1)


def judged(correct: Correct | None, output: Any, y: Any) -> Tensor:
    """(N,) bool: which samples are right, by `correct` or `classified`.

    A model that answers NaN or infinity has lost, whatever the labels are. Errors name an output, labels or a result of
    `correct` that is of the wrong kind.
    """
    if isinstance(y, Tensor) and y.ndim:
        check_output(output, len(y))
    right = (classified if correct is None else correct)(output, y)
    if not isinstance(right, Tensor) or right.shape != (len(output),) or right.dtype != torch.bool:
        got = f"{right.dtype} {tuple(right.shape)}" if isinstance(right, Tensor) else type(right).__name__
        raise ValueError(
            f"Expected `correct` to return a bool tensor of shape (N,) with N={len(output)}, but got {got}."
        )
    return right.as_subclass(Tensor) & finite(output)


@contextmanager
def unwritten(y: Any) -> Iterator[None]:
    """Refuse gains and functions `correct` that write to the labels, which are the user's."""
    version = y._version if isinstance(y, Tensor) and not y.is_inference() else None
    yield
    if version is not None and y._version != version:
        raise ValueError(
            "Expected the gain and `correct` to leave the labels as they are, but the labels were written to. Work on "
            "a copy, such as y.masked_fill(y == 255, 0)."
        )


Judge = Callable[[Tensor], Tensor]
"""`output -> (N,) bool`: which samples of a batch an attack has fooled."""


def judge_of(correct: Correct | None, output: Tensor, y: Any) -> Judge | None:
    """How an attack knows that it has succeeded on a batch; None: it cannot know, and raises the gain as far as it can.

    Without `correct`, samples with class labels are fooled when another class is predicted. A sample whose label is no
    class (out of range, or a row that is no distribution) is not: there a gain of one's own decides alone. `output` is
    the first of the batch: its shape tells the kind of labels.
    """
    if correct is not None:
        return lambda output: ~judged(correct, output, y)
    if not are_class_labels(output, y):
        return None
    labels = class_labels(output, y)
    if labels.ndim == 1:
        known, target = (labels >= 0) & (labels < output.shape[1]), labels
    else:
        known, target = _are_probabilities(labels), labels.argmax(1)
    return lambda output: (known & (output.argmax(1) != target)).as_subclass(Tensor) | ~finite(output)
