"""MART: misclassification-aware adversarial training."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_robust._checks import number
from lightning_robust.attacks._tensors import set_fields
from lightning_robust.attacks.anchored import divergence
from lightning_robust.attacks.labels import class_labels
from lightning_robust.objectives._logits import Forward
from lightning_robust.objectives.objective import TwoViews

__all__ = ["Mart", "boosted_cross_entropy", "mart"]


def boosted_cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy plus a margin term, per sample.

        BCE = -log p_y - log(1 - max_{k != y} p_k)

    The second term is computed without subtracting from one: with k* the strongest wrong class,
    1 - p_{k*} = sum_{k != k*} p_k, so that -log(1 - p_{k*}) = logsumexp(z) - logsumexp(z without k*). It stays finite,
    and keeps its gradient, for every finite z. With two classes both terms are -log p_y.

    Args:
        logits: (N, K) z, K >= 2.
        y: class labels: integers (N,) or (N, 1), or probabilities (N, K), for which it is the expectation.

    Returns:
        (N,).
    """
    q = _probabilities(logits, class_labels(logits, y, "`boosted_cross_entropy`"))
    first = logits.argmax(dim=1, keepdim=True)
    second = logits.scatter(1, first, -torch.inf).argmax(dim=1, keepdim=True)
    # The strongest wrong class is the first, and the second where the first is right.
    q_first = q.gather(1, first).squeeze(1)
    rest = [logits.scatter(1, strongest, -torch.inf).logsumexp(dim=1) for strongest in (first, second)]
    whole = logits.logsumexp(dim=1)
    margin = (q.sum(dim=1) - q_first) * (whole - rest[0]) + q_first * (whole - rest[1])
    return F.cross_entropy(logits, q, reduction="none") + margin


def _probabilities(logits: Tensor, labels: Tensor) -> Tensor:
    """(N, K); a label that is an integer has probability one."""
    return labels if labels.ndim == 2 else F.one_hot(labels, logits.shape[1]).to(logits.dtype)


@dataclass(frozen=True)
class Mart(TwoViews):
    """The objective that `mart` makes."""

    beta: float = 5.0
    forward: Forward = "joint"

    def __post_init__(self) -> None:
        super().__post_init__()
        set_fields(self, beta=number("beta", self.beta, 0))

    def loss(self, clean: Tensor, adversarial: Tensor, y: Tensor) -> Tensor:
        """Return the loss, a scalar."""
        log_p, q = clean.log_softmax(dim=1), _probabilities(clean, y)
        wrong = -(q * torch.expm1(log_p)).sum(dim=1)
        moved = divergence(adversarial, log_p)
        return (boosted_cross_entropy(adversarial, q) + self.beta * moved * wrong).mean()


def mart(beta: float = 5.0, forward: Forward = "joint") -> Mart:
    """Boosted cross-entropy on adversarial images, and a divergence that counts most on misclassified clean images.

        loss = (1/N) sum_n  BCE(p(x_adv), y)  +  beta * KL( p(x) || p(x_adv) ) * (1 - p_y(x))

    with BCE as in `boosted_cross_entropy`. Wang et al., "Improving Adversarial Robustness Requires Revisiting
    Misclassified Examples" (ICLR 2020). The attack raises the cross-entropy. For labels that are probabilities the
    loss is its expectation over the labels.

    We deviate from the authors' code in two ways. It adds small constants inside its logarithms (1e-4 and 1e-12),
    which bound the margin term by 9.2 and end its gradient there; ours is exact, in float32, and grows with the logits
    as cross-entropy does. And it runs the model on `x` and `x_adv` separately, which is `forward="separate"` here; see
    `trades`.

    Args:
        beta: weight of the divergence, >= 0. The authors use 5 (ResNet-18) and 6.
        forward: `"joint"` or `"separate"`.

    Raises:
        ValueError: if `beta` is negative or not finite, or `forward` is unknown.

    Example:
        >>> import torch
        >>> x, x_adv = torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 0.0]])
        >>> mart(beta=5.0)(torch.nn.Identity(), x, x_adv, torch.tensor([1]))  # 2 log(1 + e) + 5 * 0.1201 * 0.5
        tensor(2.9268)
    """
    return Mart(beta, forward)
