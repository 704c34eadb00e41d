"""The training schemes of the manifold study: each is an attack on a share of every batch, or none."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from lightning_robust import PGD, AdversarialTraining, Attack, Threat
from lightning_robust._lightning import pl
from lightning_robust.attacks import RandomPerturbation, in_turn
from lightning_robust.cells.errors import StudyArgumentError


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


@dataclass(frozen=True)
class Scheme:
    """How to train: an attack on the last samples of each batch.

    Args:
        attack: `(threats, steps) -> attack`; None trains on clean images alone.
        fraction: the share of each batch that is attacked.
        code: where in the batch the true codes are; None keeps them from the attack, as learned manifolds need it.
        manifold: the learned manifold it needs: "class", "data" or none.
    """

    attack: Callable[[Threats, int], Attack] | None = None
    fraction: float = 0.5
    code: int | None = None
    manifold: str | None = None

    def callbacks(self, threats: Threats, steps: int) -> list[pl.Callback]:
        """What the Trainer is given.

        Args:
            threats: what to train against.
            steps: of the attack.
        """
        if self.attack is None:
            return []
        return [AdversarialTraining(self.attack(threats, steps), fraction=self.fraction, code=self.code)]

    def whole(self) -> "Scheme":
        """The same with every sample attacked."""
        return replace(self, fraction=1.0)


def _off(threats: Threats, steps: int) -> Attack:
    return PGD(threats.pixels, steps)


def _on_true(threats: Threats, steps: int) -> Attack:
    return PGD(_known(threats.on_true, "on_true"), steps)


def _on_class(threats: Threats, steps: int) -> Attack:
    return PGD(_known(threats.on_class, "on_class"), steps)


def _on_data(threats: Threats, steps: int) -> Attack:
    return PGD(_known(threats.on_data, "on_data"), steps)


def _maps(threats: Threats, steps: int) -> Attack:
    return PGD(threats.transformations, steps)


def _random_maps(threats: Threats, steps: int) -> Attack:
    return RandomPerturbation(threats.transformations)


def _random_codes(threats: Threats, steps: int) -> Attack:
    return RandomPerturbation(_known(threats.on_true, "on_true"))


def _random_class_codes(threats: Threats, steps: int) -> Attack:
    return RandomPerturbation(_known(threats.on_class, "on_class"))


def _random_pixels(threats: Threats, steps: int) -> Attack:
    return RandomPerturbation(threats.pixels)


def _off_and(other: Callable[[Threats, int], Attack]) -> Callable[[Threats, int], Attack]:
    return lambda threats, steps: in_turn(_off(threats, steps), other(threats, steps))


def _known(threat: Threat | None, name: str) -> Threat:
    if threat is None:
        raise StudyArgumentError(
            f"Expected argument `threats` to hold the manifold that this scheme needs, {name}, but got none."
        )
    return threat


_HALF: Mapping[str, Scheme] = {
    "normal": Scheme(),
    "adversarial": Scheme(_off),
    "on-true": Scheme(_on_true, code=2),
    "on-learned-class": Scheme(_on_class, manifold="class"),
    "on-learned-data": Scheme(_on_data, manifold="data"),
    "augmentation": Scheme(_random_maps),
    "transformations": Scheme(_maps),
    "random-on-true": Scheme(_random_codes, code=2),
    "random-on-learned-class": Scheme(_random_class_codes, manifold="class"),
    "random-pixels": Scheme(_random_pixels),
    "off-and-on-true": Scheme(_off_and(_on_true), code=2),
    "off-and-on-learned-class": Scheme(_off_and(_on_class), manifold="class"),
    "off-and-transformations": Scheme(_off_and(_maps)),
}

SCHEMES: Mapping[str, Scheme] = {
    **_HALF,
    **{f"{name}-100": scheme.whole() for name, scheme in _HALF.items() if scheme.attack is not None},
}
"""All schemes by name. Half of each batch is attacked; all of it where the name ends in `-100`."""
