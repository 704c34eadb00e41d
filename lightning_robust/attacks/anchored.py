"""Gains that are measured against something read off the clean logits, targeted ones among them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_robust import _checks
from lightning_robust.attacks._gain import GainFn, check_gain, check_plain_gain
from lightning_robust.attacks._tensors import column, set_fields
from lightning_robust.attacks.attack import Context
from lightning_robust.attacks.gains import without
from lightning_robust.attacks.labels import are_class_labels, check_class_labels, class_labels

Target = Callable[[Tensor, Any], Any]
"""`(clean_logits, y) -> anchor`."""


@dataclass(frozen=True)
class Anchored:
    """A gain that is measured against an anchor read off the clean logits, once per attack.

    Args:
        gain: `(logits, anchor) -> (N,)`.
        anchor: `(clean_logits, y) -> anchor`; the first dimension of every tensor in it is N. An object may have a
            method `of_context(clean_logits, y, context) -> anchor`, which is asked in its place where the context of
            the attack is known, and a method `fits(output, y) -> bool`: is there such a gain for this output?
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

    def of_context(self, clean_logits: Tensor, y: Any, context: Context) -> Any:
        """The anchor, where the context of the attack is known."""
        of_context = getattr(self.anchor, "of_context", None)
        return self.anchor(clean_logits, y) if of_context is None else of_context(clean_logits, y, context)

    def fits(self, output: Tensor, y: Any) -> bool:
        """Is there such a gain for a model of this output?"""
        fits = getattr(self.anchor, "fits", None)
        return True if fits is None else fits(output, y)


def _log_probabilities(logits: Tensor, y: Tensor) -> Tensor:
    return logits.log_softmax(1)


def _kl(logits: Tensor, log_p: Tensor) -> Tensor:
    return F.kl_div(logits.log_softmax(1), log_p, reduction="none", log_target=True).flatten(1).sum(1)


divergence = Anchored(_kl, _log_probabilities, flat=True)
r"""The Kullback-Leibler divergence :math:`\mathrm{KL}(p(x) \,\|\, p(x_{adv}))` from the clean prediction, the inner
maximization of TRADES (Zhang et al., ICML 2019, eq. 3). It is flat at the clean input: it needs a random start."""


def hard(clean_logits: Tensor, y: Any) -> Tensor:
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
    return without(clean_logits, hard(clean_logits, y), torch.inf).argmin(1)


def runner_up(clean_logits: Tensor, y: Tensor) -> Tensor:
    """The most likely class other than the true one."""
    return without(clean_logits, hard(clean_logits, y), -torch.inf).argmax(1)


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
        hard(clean_logits, y)
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


def _toward(logits: Tensor, pair: Tensor) -> Tensor:
    """z_t - z_y of the pairs (y, t)."""
    label, target = logits.gather(1, pair).unbind(1)
    return target - label


def _targeted_dlr(logits: Tensor, pair: Tensor) -> Tensor:
    logits = logits / 4  # the ratio is the same, and differences of the largest floats do not overflow
    top = logits.topk(4, dim=1).values
    width = (top[:, 0] - 0.5 * (top[:, 2] + top[:, 3])).clamp_min(torch.finfo(logits.dtype).tiny)
    return _toward(logits, pair) / width


def at_rank(values: Tensor, rank: int, known: Tensor | None) -> Tensor:
    """(N,) int64, the column at place `rank`: first those that are `known` (N, T), then by the largest of (N, M)."""
    known = values.new_zeros(len(values), 0) if known is None else known
    known = known.to(values.device, torch.long)
    if rank <= known.shape[1]:
        return known[:, rank - 1]
    return values.scatter(1, known, -torch.inf).topk(rank - known.shape[1], dim=1).indices[:, -1]


@dataclass(frozen=True)
class _LabelAndRank:
    """(N, 2): the label, and the wrong class at place `rank`: the nearest first where that is known, then by logit."""

    rank: int
    gain: str
    least: int = 2

    def __call__(self, clean_logits: Tensor, y: Tensor) -> Tensor:
        return self.of_context(clean_logits, y, Context())

    def of_context(self, clean_logits: Tensor, y: Tensor, context: Context) -> Tensor:
        labels, known = hard(clean_logits, y), context.targets
        if clean_logits.shape[1] < self.least:
            raise ValueError(
                f"Expected at least {self.least} classes for the gain `{self.gain}`, but got {clean_logits.shape[1]}."
            )
        _check_rank("rank", self.rank, clean_logits)
        target = at_rank(without(clean_logits.nan_to_num(), labels, -torch.inf), self.rank, known)
        return torch.stack([labels, target], 1)

    def fits(self, output: Tensor, y: Any) -> bool:
        return output.ndim == 2 and output.shape[1] >= max(self.least, self.rank + 1) and are_class_labels(output, y)


def targeted_margin(rank: int = 1) -> Anchored:
    r"""The margin of one wrong class, :math:`z_t - z_y`: it pushes towards the class t alone.

    `margin` pushes towards the wrong class that is highest at the moment, which need not be the one that can be
    reached. On a linear model ascent of this gain is exact: a sample is robust if and only if no class t can be
    reached. Run it for the nearest classes, see `nearest_classes`.

    Args:
        rank: Which wrong class is the target t. 1: the nearest, where `Context.targets` knows it, else the one of the
            highest clean logit. 2: the next one, and so on. Probabilities as labels mean their most likely class.

    Returns:
        A gain for `PGD(gain=...)`, in units of logits. Success still means that the prediction is not the label.

    Raises:
        ValueError: at the clean logits, where there are not `rank` wrong classes; `fits(output, y)` says so before.

    Example:
        >>> gain = targeted_margin(2)
        >>> pair = gain.anchor(torch.tensor([[2.0, 0.5, 1.0]]), torch.tensor([0]))  # the label, and the target
        >>> pair, gain(torch.tensor([[2.0, 3.0, 1.0]]), pair)
        (tensor([[0, 1]]), tensor([1.]))
    """
    return Anchored(_toward, _LabelAndRank(_checks.count("rank", rank), "targeted_margin"))


def targeted_dlr(rank: int = 1) -> Anchored:
    r"""The targeted DLR gain, :math:`-(z_y - z_t) / (z_{\pi_1} - (z_{\pi_3} + z_{\pi_4}) / 2)` (Croce & Hein, ICML
    2020, eq. 7); K >= 4.

    Args:
        rank: Which wrong class is the target t, as for `targeted_margin`. AutoAttack tries ranks 1 to 9, by clean
            logit.
    """
    return Anchored(_targeted_dlr, _LabelAndRank(_checks.count("rank", rank), "targeted_dlr", least=4))


_SHARPNESS = 16.0


@dataclass(frozen=True)
class _Normalized:
    """The gain of logits that are divided by a scale, (N,), which stands before the labels in the anchor."""

    gain: GainFn

    def __call__(self, logits: Tensor, anchor: tuple[Tensor, Any]) -> Tensor:
        return self.gain(logits * column(_SHARPNESS / anchor[0], logits), anchor[1])

    def check(self, logits: Tensor, anchor: tuple[Tensor, Any]) -> None:
        check_gain(self.gain, logits, anchor[1])


def _scale_and_labels(clean_logits: Tensor, y: Any) -> tuple[Tensor, Any]:
    """The highest logit minus the mean of the others, (N,); 1 where that is zero or no number."""
    flat = clean_logits.reshape(len(clean_logits), -1)
    flat = torch.cat([flat, -flat], 1) if flat.shape[1] == 1 else flat
    scale = (flat.amax(1) - flat.mean(1)) * (flat.shape[1] / (flat.shape[1] - 1))
    usable = scale.isfinite() & (scale > torch.finfo(scale.dtype).tiny)
    return torch.where(usable, scale, 1.0), y


def normalized(gain: GainFn) -> Anchored:
    r"""A gain of logits whose scale does not matter: :math:`G(16\,z / s,\,y)`.

    The scale :math:`s = z_{(1)} - \frac1{K-1}\sum_{j>1} z_{(j)}` is read off the clean logits of each sample. So a
    model whose logits are multiplied by a constant gets the same attack. Cross entropy and log-odds of small logits
    pull towards all wrong classes at once, and find less; those of large logits are close to `margin`, and cross
    entropy has no gradient any more. `margin`, `targeted_margin` and `dlr` do not need this.

    16 is our choice. On linear models of 3, 4, 10 and 100 classes with a robust accuracy of 30.0 %, cross entropy finds
    30.5, 30.3, 30.5 and 32.0 % for logits of any scale. With 4 in its place it finds 30.8, 30.3, 35.0 and 40.0, with
    64 it finds 34.3, 30.8, 30.0 and 30.3, as its gradient vanishes where the true class leads by more than the clean
    logits say.

    Args:
        gain: A gain `(logits, y) -> (N,)` such as `cross_entropy` or `log_odds`, of class labels or of labels of your
            own. Outputs with more dimensions have one scale for each sample.

    Returns:
        A gain for `PGD(gain=...)`.

    Example:
        >>> from lightning_robust.attacks import cross_entropy
        >>> clean, y = torch.tensor([[2.0, 0.5, 1.0]]), torch.tensor([0])
        >>> gain = normalized(cross_entropy)
        >>> [gain(scale * clean, gain.anchor(scale * clean, y)).item() < 1e-4 for scale in (0.01, 1.0, 1000.0)]
        [True, True, True]
    """
    return Anchored(_Normalized(check_plain_gain(gain)), _scale_and_labels)
