"""Yes/no labels: when a sample counts as right, and the gains. One logit, or several labels per sample."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_robust import _checks
from lightning_robust.attacks.anchored import Anchored, at_rank
from lightning_robust.attacks.attack import NO_CONTEXT, Context


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

    For one logit it is its log-odds of being wrong. With several labels per sample (multi-label data) `binary_correct`
    asks for all, and this gain climbs the one whose logit is the least right at the moment. Where labels have logits of
    different scales, that need not be the one that can be reached: see `targeted_binary`.

    Args:
        logits: (N,) or (N, L).
        y: As many labels, 0 or 1, of any type.

    Returns:
        (N,).

    Example:
        >>> binary_margin(torch.tensor([[2.0], [2.0]]), torch.tensor([[1.0], [0.0]]))
        tensor([-2.,  2.])
    """
    return label_margins(logits, y).amax(1)


def label_margins(logits: Tensor, y: Any) -> Tensor:
    """(N, L), positive exactly where that label is got wrong."""
    z, labels = yes_no_labels(logits, y, "the gain `binary_margin`")
    return (1 - 2 * labels) * z


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


def _margin_of_one(logits: Tensor, anchor: tuple[Tensor, Tensor]) -> Tensor:
    label, y = anchor
    return label_margins(logits, y).gather(1, label[:, None])[:, 0]


@dataclass(frozen=True)
class LabelAtRank:
    """The number of the label at place `rank`, (N,), the nearest first where that is known, then by margin; and y."""

    rank: int

    def __call__(self, clean_logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return self.of_context(clean_logits, y, NO_CONTEXT)

    def of_context(self, clean_logits: Tensor, y: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        _checked(clean_logits, y, "the gain `targeted_binary`")
        margins = label_margins(clean_logits.nan_to_num(), y)
        if self.rank > margins.shape[1]:
            raise ValueError(
                f"Expected argument `rank` to be at most the number of labels, {margins.shape[1]}, but got {self.rank}."
            )
        return at_rank(margins, self.rank, context.targets), y

    def fits(self, output: Tensor, y: Any) -> bool:
        return output.ndim <= 2 and self.rank <= output[:1].numel()


def targeted_binary(rank: int = 1) -> Anchored:
    r"""The margin of one yes/no label, :math:`(1 - 2 y_l) z_l`: it gets the label l wrong, and leaves the others alone.

    `binary_margin` climbs the label whose logit is the least right at the moment, which need not be the one that can be
    reached. On a linear model ascent of this gain is exact: a sample is robust if and only if no label can be reached.
    Run it for the nearest labels, see `nearest_labels`; `evaluation.standard(threat, gain=binary_margin)` does.

    Args:
        rank: Which label is l. 1: the nearest to being wrong, where `Context.targets` knows it, else the one whose
            clean logit is the least right. 2: the next one, and so on.

    Returns:
        A gain for `PGD(gain=...)`, in units of logits, to be used with `correct=binary_correct`.

    Raises:
        ValueError: at the clean logits, where there are not `rank` labels; `fits(output, y)` says so before.

    Example:
        >>> gain, y = targeted_binary(2), torch.tensor([[1, 0, 1]])
        >>> label, _ = anchor = gain.anchor(torch.tensor([[2.0, -0.5, 1.0]]), y)
        >>> label, gain(torch.tensor([[2.0, 3.0, -4.0]]), anchor)
        (tensor([2]), tensor([4.]))
    """
    return Anchored(_margin_of_one, LabelAtRank(_checks.count("rank", rank)))
