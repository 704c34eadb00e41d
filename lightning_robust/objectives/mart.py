"""MART: misclassification-aware adversarial training."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lightning_robust._checks import choice, number
from lightning_robust.objectives._logits import FORWARDS, Forward, both_logits, kl_divergence
from lightning_robust.objectives.objective import ObjectiveBase

__all__ = ["boosted_cross_entropy", "mart"]


def boosted_cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy plus a margin term, per sample.

        BCE = -log p_y - log(1 - max_{k != y} p_k)

    The second term is computed without subtracting from one: with k* the strongest wrong class,
    1 - p_{k*} = sum_{k != k*} p_k, so that -log(1 - p_{k*}) = logsumexp(z) - logsumexp(z without k*). It stays finite,
    and keeps its gradient, for every finite z. With two classes both terms are -log p_y.

    Args:
        logits: (N, K) z, K >= 2.
        y: (N,) int64 labels.

    Returns:
        (N,).
    """
    if logits.shape[1] < 2:
        raise ValueError(f"Expected argument `logits` to have at least 2 classes, but got shape {tuple(logits.shape)}.")
    others = logits.detach().scatter(1, y[:, None], -torch.inf)
    strongest = others.argmax(dim=1, keepdim=True)
    rest = logits.scatter(1, strongest, -torch.inf)
    margin = logits.logsumexp(dim=1) - rest.logsumexp(dim=1)
    return nn.functional.cross_entropy(logits, y, reduction="none") + margin


@dataclass(frozen=True)
class mart(ObjectiveBase):  # noqa: N801 (used like a function: `mart(beta=5)`)
    """Boosted cross-entropy on adversarial images, and a divergence that counts most on misclassified clean images.

        loss = (1/N) sum_n  BCE(p(x_adv), y)  +  beta * KL( p(x) || p(x_adv) ) * (1 - p_y(x))

    with BCE as in `boosted_cross_entropy`. Wang et al., "Improving Adversarial Robustness Requires Revisiting
    Misclassified Examples" (ICLR 2020). The attack maximises the cross-entropy.

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

    beta: float = 5.0
    forward: Forward = "joint"

    def __post_init__(self) -> None:
        object.__setattr__(self, "beta", number("beta", self.beta, 0))
        choice("forward", self.forward, FORWARDS)

    def __call__(self, model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor) -> Tensor:
        """Return the loss, a scalar."""
        clean, adversarial = both_logits(model, x, x_adv, self.forward)
        log_p = clean.log_softmax(dim=1)
        wrong = -torch.expm1(log_p.gather(1, y[:, None]).squeeze(1))
        divergence = kl_divergence(log_p, adversarial.log_softmax(dim=1))
        return (boosted_cross_entropy(adversarial, y) + self.beta * divergence * wrong).mean()
