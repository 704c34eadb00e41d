"""The attacks of the study: those that measure accuracy, and those that find out if white-box PGD can be believed."""

import copy
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lightning_robust import PGD, Attack, Linf, PixelSpace, Threat, worst_of
from lightning_robust.attacks import Context, Outcome, RandomSearch, margin
from lightning_robust.learning_curves import unmasked
from lightning_robust.models import Bpda
from lightning_robust_studies.schmidt2018.threshold import ThresholdFilters


@dataclass(frozen=True, eq=False)
class Transferred(Attack):
    """The adversarial examples of another model.

    Args:
        attack: The attack on the other model.
        source: The other model, in evaluation mode; it is moved to the device of the images.
    """

    attack: Attack
    source: Any

    def run(self, model: Any, x: Tensor, y: Any, context: Context = Context()) -> Outcome:  # noqa: B008  frozen
        """Attack the other model."""
        with torch.inference_mode(False):  # what is moved within inference mode cannot be differentiated
            source = self.source.to(x.device)
        return Outcome(self.attack.run(source, x, y, context).x_adv)


@dataclass(frozen=True, kw_only=True)
class Attacks:
    """The attacks on the images of a problem, at any radius.

    Args:
        low: The least value of a pixel.
        high: The greatest.
        train_steps: Steps of PGD in training.
        test_steps: Steps of PGD in evaluation.
        restarts: Random starts of it.
        attacks: "pgd", or "worst" for the worst case over PGD on the log-odds, PGD on the margin and a random search.
        queries: Queries of the random search.
        own_inputs: Does the problem say how a module is called? Then other modules cannot be attacked instead.
    """

    low: float
    high: float
    train_steps: int
    test_steps: int
    restarts: int
    attacks: Literal["pgd", "worst"]
    queries: int
    own_inputs: bool = field(default=False, repr=False)

    def threat(self, eps: float) -> Threat:
        """The perturbation set of a radius."""
        return Threat(Linf(eps), PixelSpace(self.low, self.high))

    def pgd(self, eps: float, **changes: Any) -> PGD:
        """PGD as the evaluation uses it, but for `changes`."""
        return PGD(
            self.threat(eps),
            self.test_steps,
            rel_step_size=2.5 / self.test_steps,
            restarts=self.restarts,
            keep="best",
            **changes,
        )

    def training(self, eps: float) -> PGD:
        """The attack of training and of validation in training."""
        return PGD(self.threat(eps), self.train_steps, rel_step_size=2.5 / self.train_steps)

    def evaluation(self, eps: float, module: nn.Module) -> Attack:
        """The attack of the evaluation; with threshold filters, which mislead white-box PGD, also through them."""
        attack: Attack = self.pgd(eps)
        if self.attacks == "worst":
            search = RandomSearch(self.threat(eps), self.queries)
            attack = worst_of(attack, self.pgd(eps, gain=margin, seed=1), search)
        if self.own_inputs or not has_thresholds(module):
            return attack
        return worst_of(attack, Transferred(self.pgd(eps), passing(module)))

    def suspicious(self, eps: float, module: nn.Module, plain: nn.Module | None) -> dict[str, Attack]:
        """Attacks by name that no part of a module misleads; those on the `plain` network are transferred."""
        attacks = unmasked(self.pgd(eps), eps, self.queries)
        if not self.own_inputs:
            attacks |= {"transfer": Transferred(self.pgd(eps), plain)} if plain is not None else {}
            if has_thresholds(module):
                attacks["substitute gradients"] = Transferred(self.pgd(eps), passing(module))
        return attacks


def passing(module: nn.Module) -> nn.Module:
    """A copy of a module whose threshold filters let gradients through."""
    copied = copy.deepcopy(module).eval()
    for parent in list(copied.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, ThresholdFilters):
                setattr(parent, name, Bpda(child, child.linear))
    return copied


def has_thresholds(module: nn.Module) -> bool:
    """Does the module contain threshold filters?"""
    return any(isinstance(part, ThresholdFilters) for part in module.modules())
