"""Adversarial logit pairing."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from lightning_robust._checks import number
from lightning_robust.attacks._tensors import set_fields
from lightning_robust.objectives._logits import Forward
from lightning_robust.objectives.objective import TwoViews

__all__ = ["Alp", "alp"]


@dataclass(frozen=True)
class Alp(TwoViews):
    """The objective that `alp` makes."""

    weight: float = 0.5
    forward: Forward = "joint"

    def __post_init__(self) -> None:
        super().__post_init__()
        set_fields(self, weight=number("weight", self.weight, 0))

    def loss(self, clean: Tensor, adversarial: Tensor, y: Tensor) -> Tensor:
        """Return the loss, a scalar."""
        pairing = F.mse_loss(adversarial, clean)
        return (F.cross_entropy(clean, y) + F.cross_entropy(adversarial, y)) / 2 + self.weight * pairing


def alp(weight: float = 0.5, forward: Forward = "joint") -> Alp:
    """Half clean, half adversarial cross-entropy, and a price for logits that move under attack.

        loss = (CE(x, y) + CE(x_adv, y)) / 2  +  weight * (1/(N K)) sum_n ||z(x) - z(x_adv)||_2^2

    with logits z. Kannan, Kurakin and Goodfellow, "Adversarial Logit Pairing" (2018). The paper writes an unspecified
    distance between logits; we take the mean of squared differences over samples and classes. The method is here for
    comparison: Engstrom et al., "Evaluating and Understanding the Robustness of Adversarial Logit Pairing" (2018) show
    that pairing can hide gradients from the attack, so evaluate with many steps and restarts.

    Args:
        weight: weight of the pairing, >= 0; `weight=0` is `mixed(0.5)`.
        forward: `"joint"` runs the model once on [x; x_adv], `"separate"` twice; see `trades`.

    Raises:
        ValueError: if `weight` is negative or not finite, or `forward` is unknown.

    Example:
        >>> import torch
        >>> x, x_adv = torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 0.0]])
        >>> alp(0.5)(torch.nn.Identity(), x, x_adv, torch.tensor([1]))  # (log 2 + log(1 + e)) / 2 + 0.5 * 0.5
        tensor(1.2532)
    """
    return Alp(weight, forward)
