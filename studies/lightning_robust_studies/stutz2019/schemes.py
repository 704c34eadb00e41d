"""The training schemes of the manifold study: each is an attack on a share of every batch, or none."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from lightning_robust import PGD, AdversarialTraining, Attack, Threat
from lightning_robust._lightning import pl
from lightning_robust.attacks import RandomPerturbation, in_turn
from lightning_robust.objectives import Objective, mixed
from lightning_robust_studies.stutz2019.kinds import KINDS, along


@dataclass(frozen=True, kw_only=True)
class Threats:
    """What the schemes train against.

    Args:
        pixels: off the manifold.
        transformations: affine maps of the image.
        on_true: along the true manifold; takes the codes that the batch brings. None where it is not known.
        learned: along learned manifolds, by their names.
    """

    pixels: Threat
    transformations: Threat
    on_true: Threat | None = None
    learned: Mapping[str, Threat] = field(default_factory=dict)

    def known(self, name: str) -> Threat:
        """The threat of a name: "pixels", "transformations", "on_true" or a learned manifold.

        Raises:
            ValueError: there is none.
        """
        threat: Threat | None = self.learned.get(name) if name in KINDS else getattr(self, name)
        if threat is None:
            raise ValueError(
                f"Expected argument `threats` to hold the manifold that this scheme needs, {name}, but got none."
            )
        return threat


@dataclass(frozen=True)
class Scheme:
    """How to train: an attack on the last samples of each batch.

    Args:
        attack: `(threats, steps) -> attack`; None trains on clean images alone.
        fraction: share of each batch that is attacked.
        code: where in the batch the true codes are; None keeps them from the attack, as learned manifolds need it.
        manifold: learned manifold that it needs, or none.
        objective: the loss of images and their adversarial examples; None: the cross-entropy of the mixed batch.
        network: the classifier.
        passes: how many times the passes of other schemes it makes.
        decay: factor of the learning rate after each pass; None: that of the settings.
    """

    attack: Callable[[Threats, int], Attack] | None = None
    fraction: float = 0.5
    code: int | None = None
    manifold: str | None = None
    objective: Objective | None = None
    network: Literal["standard", "resnet"] = "standard"
    passes: int = 1
    decay: float | None = None

    def callbacks(self, threats: Threats, steps: int) -> list[pl.Callback]:
        """The callbacks of the Trainer, with attacks of `steps` steps within `threats`."""
        if self.attack is None:
            return []
        attack = self.attack(threats, steps)
        return [AdversarialTraining(attack, objective=self.objective, fraction=self.fraction, code=self.code)]


def _pgd(name: str) -> Callable[[Threats, int], Attack]:
    return lambda threats, steps: PGD(threats.known(name), steps, rel_step_size=2.5 / steps)


def _random(name: str) -> Callable[[Threats, int], Attack]:
    return lambda threats, _: RandomPerturbation(threats.known(name))


def _off_and(name: str) -> Callable[[Threats, int], Attack]:
    return lambda threats, steps: in_turn(
        *(PGD(threat, steps, rel_step_size=2.5 / steps) for threat in (threats.pixels, threats.known(name)))
    )


_ALONG: Mapping[str, Scheme] = {along(name): Scheme(_pgd(name), manifold=name) for name in KINDS}
_HALF: Mapping[str, Scheme] = {
    "normal": Scheme(),
    "adversarial": Scheme(_pgd("pixels")),
    "on-true": Scheme(_pgd("on_true"), code=2),
    **_ALONG,
    "augmentation": Scheme(_random("transformations")),
    "transformations": Scheme(_pgd("transformations")),
    "random-on-true": Scheme(_random("on_true"), code=2),
    "random-on-learned-class": Scheme(_random("class"), manifold="class"),
    "random-pixels": Scheme(_random("pixels")),
    "off-and-on-true": Scheme(_off_and("on_true"), code=2),
    "off-and-on-learned-class": Scheme(_off_and("class"), manifold="class"),
    "off-and-transformations": Scheme(_off_and("transformations")),
}

SCHEMES: Mapping[str, Scheme] = {
    **_HALF,
    **{f"{name}-100": replace(scheme, fraction=1.0) for name, scheme in _HALF.items() if scheme.attack is not None},
    **{f"{name}-both": replace(scheme, fraction=1.0, objective=mixed()) for name, scheme in _ALONG.items()},
    **{f"{n}-resnet": replace(_HALF[n], network="resnet", passes=4, decay=0.95) for n in ("normal", "adversarial")},
}
"""All schemes by name. Half of each batch is attacked, the other half is clean. All of it is attacked where the name
ends in `-100`. It ends in `-both` where each image stands beside its own adversarial example, and the loss is the mean
of both: half of what is seen is clean, as otherwise, at twice the cost. It ends in `-resnet` for a residual network,
four times the passes and the paper's decay of the learning rate, as in the paper's experiment on claim 4."""
