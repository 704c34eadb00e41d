"""A convex combination of the clean and the adversarial loss."""

from dataclasses import dataclass

from torch import Tensor, nn

from lightning_robust._checks import choice, number
from lightning_robust.objectives._logits import FORWARDS, Forward, both_logits, labels_of
from lightning_robust.objectives.objective import ObjectiveBase

__all__ = ["Mixed", "mixed"]


@dataclass(frozen=True)
class Mixed(ObjectiveBase):
    """The objective that `mixed` makes."""

    weight: float = 0.5
    forward: Forward = "joint"

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", number("weight", self.weight, 0, 1))
        choice("forward", self.forward, FORWARDS)

    def __call__(self, model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor) -> Tensor:
        """Return the loss, a scalar."""
        clean, adversarial = both_logits(model, x, x_adv, self.forward)
        cross_entropy, y = nn.functional.cross_entropy, labels_of(clean, y, "mixed")
        return (1 - self.weight) * cross_entropy(clean, y) + self.weight * cross_entropy(adversarial, y)


def mixed(weight: float = 0.5, forward: Forward = "joint") -> Mixed:
    """Cross-entropy on clean and on adversarial images, weighted.

        loss = (1 - weight) * CE(x, y) + weight * CE(x_adv, y)

    Goodfellow et al., "Explaining and Harnessing Adversarial Examples" (ICLR 2015), section 6. Where `fraction` of
    `AdversarialTraining` attacks a part of each batch, this objective uses every image twice: the batch is doubled.

    Args:
        weight: weight of the adversarial loss, in [0, 1].
        forward: `"joint"` runs the model once on [x; x_adv], so that the two halves share the statistics of BatchNorm
            (as in Stutz
            et al., CVPR 2019); `"separate"` runs it on `x` and then on `x_adv`.

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
