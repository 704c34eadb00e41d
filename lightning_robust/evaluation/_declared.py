"""The perturbation sets that the attacks of an evaluation declare, as far as the engine asks for them."""

from collections.abc import Iterable

from torch import Tensor

from lightning_robust.attacks.attack import Attack
from lightning_robust.attacks.threats import Threat
from lightning_robust.evaluation._described import described
from lightning_robust.evaluation._suspicions import declared


def common_threat(attacks: Iterable[Attack]) -> Threat | None:
    """The one perturbation set of several attacks; None where they have several, or one of them does not tell."""
    each = [declared(attack) for attack in attacks]
    first = each[0]
    return first[0] if first and len(first) == 1 and all(_same(first, some) for some in each) else None


def _same(some: tuple[Threat, ...], other: tuple[Threat, ...] | None) -> bool:
    """Radii that are tensors cannot be compared by `==`; their texts say what they are."""
    return other is some or (other is not None and not _by_sample(some) and described(other) == described(some))


def _by_sample(threats: tuple[Threat, ...]) -> bool:
    return any(isinstance(threat.ball.radius, Tensor) and threat.ball.radius.ndim for threat in threats)


def per_sample_radius(attack: Attack) -> bool:
    """Has the attack a radius for each sample of a batch? Such a batch cannot be cut or joined."""
    return _by_sample(declared(attack) or ())
