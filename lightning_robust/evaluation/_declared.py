"""The perturbation sets that the attacks of an evaluation declare, as far as the engine asks for them."""

from collections.abc import Iterable

import torch
from torch import Tensor

from lightning_robust.attacks._combined import Combined
from lightning_robust.attacks.attack import Attack
from lightning_robust.attacks.ball import Ball
from lightning_robust.attacks.threats import Threat, as_threat
from lightning_robust.evaluation._described import described


def declared(attack: Attack) -> tuple[Threat, ...] | None:
    """The sets in one of which every result of an attack has to be; None where it declares none."""
    if isinstance(attack, Combined):
        parts = [declared(part) for part in attack.parts]
        return None if None in parts else tuple(threat for part in parts if part for threat in part)
    threat = getattr(attack, "threat", None)
    return (as_threat(threat),) if isinstance(threat, Threat | Ball) else None


def is_nothing(attack: Attack) -> bool:
    """Is the clean input all that the attack may return?"""
    threats = declared(attack)
    return threats is not None and all(not torch.as_tensor(threat.ball.radius).any() for threat in threats)


def threats_of(attacks: Iterable[Attack]) -> list[Threat]:
    """The perturbation sets that attacks declare, each once, in their order; none where no attack tells."""
    found: list[Threat] = []
    for threat in (threat for attack in attacks for threat in declared(attack) or ()):
        if not any(same_threat(threat, other) for other in found):
            found.append(threat)
    return found


def common_threat(attacks: Iterable[Attack]) -> Threat | None:
    """The one perturbation set of several attacks; None where they have several, or one of them does not tell."""
    each = [declared(attack) for attack in attacks]
    first = each[0]
    return first[0] if first and len(first) == 1 and all(_same(first, some) for some in each) else None


def _same(some: tuple[Threat, ...], other: tuple[Threat, ...] | None) -> bool:
    """Are they the same sets in the same order?"""
    return other is not None and len(other) == len(some) and all(map(same_threat, some, other))


def same_threat(one: Threat, other: Threat) -> bool:
    """Radii that are tensors cannot be compared by `==`; their texts say what they are, but for one of each sample."""
    return one is other or (not _by_sample((one,)) and described(one) == described(other))


def _by_sample(threats: tuple[Threat, ...]) -> bool:
    return any(isinstance(threat.ball.radius, Tensor) and threat.ball.radius.ndim for threat in threats)


def per_sample_radius(attack: Attack) -> bool:
    """Has the attack a radius for each sample of a batch? Such a batch cannot be cut or joined."""
    return _by_sample(declared(attack) or ())
