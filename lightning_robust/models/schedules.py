"""Learning rates over time."""

from collections.abc import Callable
from dataclasses import dataclass

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from lightning_robust._checks import count, instance, number

__all__ = ["ExponentialDecay"]


@dataclass
class _Factor:
    """max(decay^(1 + step / steps_per_epoch), floor), a callable object so that the scheduler's state dict holds it."""

    steps_per_epoch: int
    decay: float
    floor: float

    def __call__(self, step: int) -> float:
        return max(self.decay ** (1 + step / self.steps_per_epoch), self.floor)


class ExponentialDecay(LambdaLR):
    """Learning rate that falls by a factor per epoch, a little at every step.

        lr_t = max( lr_0 * decay^(1 + t / steps_per_epoch), floor ),    t = 0, 1, ... steps

    The schedule of Stutz et al. (CVPR 2019) in their code: the exponent starts at one epoch, so that the first step
    already uses `decay * lr_0`. Step it after every batch (`interval="step"`).

    Args:
        optimizer: its learning rates are lr_0.
        steps_per_epoch: optimiser steps in an epoch, as a rule ceil(samples / batch size / devices).
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

    def __init__(self, optimizer: Optimizer, steps_per_epoch: int, decay: float = 0.95, floor: float = 1e-7) -> None:
        optimizer = instance("optimizer", optimizer, Optimizer, "an optimizer")
        steps_per_epoch = count("steps_per_epoch", steps_per_epoch)
        decay, floor = number("decay", decay, 0, 1, above=True), number("floor", floor, 0)
        rates = [float(group.get("initial_lr", group["lr"])) for group in optimizer.param_groups]
        factors: list[Callable[[int], float]] = [
            _Factor(steps_per_epoch, decay, floor / rate if rate > 0 else 0.0) for rate in rates
        ]
        super().__init__(optimizer, factors)
