"""The training schemes of the manifold study: each is an attack on a share of every batch, or none."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lightning_robust import PGD, AdversarialTraining, AffineSpace, Attack, LatentSpace, Linf, Threat
from lightning_robust._lightning import pl
from lightning_robust.attacks import Ball, Noise, Outcome
from lightning_robust.manifolds import FontsManifold, Manifold
from lightning_robust.studies.errors import StudyArgumentError


@dataclass(frozen=True)
class RandomPerturbation(Attack):
    r"""A random point of the perturbation set, where an attack would seek the worst: data augmentation.

    .. math:: x' = \mathrm{decode}(\delta), \qquad \delta \sim U(B), \text{ clipped to the bounds of the space}

    In pixels, in codes or in affine parameters, as the threat says. (The code of Stutz et al. adds no identity to the
    affine parameters, so that its augmentation always shrinks the image; ours does not.)

    Args:
        threat: the perturbation set.
        seed: of the draw, together with the content of the sample and the key of the call.

    Example:
        >>> x, y = torch.full((2, 1, 4, 4), 0.5), torch.tensor([0, 1])
        >>> moved = RandomPerturbation(Threat(Linf(0.1)))(torch.nn.Flatten(), x, y)
        >>> 0 < float((moved - x).abs().max()) <= 0.1
        True
    """

    threat: Threat
    seed: int = 0

    def run(self, model: Any, x: Tensor, y: Tensor, *, code: Any = None, key: int = 0) -> Outcome:
        """Draw once; the model is not asked."""
        with torch.no_grad():
            chart = self.threat.space.chart(x, y, code)
            delta = chart.clip(self.threat.ball.sample(Noise.of(x, self.seed, key), chart.zero))
            return Outcome(chart.emit(delta), delta)


@dataclass(frozen=True)
class InTurn(Attack):
    """One attack on the first half of the samples it is given, another on the second half.

    With half of each batch clean, this is the combined scheme of Stutz et al.: 1/2 clean, 1/4 off, 1/4 on the manifold.

    Args:
        first: the attack on the first half; the smaller one where the number of samples is odd.
        second: the attack on the rest.
    """

    first: Attack
    second: Attack

    def run(self, model: Any, x: Tensor, y: Tensor, *, code: Any = None, key: int = 0) -> Outcome:
        """Run both, each on its part."""
        middle = len(x) // 2
        parts = [
            attack.run(model, x[rows], y[rows], code=_take(code, rows), key=key).x_adv
            for attack, rows in ((self.first, slice(middle)), (self.second, slice(middle, None)))
            if len(x[rows])
        ]
        return Outcome(torch.cat(parts))


def _take(code: Any, rows: slice) -> Any:
    if code is None or isinstance(code, Tensor):
        return None if code is None else code[rows]
    return tuple(part[rows] for part in code)


@dataclass(frozen=True, kw_only=True)
class Threats:
    """What the schemes train against.

    Args:
        pixels: off the manifold.
        on_true: along the true manifold; takes the codes that the batch brings.
        transformations: affine maps of the image.
        on_class: along a manifold learned for each class; None where none is.
        on_data: along a manifold learned for all classes together; None where none is.
    """

    pixels: Threat
    on_true: Threat
    transformations: Threat
    on_class: Threat | None = None
    on_data: Threat | None = None


def fonts_threats(
    eps: float,
    eta: float,
    *,
    eta_data: float = 0.1,
    ball: Callable[[float], Ball] = Linf,
    on_class: Manifold | None = None,
    on_data: Manifold | None = None,
) -> Threats:
    """The threats of the study on the Fonts data, "hard".

    Args:
        eps: radius in pixels; images in [0, 1].
        eta: radius in affine parameters, true codes and codes of the manifold for each class.
        eta_data: radius in codes of the manifold for all classes.
        ball: the norm, `Linf` or `L2`.
        on_class: the manifold learned for each class.
        on_data: the one learned for all.
    """
    manifold = FontsManifold("hard")
    box = manifold.ranges
    maps = AffineSpace(translation=box.translation, shear=box.shear, scale=box.scale, rotation=box.rotation)
    return Threats(
        pixels=Threat(ball(eps)),
        on_true=Threat(ball(eta), LatentSpace(manifold)),
        transformations=Threat(ball(eta), maps),
        on_class=None if on_class is None else Threat(ball(eta), LatentSpace(on_class)),
        on_data=None if on_data is None else Threat(ball(eta_data), LatentSpace(on_data)),
    )


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
    return PGD(threats.on_true, steps)


def _on_class(threats: Threats, steps: int) -> Attack:
    return PGD(_learned(threats.on_class, "class"), steps)


def _on_data(threats: Threats, steps: int) -> Attack:
    return PGD(_learned(threats.on_data, "data"), steps)


def _maps(threats: Threats, steps: int) -> Attack:
    return PGD(threats.transformations, steps)


def _random_maps(threats: Threats, steps: int) -> Attack:
    return RandomPerturbation(threats.transformations)


def _random_codes(threats: Threats, steps: int) -> Attack:
    return RandomPerturbation(threats.on_true)


def _random_pixels(threats: Threats, steps: int) -> Attack:
    return RandomPerturbation(threats.pixels)


def _off_and(other: Callable[[Threats, int], Attack]) -> Callable[[Threats, int], Attack]:
    return lambda threats, steps: InTurn(_off(threats, steps), other(threats, steps))


def _learned(threat: Threat | None, kind: str) -> Threat:
    if threat is None:
        raise StudyArgumentError(
            f"Expected argument `threats` to hold a learned manifold for this scheme, on_{kind}, but got none."
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
