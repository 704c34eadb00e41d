"""Gains that are measured against something read off the clean logits, targeted ones among them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_robust import _checks
from lightning_robust.attacks._gain import GainFn, check_gain, check_plain_gain
from lightning_robust.attacks._tensors import set_fields
from lightning_robust.attacks.gains import without
from lightning_robust.attacks.labels import check_class_labels, class_labels

Target = Callable[[Tensor, Any], Any]
"""`(clean_logits, y) -> anchor`."""


@dataclass(frozen=True)
class Anchored:
    """A gain that is measured against an anchor read off the clean logits, once per attack.

    Args:
        gain: `(logits, anchor) -> (N,)`.
        anchor: `(clean_logits, y) -> anchor`; the anchor's first dimension is N.
        flat: Is the gradient zero at the clean input? Then the attack must start elsewhere.
    """

    gain: GainFn
    anchor: Target
    flat: bool = False

    def __post_init__(self) -> None:
        check_plain_gain(self.gain)
        _checks.function("anchor", self.anchor, "(clean_logits, y) -> anchor")
        set_fields(self, flat=_checks.boolean("flat", self.flat))

    def __call__(self, logits: Tensor, anchor: Any) -> Any:
        """The gain against the anchor."""
        return self.gain(logits, anchor)

    def check(self, logits: Tensor, anchor: Any) -> None:
        """Refuse an anchor that the gain does not take."""
        check_gain(self.gain, logits, anchor)


def _log_probabilities(logits: Tensor, y: Tensor) -> Tensor:
    return logits.log_softmax(1)


def _kl(logits: Tensor, log_p: Tensor) -> Tensor:
    return F.kl_div(logits.log_softmax(1), log_p, reduction="none", log_target=True).flatten(1).sum(1)


divergence = Anchored(_kl, _log_probabilities, flat=True)
r"""The Kullback-Leibler divergence :math:`\mathrm{KL}(p(x) \,\|\, p(x_{adv}))` from the clean prediction, the inner
maximization of TRADES (Zhang et al., ICML 2019, eq. 3). It is flat at the clean input: it needs a random start."""


def _hard(clean_logits: Tensor, y: Any) -> Tensor:
    """(N,) the classes to get away from; of probabilities the most likely one."""
    check_class_labels(clean_logits, y, "a targeted gain")
    labels = class_labels(clean_logits, y)
    return labels if labels.ndim == 1 else labels.argmax(1)


def _check_rank(name: str, rank: int, clean_logits: Tensor) -> None:
    classes = clean_logits.shape[1]
    if rank >= classes:
        raise ValueError(
            f"Expected argument `{name}` to be less than the number of classes, {classes}, but got {rank}."
        )


def least_likely(clean_logits: Tensor, y: Tensor) -> Tensor:
    """The class with the least clean logit (Kurakin et al., 2017), other than the true one."""
    return without(clean_logits, _hard(clean_logits, y), torch.inf).argmin(1)


def runner_up(clean_logits: Tensor, y: Tensor) -> Tensor:
    """The most likely class other than the true one."""
    return without(clean_logits, _hard(clean_logits, y), -torch.inf).argmax(1)


@dataclass(frozen=True)
class _Toward:
    """Minus the gain of the class that is wanted."""

    gain: GainFn

    def __call__(self, logits: Tensor, target: Tensor) -> Tensor:
        return -self.gain(logits, target)

    def check(self, logits: Tensor, target: Any) -> None:
        check_gain(self.gain, logits, target)


@dataclass(frozen=True)
class _Constant:
    """The same target class for every sample."""

    target: int

    def __call__(self, clean_logits: Tensor, y: Tensor) -> Tensor:
        _hard(clean_logits, y)
        _check_rank("to", self.target, clean_logits)
        return torch.full((len(clean_logits),), self.target, device=clean_logits.device)


def targeted(gain: GainFn, to: int | Target = runner_up) -> Anchored:
    """Push the prediction towards a target class instead of away from the label.

    Args:
        gain: A gain of labels, e.g. `log_odds` or `margin`: it is lowered for the target class.
        to: The target: one class for all, or `(clean_logits, y) -> (N,)` such as `runner_up` or `least_likely`.

    Returns:
        A gain for `PGD(gain=...)`. Success still means that the prediction is not the label, as robust accuracy counts
        it.

    Example:
        >>> from lightning_robust.attacks import margin
        >>> gain = targeted(margin, to=least_likely)
        >>> gain.anchor(torch.tensor([[2.0, 0.5, 1.0]]), torch.tensor([0]))
        tensor([1])
    """
    check_plain_gain(gain)
    if isinstance(to, type) or not callable(to):
        return Anchored(_Toward(gain), _Constant(_checks.count("to", to, 0)))
    return Anchored(_Toward(gain), _checks.function("to", to, "(clean_logits, y) -> (N,)"))


def _targeted_dlr(logits: Tensor, pair: Tensor) -> Tensor:
    y, target = pair[:, :1], pair[:, 1:]
    top = logits.topk(4, dim=1).values
    width = (top[:, 0] - 0.5 * (top[:, 2] + top[:, 3])).clamp_min(torch.finfo(logits.dtype).tiny)
    return (logits.gather(1, target) - logits.gather(1, y))[:, 0] / width


@dataclass(frozen=True)
class _LabelAndRank:
    """(N, 2): the label, and the class at place `rank` among the wrong ones, ordered by clean logit."""

    rank: int

    def __call__(self, clean_logits: Tensor, y: Tensor) -> Tensor:
        labels = _hard(clean_logits, y)
        if clean_logits.shape[1] < 4:
            raise ValueError(
                f"Expected at least 4 classes for the gain `targeted_dlr`, but got {clean_logits.shape[1]}."
            )
        _check_rank("rank", self.rank, clean_logits)
        wrong = without(clean_logits, labels, -torch.inf).topk(self.rank, dim=1).indices
        return torch.stack([labels, wrong[:, -1]], 1)


def targeted_dlr(rank: int = 1) -> Anchored:
    r"""The targeted DLR gain, :math:`-(z_y - z_t) / (z_{\pi_1} - (z_{\pi_3} + z_{\pi_4}) / 2)` (Croce & Hein, ICML
    2020, eq. 7); K >= 4.

    Args:
        rank: Which wrong class is the target t, ordered by clean logit; 1 is the runner-up. AutoAttack tries ranks 1 to
            9.
    """
    return Anchored(_targeted_dlr, _LabelAndRank(_checks.count("rank", rank)))
