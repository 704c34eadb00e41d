"""Learning rates over time."""

from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lightning_robust._checks import count, instance, number

__all__ = ["ExponentialDecay"]


class ExponentialDecay(LRScheduler):
    """Learning rate that falls by a factor per epoch, a little at every step.

        lr_t = max( lr_0 * decay^(1 + t / steps_per_epoch), floor ),    t = 0, 1, ... steps

    The schedule of Stutz et al. (CVPR 2019) in their code: the exponent starts at one epoch, so that the first step
    already uses `decay * lr_0`. Step it after every batch (`interval="step"`); `RobustClassifier` does.

    Args:
        optimizer: its learning rates are lr_0.
        steps_per_epoch: optimizer steps in an epoch, as a rule ceil(samples / batch size / devices).
        decay: factor per epoch, in (0, 1].
        floor: smallest learning rate.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        >>> scheduler = ExponentialDecay(optimizer, steps_per_epoch=2, decay=0.25)
        >>> rates = []
        >>> for _ in range(3):
        ...     rates += scheduler.get_last_lr()
        ...     optimizer.step()
        ...     scheduler.step()
        >>> rates
        [0.25, 0.125, 0.0625]
    """

    interval = "step"

    def __init__(self, optimizer: Optimizer, steps_per_epoch: int, decay: float = 0.95, floor: float = 1e-7) -> None:
        self.steps_per_epoch = count("steps_per_epoch", steps_per_epoch)
        self.decay, self.floor = number("decay", decay, 0, 1, above=True), number("floor", floor, 0)
        super().__init__(instance("optimizer", optimizer, Optimizer, "an optimizer"))

    def get_lr(self) -> list[Any]:
        """The rates of the present step; a rate of 0 stays 0."""
        factor = self.decay ** (1 + self.last_epoch / self.steps_per_epoch)
        return [max(rate * factor, self.floor) if rate else 0.0 for rate in self.base_lrs]
