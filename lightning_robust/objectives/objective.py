"""The type of an objective, the training loss, and what the objectives of both views of a batch share."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeAlias

from torch import Tensor, nn

from lightning_robust._checks import choice
from lightning_robust.objectives._logits import FORWARDS, Forward, both_logits, labels_of

__all__ = ["Objective", "ObjectiveBase", "TwoViews"]


class ObjectiveBase(ABC):
    """An objective with settings. LightningCLI lists the subclasses, and knows them by their bare names."""

    @property
    def gain(self) -> Any:
        """The gain (attack loss) that the method's attack raises; None: any gain of the labels will do."""
        return None

    @abstractmethod
    def __call__(self, model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor) -> Tensor:
        """Return the loss, a scalar."""


class TwoViews(ObjectiveBase):
    """An objective of class labels and the logits of both views, clean and adversarial."""

    forward: Forward

    def __post_init__(self) -> None:
        choice("forward", self.forward, FORWARDS)

    def __call__(self, model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor) -> Tensor:
        """Return the loss, a scalar."""
        clean, adversarial = both_logits(model, x, x_adv, self.forward)
        return self.loss(clean, adversarial, labels_of(clean, y, type(self).__name__.lower()))

    @abstractmethod
    def loss(self, clean: Tensor, adversarial: Tensor, y: Tensor) -> Tensor:
        """Return the loss of the logits (N, K) of both views, a scalar; y: (N,) int64, or (N, K) probabilities."""


Objective: TypeAlias = ObjectiveBase | Callable[[nn.Module, Tensor, Tensor, Tensor], Any]
"""`objective(model, x, x_adv, y) -> loss`.

`model` maps images to logits (N, K); `x` (N, C, H, W) are clean images, `x_adv` (N, C, H, W) adversarial ones, already
detached; `y` are labels, as the batch has them; `loss` is the training loss, a scalar with a gradient to the weights.

The objectives here take class labels: integers of any type, (N,) or (N, 1), or probabilities (N, K), as Mixup and
CutMix make them, for which the loss is its expectation over the labels. For labels of any other kind (one logit, yes/no
labels, dense labels, regression) the loss is your own.

An objective may have an attribute `gain`: the gain (attack loss) that belongs to it, as `divergence` to `trades`.

An objective calls the model in the mode in which it finds it, keeps no state, and should pickle, so that it reaches
the processes of `strategy="ddp_spawn"`: a function at the top of a module, or a frozen dataclass with `__call__`.

A function returns a `Tensor`; it is written as `Any` because jsonargparse, and with it LightningCLI, reads a class in
this place as "a factory of such objects" and then refuses a function.
"""
