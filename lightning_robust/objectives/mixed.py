"""A convex combination of the clean and the adversarial loss."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from lightning_robust._checks import number
from lightning_robust.attacks._tensors import set_fields
from lightning_robust.objectives._logits import Forward
from lightning_robust.objectives.objective import TwoViews

__all__ = ["Mixed", "mixed"]


@dataclass(frozen=True)
class Mixed(TwoViews):
    """The objective that `mixed` makes."""

    weight: float = 0.5
    forward: Forward = "joint"

    def __post_init__(self) -> None:
        super().__post_init__()
        set_fields(self, weight=number("weight", self.weight, 0, 1))

    def loss(self, clean: Tensor, adversarial: Tensor, y: Tensor) -> Tensor:
        """Return the loss, a scalar."""
        return (1 - self.weight) * F.cross_entropy(clean, y) + self.weight * F.cross_entropy(adversarial, y)


def mixed(weight: float = 0.5, forward: Forward = "joint") -> Mixed:
    """Cross-entropy on clean and on adversarial images, weighted.

        loss = (1 - weight) * CE(x, y) + weight * CE(x_adv, y)

    Goodfellow et al., "Explaining and Harnessing Adversarial Examples" (ICLR 2015), section 6. Every image
    is used twice, so the batch doubles; `AdversarialTraining(fraction=...)` attacks a part of each batch instead.

    Args:
        weight: weight of the adversarial loss, in [0, 1].
        forward: `"joint"` runs the model once on [x; x_adv], so that the two halves share the statistics of BatchNorm
            (as in Stutz et al., CVPR 2019); `"separate"` runs it on `x` and then on `x_adv`.

    Raises:
        ValueError: if `weight` is not in [0, 1] or `forward` is unknown.

    Example:
        >>> import torch
        >>> objective = mixed(0.25)
        >>> x, x_adv = torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 0.0]])
        >>> objective(torch.nn.Identity(), x, x_adv, torch.tensor([1]))  # 0.75 log 2 + 0.25 log(1 + e)
        tensor(0.8482)
    """
    return Mixed(weight, forward)
