r"""Gains: what the attacker raises, one number per sample.

A gain is a function `(logits, y) -> (N,)`. It must treat every sample alone. The gains here take class labels, as
`labels.py` says: integers (N,) or (N, 1), or probabilities (N, K), for which they are the expected gain
:math:`\sum_k q_k\,G(z, k)`. `dense` turns them into gains of dense labels; `binary_margin` and `binary_cross_entropy`
take yes/no labels. Write your own as a plain function: what its labels mean is then its own affair.

A gain may have a method or attribute `check(logits, y)` that refuses labels it cannot mean. It is called on the first
logits of every batch. An `Anchored` gain is measured against something that is read off the clean logits once, at the
start of an attack.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_robust import _checks
from lightning_robust.attacks import labels as _labels

GainFn = Callable[[Tensor, Any], Any]
"""`(logits, y) -> (N,)`; `Any` for a tensor, as in all types of functions here that a configuration file may name:
LightningCLI reads a class in this place as "makes objects of this class" and refuses functions without annotations."""


def check_gain(gain: Any, logits: Tensor, y: Any) -> None:
    """Refuse labels that the gain cannot mean, if it says which."""
    check = getattr(gain, "check", None)
    if check is not None:
        check(logits, y)


def _of_classes(gain: GainFn) -> GainFn:
    """Mark a gain of class labels: their values are checked once for each batch."""

    def check(logits: Tensor, y: Any) -> None:
        _labels.check_class_labels(logits, y, f"the gain `{gain.__name__}`")

    gain.check = check  # type: ignore[attr-defined]
    return gain


def _without(logits: Tensor, y: Tensor, value: float) -> Tensor:
    """The logits with `value` in place of the label's."""
    return logits.scatter(1, y[:, None], value)


def _expected(values: Tensor, q: Tensor) -> Tensor:
    """The mean of values (N, K) under probabilities (N, K); what has no probability is not looked at."""
    return torch.where(q > 0, q * values, 0.0).sum(1)


def _others(logits: Tensor) -> Tensor:
    """(N, K): for each class, the log of the sum of the exponentials of all others, without subtracting from one."""
    lse, top = logits.logsumexp(1, keepdim=True), logits.argmax(1, keepdim=True)
    # A class other than the first has a probability of at most 1/2.
    p = (logits - lse).exp().scatter(1, top, 0.0)
    return (lse + torch.log1p(-p)).scatter(1, top, logits.scatter(1, top, -torch.inf).logsumexp(1, keepdim=True))


def _highest_other(logits: Tensor) -> Tensor:
    """(N, K): for each class, the highest logit of all others."""
    top = logits.topk(2, dim=1)
    is_top = torch.arange(logits.shape[1], device=logits.device) == top.indices[:, :1]
    return torch.where(is_top, top.values[:, 1:], top.values[:, :1])


@_of_classes
def log_odds(logits: Tensor, y: Tensor) -> Tensor:
    r"""The log-odds of being wrong, :math:`\log\frac{1-p_y}{p_y} = \log\sum_{j\ne y} e^{z_j} - z_y`.

    Cross entropy is its softplus, so per sample both rise along the same direction, and sign steps and normalised steps
    are the same. But the gradient of cross entropy vanishes where a model is confident, by nature (:math:`1-p_y \to 0`)
    or by design (large logits), which makes robust accuracy look better than it is; the gradient of the log-odds does
    not.

    Args:
        logits: (N, K), K >= 2.
        y: Class labels: integers (N,) or (N, 1), or probabilities (N, K).

    Returns:
        (N,), positive where the classes other than y together outweigh it.

    Raises:
        ValueError: for labels of another kind; the text says which gain belongs to them.

    Example:
        >>> log_odds(torch.tensor([[2.0, 0.0]]), torch.tensor([0]))
        tensor([-2.])
    """
    y = _labels.class_labels(logits, y, "the gain `log_odds`")
    if y.ndim == 2:
        return _expected(_others(logits) - logits, y)
    return _without(logits, y, -torch.inf).logsumexp(1) - logits.gather(1, y[:, None]).squeeze(1)


def _check_cross_entropy(logits: Tensor, y: Any) -> None:
    who = "the gain `cross_entropy`"
    if logits.ndim == 3 and logits.shape[1] == logits.shape[2] and isinstance(y, Tensor) and y.ndim == 2:
        raise ValueError(
            f"Expected to know where the classes are, but logits {tuple(logits.shape)} can be read both ways. Say "
            "dense(cross_entropy, class_dim=1) for (N, K, T), or dense(cross_entropy, class_dim=-1) for (N, T, K)."
        )
    if logits.ndim > 2 and not (isinstance(y, Tensor) and y.shape == logits.shape and y.is_floating_point()):
        _labels.check_dense_labels(logits, y, 1, _labels.VOID, who)
    elif logits.ndim <= 2:
        _labels.check_class_labels(logits, y, who)


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """The cross entropy of each sample, the gain of Madry et al. (ICLR 2018).

    Args:
        logits: (N, K), or (N, K, ...) for dense prediction; then the mean over the positions whose label is not -100.
        y: Class labels, integers (N,) or (N, 1), or probabilities (N, K); for dense prediction integers (N, ...), or
            probabilities of the shape of `logits`.

    Returns:
        (N,) values. See `log_odds` for the same direction without saturation.
    """
    if logits.ndim > 2:
        if isinstance(y, Tensor) and not y.is_floating_point():
            z, y = _labels.dense_labels(logits, y, 1, "the gain `cross_entropy`")
            return F.cross_entropy(z, y, reduction="none").sum(1) / (y != _labels.VOID).sum(1).clamp_min(1)
        return F.cross_entropy(logits, y, reduction="none").flatten(1).mean(1)
    return F.cross_entropy(logits, _labels.class_labels(logits, y, "the gain `cross_entropy`"), reduction="none")


cross_entropy.check = _check_cross_entropy  # type: ignore[attr-defined]


@_of_classes
def margin(logits: Tensor, y: Tensor) -> Tensor:
    r"""The margin :math:`\max_{j\ne y} z_j - z_y` of Carlini & Wagner (S&P 2017), positive exactly where the sample is
    misclassified.

    Their :math:`f_6` with the sign turned and without the cut at kappa. Args as `log_odds`; returns (N,).

    Example:
        >>> margin(torch.tensor([[2.0, 0.5, 1.0]]), torch.tensor([0]))
        tensor([-1.])
    """
    y = _labels.class_labels(logits, y, "the gain `margin`")
    if y.ndim == 2:
        return _expected(_highest_other(logits) - logits, y)
    return _without(logits, y, -torch.inf).amax(1) - logits.gather(1, y[:, None])[:, 0]


@dataclass(frozen=True)
class _Confident:
    kappa: float

    def __call__(self, logits: Tensor, y: Tensor) -> Tensor:
        return margin(logits, y).clamp(max=self.kappa)

    def check(self, logits: Tensor, y: Any) -> None:
        check_gain(margin, logits, y)


def confident_margin(kappa: float) -> GainFn:
    r"""The margin until it is `kappa`, and no further: :math:`\min(\max_{j\ne y} z_j - z_y, \kappa)`.

    The function :math:`f_6` of Carlini & Wagner (S&P 2017) with the sign turned: the confidence kappa says how far
    beyond the decision boundary an adversarial example shall lie. Once it lies there, the gradient is zero.

    Args:
        kappa: At least 0, in units of logits.

    Example:
        >>> confident_margin(3.0)(torch.tensor([[2.0, 0.0], [0.0, 9.0]]), torch.tensor([0, 0]))
        tensor([-2.,  3.])
    """
    return _Confident(_checks.number("kappa", kappa, 0, finite=False))


@_of_classes
def dlr(logits: Tensor, y: Tensor) -> Tensor:
    r"""The difference of logits ratio, :math:`-(z_y - \max_{j\ne y} z_j) / (z_{\pi_1} - z_{\pi_3})` (Croce & Hein, ICML
    2020, eq. 6).

    Unchanged when the logits are shifted or scaled; :math:`z_{\pi_1} \ge z_{\pi_2} \ge \dots` are the sorted logits, so
    K >= 3.

    Example:
        >>> dlr(torch.tensor([[4.0, 1.0, 0.0]]), torch.tensor([0]))
        tensor([-0.7500])
    """
    y = _labels.class_labels(logits, y, "the gain `dlr`")
    if logits.shape[1] < 3:
        raise ValueError(f"Expected at least 3 classes for the gain `dlr`, but got {logits.shape[1]}. Use `margin`.")
    top = logits.topk(3, dim=1).values
    return margin(logits, y) / (top[:, 0] - top[:, 2]).clamp_min(torch.finfo(logits.dtype).tiny)


@dataclass(frozen=True)
class Anchored:
    """A gain that is measured against an anchor read off the clean logits.

    Args:
        gain: `(logits, anchor) -> (N,)`.
        anchor: `(clean_logits, y) -> anchor`, called once per attack; the anchor's first dimension is N.
        flat: Is the gradient zero at the clean input? Then the attack must start elsewhere.
    """

    gain: GainFn
    anchor: Callable[[Tensor, Tensor], Tensor]
    flat: bool = False

    def __post_init__(self) -> None:
        _checks.function("gain", self.gain, "(logits, anchor) -> (N,)")
        _checks.function("anchor", self.anchor, "(clean_logits, y) -> anchor")
        object.__setattr__(self, "flat", _checks.boolean("flat", self.flat))


def _log_probabilities(logits: Tensor, y: Tensor) -> Tensor:
    return logits.log_softmax(1)


def _kl(logits: Tensor, log_p: Tensor) -> Tensor:
    return F.kl_div(logits.log_softmax(1), log_p, reduction="none", log_target=True).flatten(1).sum(1)


divergence = Anchored(_kl, _log_probabilities, flat=True)
r"""The Kullback-Leibler divergence :math:`\mathrm{KL}(p(x) \,\|\, p(x_{adv}))` from the clean prediction, the inner
maximisation of TRADES (Zhang et al., ICML 2019, eq. 3). It is flat at the clean input: it needs a random start."""


@dataclass(frozen=True)
class _Toward:
    """Raise minus the gain of a class that is wanted: lower `gain` towards the target."""

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
        if self.target >= clean_logits.shape[1]:
            raise ValueError(
                f"Expected argument `to` to be less than the number of classes, {clean_logits.shape[1]}, but got "
                f"{self.target}."
            )
        return torch.full((len(clean_logits),), self.target, device=clean_logits.device)


def _hard(clean_logits: Tensor, y: Any) -> Tensor:
    """(N,) the classes to get away from; of probabilities the most likely one."""
    _labels.check_class_labels(clean_logits, y, "a targeted gain")
    labels = _labels.class_labels(clean_logits, y)
    return labels if labels.ndim == 1 else labels.argmax(1)


def least_likely(clean_logits: Tensor, y: Tensor) -> Tensor:
    """The class with the least clean logit (Kurakin et al., 2017), other than the true one."""
    return _without(clean_logits, _hard(clean_logits, y), torch.inf).argmin(1)


def runner_up(clean_logits: Tensor, y: Tensor) -> Tensor:
    """The most likely class other than the true one."""
    return _without(clean_logits, _hard(clean_logits, y), -torch.inf).argmax(1)


def targeted(gain: GainFn, to: int | Callable[[Tensor, Tensor], Tensor] = runner_up) -> Anchored:
    """Push the prediction towards a target class instead of away from the label.

    Args:
        gain: A gain of labels, e.g. `log_odds` or `margin`: it is lowered for the target class.
        to: The target: one class for all, or `(clean_logits, y) -> (N,)` such as `runner_up` or `least_likely`.

    Returns:
        A gain for `PGD(gain=...)`. Success still means that the prediction is not the label, as robust accuracy counts
        it.

    Example:
        >>> gain = targeted(margin, to=least_likely)
        >>> gain.anchor(torch.tensor([[2.0, 0.5, 1.0]]), torch.tensor([0]))
        tensor([1])
    """
    _checks.function("gain", gain, "(logits, y) -> (N,)")
    if isinstance(to, type) or not callable(to):
        return Anchored(_Toward(gain), _Constant(_checks.count("to", to, 0)))
    return Anchored(_Toward(gain), _checks.function("to", to, "(clean_logits, y) -> (N,)"))


@dataclass(frozen=True)
class _Rank:
    """The class at place `rank` among the wrong ones, ordered by clean logit; rank 1 is the runner-up."""

    rank: int

    def __call__(self, clean_logits: Tensor, y: Tensor) -> Tensor:
        if self.rank >= clean_logits.shape[1]:
            raise ValueError(
                f"Expected argument `rank` to be less than the number of classes, {clean_logits.shape[1]}, "
                f"but got {self.rank}."
            )
        return _without(clean_logits, _hard(clean_logits, y), -torch.inf).topk(self.rank, dim=1).indices[:, -1]


def _dlr_target(logits: Tensor, pair: Tensor) -> Tensor:
    y, target = pair[:, :1], pair[:, 1:]
    top = logits.topk(4, dim=1).values
    width = (top[:, 0] - 0.5 * (top[:, 2] + top[:, 3])).clamp_min(torch.finfo(logits.dtype).tiny)
    return (logits.gather(1, target) - logits.gather(1, y))[:, 0] / width


@dataclass(frozen=True)
class _Pair:
    to: Callable[[Tensor, Tensor], Tensor]

    def __call__(self, clean_logits: Tensor, y: Tensor) -> Tensor:
        labels = _hard(clean_logits, y)
        if clean_logits.shape[1] < 4:
            raise ValueError(
                f"Expected at least 4 classes for the gain `targeted_dlr`, but got {clean_logits.shape[1]}."
            )
        return torch.stack([labels, self.to(clean_logits, labels)], 1)


def targeted_dlr(rank: int = 1) -> Anchored:
    r"""The targeted DLR gain, :math:`-(z_y - z_t) / (z_{\pi_1} - (z_{\pi_3} + z_{\pi_4}) / 2)` (Croce & Hein, ICML
    2020, eq. 7); K >= 4.

    Args:
        rank: Which wrong class is the target t, ordered by clean logit; 1 is the runner-up. AutoAttack tries ranks 1 to
            9.
    """
    return Anchored(_dlr_target, _Pair(_Rank(_checks.count("rank", rank))))


def binary_margin(logits: Tensor, y: Tensor) -> Tensor:
    r"""Yes/no labels: :math:`\max_l (1 - 2 y_l) z_l`, positive exactly where a label is got wrong.

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
    z, labels = _labels.yes_no_labels(logits, y, "the gain `binary_margin`")
    return ((1 - 2 * labels) * z).amax(1)


def binary_cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Yes/no labels: the mean of the binary cross entropies of the labels of a sample.

    Args:
        logits: (N,) or (N, L).
        y: As many labels, of any type; probabilities are allowed.

    Returns:
        (N,).
    """
    z, labels = _labels.yes_no_labels(logits, y, "the gain `binary_cross_entropy`")
    return F.binary_cross_entropy_with_logits(z, labels.to(z.dtype), reduction="none").mean(1)


def _check_binary_margin(logits: Tensor, y: Any) -> None:
    _labels.check_yes_no_labels(logits, y, "the gain `binary_margin`")


binary_margin.check = _check_binary_margin  # type: ignore[attr-defined]


@dataclass(frozen=True)
class _Dense:
    gain: GainFn
    class_dim: int
    ignore_index: int | None

    def __call__(self, logits: Tensor, y: Tensor) -> Tensor:
        z, labels = _labels.dense_labels(logits, y, self.class_dim, "`dense`")
        counts = torch.ones_like(labels, dtype=torch.bool) if self.ignore_index is None else labels != self.ignore_index
        rows = z.transpose(1, 2).flatten(0, 1)  # (N P, K): every position is a sample
        value = self.gain(rows, torch.where(counts, labels, 0).flatten())
        _check_value(value, len(rows))
        value = torch.where(counts, value.reshape(labels.shape), 0.0)
        return value.sum(1) / counts.sum(1).clamp_min(1)

    def check(self, logits: Tensor, y: Any) -> None:
        _labels.check_dense_labels(logits, y, self.class_dim, self.ignore_index, "`dense`")


def dense(gain: GainFn = log_odds, *, class_dim: int = 1, ignore_index: int | None = _labels.VOID) -> GainFn:
    """A gain of class labels as one of dense labels: its mean over the positions of a sample.

    For segmentation and token classification. `ignore_index` marks positions that do not count.

    Args:
        gain: A gain of class labels, such as `log_odds`, `margin`, `cross_entropy`.
        class_dim: Where the classes are in the logits: 1 for (N, K, H, W), -1 for (N, T, K).
        ignore_index: The label of positions that do not count, such as 255; None: all count.

    Returns:
        `(logits, y) -> (N,)` for integer labels of the shape of the logits without their classes.

    Example:
        >>> logits = torch.tensor([[[2.0, 0.0], [0.0, 1.0]]])  # (N, T, K)
        >>> dense(margin, class_dim=-1)(logits, torch.tensor([[0, -100]]))
        tensor([-2.])
    """
    _checks.function("gain", gain, "(logits, y) -> (N,)")
    if ignore_index is not None:
        ignore_index = _checks.seed("ignore_index", ignore_index)
    return _Dense(gain, _checks.seed("class_dim", class_dim), ignore_index)


def _check_value(value: Any, n: int) -> None:
    """Refuse what is not one number per sample."""
    if not isinstance(value, Tensor) or value.shape != (n,):
        got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(
            f"Expected the gain to give one number per sample, shape (N,) with N={n}, but got {got}. A loss wants "
            "reduction='none', and a mean over all dimensions but the first."
        )


def gain_of(gain: GainFn, logits: Tensor, y: Any) -> Tensor:
    """The gain of each sample (N,), or an error where it gives something else."""
    value = gain(logits, y)
    _check_value(value, len(logits))
    return value
