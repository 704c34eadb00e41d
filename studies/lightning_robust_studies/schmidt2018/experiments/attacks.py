"""What else attacks a model in the study of sample complexity: other models, and what passes its threshold filters."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lightning_robust import Attack
from lightning_robust._lightning import pl
from lightning_robust.attacks import Context, Outcome
from lightning_robust.attacks.attack import NO_CONTEXT
from lightning_robust.models import Bpda
from lightning_robust_studies.schmidt2018.threshold import ThresholdFilters


def unchanged(model: Any, x: Tensor, y: Tensor) -> Tensor:
    """The attack of radius 0."""
    return x


@dataclass(frozen=True, eq=False)
class Transferred(Attack):
    """The adversarial examples of another model.

    Args:
        attack: on the other model.
        source: the other model, in evaluation mode; it is moved to the device of the images.
    """

    attack: Attack
    source: Any

    def run(self, model: Any, x: Tensor, y: Any, context: Context = NO_CONTEXT) -> Outcome:
        """Attack the other model."""
        with torch.inference_mode(False):  # what is moved within inference mode could not be differentiated
            source = self.source.to(x.device)
        return Outcome(self.attack.run(source, x, y, context).x_adv)


def passing(module: pl.LightningModule) -> pl.LightningModule:
    """A copy of a module whose threshold filters let gradients through."""
    copied = copy.deepcopy(module).eval()
    for parent in list(copied.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, ThresholdFilters):
                setattr(parent, name, Bpda(child, child.linear))
    return copied


def has_thresholds(module: nn.Module) -> bool:
    """Does the module begin with, or contain, threshold filters?"""
    return any(isinstance(part, ThresholdFilters) for part in module.modules())
