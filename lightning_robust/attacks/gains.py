r"""Gains: what the attacker raises, one number per sample.

A gain is a function `(logits, y) -> (N,)` of logits (N, K) and labels (N,). It must treat every sample alone. Write
your own as a plain function; an `Anchored` gain is measured against something that is read off the clean logits once,
at the start of an attack.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

GainFn = Callable[[Tensor, Tensor], Tensor]


def _without(logits: Tensor, y: Tensor, value: float) -> Tensor:
    """The logits with `value` in place of the label's."""
    return logits.scatter(1, y[:, None], value)


def log_odds(logits: Tensor, y: Tensor) -> Tensor:
    r"""The log-odds of being wrong, :math:`\log\frac{1-p_y}{p_y} = \log\sum_{j\ne y} e^{z_j} - z_y`.

    Cross entropy is its softplus, so per sample both rise along the same direction, and sign steps and normalised steps
    are the same. But the gradient of cross entropy vanishes where a model is confident, by nature (:math:`1-p_y \to 0`)
    or by design (large logits), which makes robust accuracy look better than it is; the gradient of the log-odds does
    not.

    Args:
        logits: (N, K), K >= 2.
        y: (N,) integer labels.

    Returns:
        (N,), positive where the classes other than y together outweigh it.

    Example:
        >>> log_odds(torch.tensor([[2.0, 0.0]]), torch.tensor([0]))
        tensor([-2.])
    """
    return _without(logits, y, -torch.inf).logsumexp(1) - logits.gather(1, y[:, None]).squeeze(1)


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """The cross entropy of each sample, the gain of Madry et al. (ICLR 2018).

    Args:
        logits: (N, K) or (N, K, ...) for dense prediction; then the mean over positions.
        y: (N,) or (N, ...) integer labels, or probabilities of the shape of `logits`.

    Returns:
        (N,) values. See `log_odds` for the same direction without saturation.
    """
    loss = F.cross_entropy(logits, y, reduction="none")
    return loss if loss.ndim == 1 else loss.flatten(1).mean(1)


def margin(logits: Tensor, y: Tensor) -> Tensor:
    r"""The margin :math:`\max_{j\ne y} z_j - z_y` of Carlini & Wagner (S&P 2017), positive exactly where the sample is
    misclassified.

    Their :math:`f_6` with the sign turned and without the cut at kappa. Args as `log_odds`; returns (N,).

    Example:
        >>> margin(torch.tensor([[2.0, 0.5, 1.0]]), torch.tensor([0]))
        tensor([-1.])
    """
    return _without(logits, y, -torch.inf).amax(1) - logits.gather(1, y[:, None])[:, 0]


@dataclass(frozen=True)
class _Confident:
    kappa: float

    def __call__(self, logits: Tensor, y: Tensor) -> Tensor:
        return margin(logits, y).clamp(max=self.kappa)


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
    if not kappa >= 0:
        raise ValueError(f"Expected argument `kappa` to be at least 0, but got {kappa}.")
    return _Confident(kappa)


def dlr(logits: Tensor, y: Tensor) -> Tensor:
    r"""The difference of logits ratio, :math:`-(z_y - \max_{j\ne y} z_j) / (z_{\pi_1} - z_{\pi_3})` (Croce & Hein, ICML
    2020, eq. 6).

    Unchanged when the logits are shifted or scaled; :math:`z_{\pi_1} \ge z_{\pi_2} \ge \dots` are the sorted logits, so
    K >= 3.

    Example:
        >>> dlr(torch.tensor([[4.0, 1.0, 0.0]]), torch.tensor([0]))
        tensor([-0.7500])
    """
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


@dataclass(frozen=True)
class _Constant:
    """The same target class for every sample."""

    target: int

    def __call__(self, clean_logits: Tensor, y: Tensor) -> Tensor:
        return torch.full_like(y, self.target)


def least_likely(clean_logits: Tensor, y: Tensor) -> Tensor:
    """The class with the least clean logit (Kurakin et al., 2017)."""
    return _without(clean_logits, y, torch.inf).argmin(1)


def runner_up(clean_logits: Tensor, y: Tensor) -> Tensor:
    """The most likely class other than the true one."""
    return _without(clean_logits, y, -torch.inf).argmax(1)


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
    return Anchored(_Toward(gain), _Constant(to) if isinstance(to, int) else to)


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
        return _without(clean_logits, y, -torch.inf).topk(self.rank, dim=1).indices[:, -1]


def _dlr_target(logits: Tensor, pair: Tensor) -> Tensor:
    y, target = pair[:, :1], pair[:, 1:]
    top = logits.topk(4, dim=1).values
    width = (top[:, 0] - 0.5 * (top[:, 2] + top[:, 3])).clamp_min(torch.finfo(logits.dtype).tiny)
    return (logits.gather(1, target) - logits.gather(1, y))[:, 0] / width


@dataclass(frozen=True)
class _Pair:
    to: Callable[[Tensor, Tensor], Tensor]

    def __call__(self, clean_logits: Tensor, y: Tensor) -> Tensor:
        if clean_logits.shape[1] < 4:
            raise ValueError(
                f"Expected at least 4 classes for the gain `targeted_dlr`, but got {clean_logits.shape[1]}."
            )
        return torch.stack([y, self.to(clean_logits, y)], 1)


def targeted_dlr(rank: int = 1) -> Anchored:
    r"""The targeted DLR gain, :math:`-(z_y - z_t) / (z_{\pi_1} - (z_{\pi_3} + z_{\pi_4}) / 2)` (Croce & Hein, ICML
    2020, eq. 7); K >= 4.

    Args:
        rank: Which wrong class is the target t, ordered by clean logit; 1 is the runner-up. AutoAttack tries ranks 1 to
            9.
    """
    if rank < 1:
        raise ValueError(f"Expected argument `rank` to be at least 1, but got {rank}.")
    return Anchored(_dlr_target, _Pair(_Rank(rank)))
