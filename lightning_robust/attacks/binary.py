"""Yes/no labels: when a sample counts as right, and the gains. One logit, or several labels per sample."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def yes_no_labels(logits: Tensor, y: Any, who: str) -> tuple[Tensor, Tensor]:
    """Logits and labels of yes/no questions, both (N, L): one logit has L = 1.

    Args:
        logits: (N,) or (N, L).
        y: The same number of labels, 0 or 1: bool, integers or floats; (N,) and (N, 1) are the same.
        who: What needs them, for the error.
    """
    if isinstance(y, Tensor) and logits.ndim <= 2 and y.ndim in (1, 2):
        z = logits.reshape(len(logits), -1)
        labels = y.reshape(len(y), -1).to(torch.promote_types(z.dtype, torch.float32))
        if labels.shape == z.shape:
            return z, labels
    got = f"labels {tuple(y.shape)}" if isinstance(y, Tensor) else type(y).__name__
    raise ValueError(
        f"Expected one label, 0 or 1, for each logit, (N,) or (N, L), for {who}, "
        f"but got {got} for logits {tuple(logits.shape)}."
    )


def _checked(logits: Tensor, y: Any, who: str) -> tuple[Tensor, Tensor]:
    """The same; refuses labels that are not 0 or 1. Waits for the device once."""
    z, labels = yes_no_labels(logits, y, who)
    if not bool(((labels == 0) | (labels == 1)).all()):
        raise ValueError(f"Expected labels to be 0 or 1, but got {float(labels.max()):g} and {float(labels.min()):g}.")
    return z, labels


def binary_correct(logits: Tensor, y: Tensor) -> Tensor:
    """Is the logit positive exactly where the label is 1? With several labels, for all of them.

    For one logit this is the accuracy of binary classification, for multi-label data the exact match ratio.

    Args:
        logits: (N,) or (N, L).
        y: As many labels, 0 or 1, of any type.

    Returns:
        (N,) bool.

    Example:
        >>> binary_correct(torch.tensor([[2.0, -1.0], [2.0, 1.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
        tensor([ True, False])
    """
    z, labels = _checked(logits, y, "`binary_correct`")
    return ((z > 0) == (labels == 1)).all(1)


def binary_margin(logits: Tensor, y: Tensor) -> Tensor:
    r"""The margin :math:`\max_l (1 - 2 y_l) z_l`, positive exactly where a label is got wrong.

    For one logit it is its log-odds of being wrong; with several labels per sample (multi-label data) it is raised by
    breaking the one that is easiest to break, as `binary_correct` asks for all.

    Args:
        logits: (N,) or (N, L).
        y: As many labels, 0 or 1, of any type.

    Returns:
        (N,).

    Example:
        >>> binary_margin(torch.tensor([[2.0], [2.0]]), torch.tensor([[1.0], [0.0]]))
        tensor([-2.,  2.])
    """
    z, labels = yes_no_labels(logits, y, "the gain `binary_margin`")
    return ((1 - 2 * labels) * z).amax(1)


def _check_binary_margin(logits: Tensor, y: Any) -> None:
    _checked(logits, y, "the gain `binary_margin`")


binary_margin.check = _check_binary_margin  # type: ignore[attr-defined]


def binary_cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """The mean of the binary cross entropies of the labels of a sample, (N,).

    Args:
        logits: (N,) or (N, L).
        y: As many labels, of any type; probabilities are allowed.
    """
    z, labels = yes_no_labels(logits, y, "the gain `binary_cross_entropy`")
    return F.binary_cross_entropy_with_logits(z, labels.to(z.dtype), reduction="none").mean(1)
