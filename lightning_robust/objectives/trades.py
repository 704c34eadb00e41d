"""TRADES: a clean loss plus a price for predictions that move under attack."""

from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from lightning_robust._checks import number
from lightning_robust.attacks._tensors import set_fields
from lightning_robust.attacks.anchored import divergence
from lightning_robust.objectives._logits import Forward
from lightning_robust.objectives.objective import TwoViews

__all__ = ["Trades", "trades"]


@dataclass(frozen=True)
class Trades(TwoViews):
    """The objective that `trades` makes."""

    beta: float = 6.0
    forward: Forward = "joint"

    def __post_init__(self) -> None:
        super().__post_init__()
        set_fields(self, beta=number("beta", self.beta, 0))

    @property
    def gain(self) -> Any:
        """The attack raises the divergence."""
        return divergence

    def loss(self, clean: Tensor, adversarial: Tensor, y: Tensor) -> Tensor:
        """Return the loss, a scalar."""
        moved = divergence(adversarial, clean.log_softmax(dim=1))
        return F.cross_entropy(clean, y) + self.beta * moved.mean()


def trades(beta: float = 6.0, forward: Forward = "joint") -> Trades:
    """Cross-entropy on clean images plus `beta` times the divergence between clean and adversarial predictions.

        loss = (1/N) sum_n  -log p_y(x)  +  beta * KL( p(x) || p(x_adv) )

    Gradients flow through both arguments of the divergence. Zhang et al., "Theoretically Principled Trade-off between
    Robustness and Accuracy" (ICML 2019). There `x_adv` maximises the same divergence: give the attack the gain
    `divergence`, for CIFAR-10 `PGD(Linf(8 / 255), steps=10, gain=divergence)` with `beta=6`, for MNIST 40 steps with
    `beta=1`.

    The authors' code runs the model on `x` and on `x_adv` separately, so that in train mode BatchNorm normalizes each
    view by its own statistics. We deviate by default: one forward of both, which costs one launch, updates running
    statistics once and keeps a model wrapped in DistributedDataParallel to a single forward. `forward="separate"` is
    the arithmetic of the authors.

    Args:
        beta: weight of the divergence, >= 0; `beta=0` is ordinary training on the clean images.
        forward: `"joint"` or `"separate"`, see above. Without layers that mix the batch, both give the same loss.
            A model whose forward also reads other fields of the batch, of N entries, needs `"separate"`.

    Raises:
        ValueError: if `beta` is negative or not finite, or `forward` is unknown.

    Example:
        >>> import torch
        >>> x, x_adv = torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 0.0]])
        >>> trades(beta=6.0)(torch.nn.Identity(), x, x_adv, torch.tensor([1]))  # log 2 + 6 * 0.1201
        tensor(1.4138)
    """
    return Trades(beta, forward)
