r"""Gains: what the attacker raises, one number per sample.

A gain is a function `(logits, y) -> (N,)` that treats every sample alone. The gains here take class labels, as
`labels.py` says: integers (N,) or (N, 1), or probabilities (N, K), for which they are the expected gain
:math:`\sum_k q_k\,G(z, k)`. `dense.py` turns them into gains of dense labels, `binary.py` holds those of yes/no labels,
`anchored.py` those that are measured against the clean logits. Write your own as a plain function: it says what its
labels mean, and may have a method or attribute `check(logits, y)`, called on the first logits of every batch, which
refuses labels of another kind. For class labels `@of_classes` adds this check, and `class_labels` gives
them as integers (N,) or probabilities (N, K). Where a logit is NaN or infinite the model has lost: there the gain is
1e30, in the attacks that of every function, and that of a function with `@of_classes` everywhere.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_robust import _checks
from lightning_robust.attacks._dense_labels import VOID, check_dense_labels, dense_labels
from lightning_robust.attacks._gain import GainFn, check_gain, of_classes, with_slope
from lightning_robust.attacks.labels import check_class_labels, class_labels


def without(logits: Tensor, y: Tensor, value: float) -> Tensor:
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


@of_classes
def log_odds(logits: Tensor, y: Tensor) -> Tensor:
    r"""The log-odds of being wrong, :math:`\log\frac{1-p_y}{p_y} = \log\sum_{j\ne y} e^{z_j} - z_y`.

    Cross entropy is its softplus, so per sample both rise along the same direction, and sign steps and normalized steps
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
    y = class_labels(logits, y, "the gain `log_odds`")
    if y.ndim == 2:
        return _expected(_others(logits) - logits, y)
    return without(logits, y, -torch.inf).logsumexp(1) - logits.gather(1, y[:, None]).squeeze(1)


def _log_odds_slope(logits: Tensor, y: Any) -> tuple[Tensor, Tensor] | None:
    """The log-odds and their gradient: the probabilities among the other classes, and -1 for the label."""
    y = class_labels(logits, y)
    if y.ndim == 2:
        return None
    others, place = without(logits, y, -torch.inf), y[:, None]
    total = others.logsumexp(1, keepdim=True)
    value = (total - logits.gather(1, place)).squeeze(1)
    return value, others.sub_(total).exp_().scatter_(1, place, -1.0)


with_slope(log_odds, _log_odds_slope)


def _check_cross_entropy(logits: Tensor, y: Any) -> None:
    who = "the gain `cross_entropy`"
    if logits.ndim == 3 and logits.shape[1] == logits.shape[2] and isinstance(y, Tensor) and y.ndim == 2:
        raise ValueError(
            f"Expected to know where the classes are, but logits {tuple(logits.shape)} can be read both ways. Say "
            "dense(cross_entropy, class_dim=1) for (N, K, T), or dense(cross_entropy, class_dim=-1) for (N, T, K)."
        )
    if logits.ndim > 2 and not (isinstance(y, Tensor) and y.shape == logits.shape and y.is_floating_point()):
        check_dense_labels(logits, y, 1, VOID, who)
    elif logits.ndim <= 2:
        check_class_labels(logits, y, who)


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
            z, y = dense_labels(logits, y, 1, "the gain `cross_entropy`")
            return F.cross_entropy(z, y, reduction="none").sum(1) / (y != VOID).sum(1).clamp_min(1)
        return F.cross_entropy(logits, y, reduction="none").flatten(1).mean(1)
    return F.cross_entropy(logits, class_labels(logits, y, "the gain `cross_entropy`"), reduction="none")


cross_entropy.check = _check_cross_entropy  # type: ignore[attr-defined]


@of_classes
def margin(logits: Tensor, y: Tensor) -> Tensor:
    r"""The margin :math:`\max_{j\ne y} z_j - z_y` of Carlini & Wagner (S&P 2017), positive exactly where the sample is
    misclassified.

    Their :math:`f_6` with the sign turned and without the cut at kappa. Args as `log_odds`; returns (N,).

    Example:
        >>> margin(torch.tensor([[2.0, 0.5, 1.0]]), torch.tensor([0]))
        tensor([-1.])
    """
    y = class_labels(logits, y, "the gain `margin`")
    if y.ndim == 2:
        return _expected(_highest_other(logits) - logits, y)
    return without(logits, y, -torch.inf).amax(1) - logits.gather(1, y[:, None])[:, 0]


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


@of_classes
def dlr(logits: Tensor, y: Tensor) -> Tensor:
    r"""The difference of logits ratio, :math:`-(z_y - \max_{j\ne y} z_j) / (z_{\pi_1} - z_{\pi_3})` (Croce & Hein, ICML
    2020, eq. 6).

    Unchanged when the logits are shifted or scaled; :math:`z_{\pi_1} \ge z_{\pi_2} \ge \dots` are the sorted logits, so
    K >= 3.

    Example:
        >>> dlr(torch.tensor([[4.0, 1.0, 0.0]]), torch.tensor([0]))
        tensor([-0.7500])
    """
    y = class_labels(logits, y, "the gain `dlr`")
    if logits.shape[1] < 3:
        raise ValueError(f"Expected at least 3 classes for the gain `dlr`, but got {logits.shape[1]}. Use `margin`.")
    logits = logits / 4  # the ratio is the same, and differences of the largest floats do not overflow
    top = logits.topk(3, dim=1).values
    return margin(logits, y) / (top[:, 0] - top[:, 2]).clamp_min(torch.finfo(logits.dtype).tiny)
