"""The type of an objective: what the learner lowers."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeAlias

from torch import Tensor, nn

__all__ = ["Objective", "ObjectiveBase"]


class ObjectiveBase(ABC):
    """An objective with settings. LightningCLI lists the subclasses, and knows them by their bare names."""

    @property
    def gain(self) -> Any:
        """The gain that the attack raises where the method says so; None: any gain of the labels will do."""
        return None

    @abstractmethod
    def __call__(self, model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor) -> Tensor:
        """Return the loss, a scalar."""


Objective: TypeAlias = ObjectiveBase | Callable[[nn.Module, Tensor, Tensor, Tensor], Any]
"""`objective(model, x, x_adv, y) -> loss`.

`model` maps images to logits (N, K); `x` (N, C, H, W) are clean images, `x_adv` (N, C, H, W) adversarial ones, already
detached; `y` are labels, as the batch has them; `loss` is a scalar that carries a gradient to the weights.

The objectives here take class labels: integers of any type, (N,) or (N, 1), or probabilities (N, K), as Mixup and
CutMix make them, for which the loss is its expectation over the labels. For labels of any other kind (one logit, yes/no
labels, dense labels, regression) the loss is your own.

An objective may have an attribute `gain`, which tells which gain of the attack belongs to it, as `divergence` belongs
to `trades`.

An objective calls the model in the mode in which it finds it, keeps no state, and should pickle, so that it reaches
the processes of `strategy="ddp_spawn"`: a function at the top of a module, or a frozen dataclass with `__call__`.

A function returns a `Tensor`; it is written as `Any` because jsonargparse, and with it LightningCLI, reads a class in
this place as "a factory of such objects" and then refuses a function.
"""
