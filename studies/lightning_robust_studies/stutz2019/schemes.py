"""The training schemes of the manifold study: each is an attack on a share of every batch, or none."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from lightning_robust import PGD, AdversarialTraining, Attack, Threat
from lightning_robust._lightning import pl
from lightning_robust.attacks import RandomPerturbation, in_turn


@dataclass(frozen=True, kw_only=True)
class Threats:
    """What the schemes train against.

    Args:
        pixels: off the manifold.
        transformations: affine maps of the image.
        on_true: along the true manifold; takes the codes that the batch brings. None where it is not known.
        on_class: along a manifold learned for each class; None where none is.
        on_data: along a manifold learned for all classes together; None where none is.
    """

    pixels: Threat
    transformations: Threat
    on_true: Threat | None = None
    on_class: Threat | None = None
    on_data: Threat | None = None

    def known(self, name: str) -> Threat:
        """The threat of a name.

        Raises:
            ValueError: there is none.
        """
        threat: Threat | None = getattr(self, name)
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
        manifold: learned manifold that it needs: "class", "data" or none.
    """

    attack: Callable[[Threats, int], Attack] | None = None
    fraction: float = 0.5
    code: int | None = None
    manifold: str | None = None

    def callbacks(self, threats: Threats, steps: int) -> list[pl.Callback]:
        """The callbacks of the Trainer, with attacks of `steps` steps within `threats`."""
        if self.attack is None:
            return []
        return [AdversarialTraining(self.attack(threats, steps), fraction=self.fraction, code=self.code)]


def _pgd(name: str) -> Callable[[Threats, int], Attack]:
    return lambda threats, steps: PGD(threats.known(name), steps, rel_step_size=2.5 / steps)


def _random(name: str) -> Callable[[Threats, int], Attack]:
    return lambda threats, _: RandomPerturbation(threats.known(name))


def _off_and(name: str) -> Callable[[Threats, int], Attack]:
    return lambda threats, steps: in_turn(
        *(PGD(threat, steps, rel_step_size=2.5 / steps) for threat in (threats.pixels, threats.known(name)))
    )


_HALF: Mapping[str, Scheme] = {
    "normal": Scheme(),
    "adversarial": Scheme(_pgd("pixels")),
    "on-true": Scheme(_pgd("on_true"), code=2),
    "on-learned-class": Scheme(_pgd("on_class"), manifold="class"),
    "on-learned-data": Scheme(_pgd("on_data"), manifold="data"),
    "augmentation": Scheme(_random("transformations")),
    "transformations": Scheme(_pgd("transformations")),
    "random-on-true": Scheme(_random("on_true"), code=2),
    "random-on-learned-class": Scheme(_random("on_class"), manifold="class"),
    "random-pixels": Scheme(_random("pixels")),
    "off-and-on-true": Scheme(_off_and("on_true"), code=2),
    "off-and-on-learned-class": Scheme(_off_and("on_class"), manifold="class"),
    "off-and-transformations": Scheme(_off_and("transformations")),
}

SCHEMES: Mapping[str, Scheme] = {
    **_HALF,
    **{f"{name}-100": replace(scheme, fraction=1.0) for name, scheme in _HALF.items() if scheme.attack is not None},
}
"""All schemes by name. Half of each batch is attacked; all of it where the name ends in `-100`."""
