"""Schedules: functions `(attack, progress) -> attack`, which say how hard to attack as training goes on."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from lightning_robust import _checks
from lightning_robust.attacks.attack import Attack


@dataclass(frozen=True)
class Progress:
    """How far training is when a batch is attacked.

    Args:
        epoch: Epochs done, with the fraction of the one that runs: 2.5 is half of the third. None where the training
            loader has no length.
        step: Training batches done.
    """

    epoch: float | None
    step: int


class ScheduleBase(ABC):
    """A schedule with settings. LightningCLI lists the subclasses, and knows them by their bare names."""

    @abstractmethod
    def __call__(self, attack: Attack, progress: Progress) -> Attack:
        """The attack of this moment."""


Schedule: TypeAlias = ScheduleBase | Callable[[Attack, Progress], Any]
"""`schedule(attack, progress) -> attack`.

It should pickle, so that it reaches the processes of `strategy="ddp_spawn"`: a function at the top of a module, or a
frozen dataclass. The result is an `Attack`; it is written as `Any` because jsonargparse, and with it LightningCLI,
reads a class in this place as "a factory of such objects".
"""


@dataclass(frozen=True)
class WarmUp(ScheduleBase):
    """Grow the radius linearly until it is whole.

    Args:
        epochs: How long that takes, in epochs; fractions allowed.
        steps: How long that takes, in training batches. Give exactly one of `epochs` and `steps`.
        start: The share of the radius at the beginning.

    Raises:
        ValueError: when called, if it counts epochs and the training loader has no length.

    Example:
        >>> from lightning_robust.attacks import PGD, Linf
        >>> WarmUp(epochs=4)(PGD(Linf(0.3)), Progress(epoch=1.0, step=250)).threat.ball
        Linf(eps=0.075)
        >>> WarmUp(steps=1000)(PGD(Linf(0.3)), Progress(epoch=None, step=250)).threat.ball
        Linf(eps=0.075)
    """

    epochs: float | None = None
    steps: int | None = None
    start: float = 0.0

    def __post_init__(self) -> None:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError(
                "Expected exactly one of the arguments `epochs` and `steps`, but got "
                f"epochs={self.epochs!r} and steps={self.steps!r}."
            )
        if self.epochs is not None:
            object.__setattr__(self, "epochs", _checks.number("epochs", self.epochs, 0, above=True))
        if self.steps is not None:
            object.__setattr__(self, "steps", _checks.count("steps", self.steps))
        object.__setattr__(self, "start", _checks.number("start", self.start, 0, 1))

    def __call__(self, attack: Attack, progress: Progress) -> Attack:
        """The attack with the radius of this moment."""
        done = progress.epoch if self.steps is None else progress.step
        whole = self.epochs if self.steps is None else self.steps
        if done is None or whole is None:
            raise ValueError(
                f"Expected a training loader with a length for WarmUp(epochs={self.epochs}), but got one without: its "
                "epochs cannot be divided. Count training batches instead: WarmUp(steps=...)."
            )
        share = self.start + (1 - self.start) * min(1.0, done / whole)
        return attack if share == 1.0 else attack.scaled(share)
