"""Schedules: functions `(attack, epoch) -> attack`, where the epoch may be a fraction (2.5: half of the third)."""

from collections.abc import Callable
from dataclasses import dataclass

from lightning_robust.attacks.attack import Attack

Schedule = Callable[[Attack, float], Attack]


@dataclass(frozen=True)
class WarmUp:
    """Grow the radius linearly.

    Args:
        epochs: From the start of training until the radius is whole, in epochs; fractions allowed.
        start: The share of the radius at the beginning.

    Example:
        >>> from lightning_robust.attacks import PGD, Linf
        >>> WarmUp(epochs=4)(PGD(Linf(0.3)), 1.0).threat.ball
        Linf(eps=0.075)
    """

    epochs: float
    start: float = 0.0

    def __post_init__(self) -> None:
        if not self.epochs > 0:
            raise ValueError(f"Expected argument `epochs` to be positive, but got {self.epochs}.")
        if not 0 <= self.start <= 1:
            raise ValueError(f"Expected argument `start` to be in [0, 1], but got {self.start}.")

    def __call__(self, attack: Attack, epoch: float) -> Attack:
        """The attack with the radius for this epoch."""
        share = self.start + (1 - self.start) * min(1.0, epoch / self.epochs)
        return attack if share == 1.0 else attack.scaled(share)
