"""What the settings of attacks alone say of their strength."""

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from lightning_robust.attacks import PGD, AffineSpace, MinimumNorm, PixelSpace, RandomPerturbation, Steepest, Threat
from lightning_robust.attacks._combined import Combined
from lightning_robust.attacks.attack import Attack, Outcome
from lightning_robust.evaluation._declared import declared, is_nothing, same_threat, threats_of

Weakness = tuple[str, float]
"""The name of an indicator that is flagged, and its value."""


def is_search(attack: Attack) -> bool:
    """Does the attack ask for no gradient?"""
    if isinstance(attack, Combined):
        return all(is_search(part) for part in attack.parts)
    order = getattr(getattr(attack, "rule", None), "order", 0 if hasattr(attack, "queries") else 1)
    return bool(order == 0)


def searches_of(attacks: Mapping[str, Attack]) -> set[str]:
    """The names of searches that can be compared with the others: none where attacks have several perturbation sets."""
    alike = len(threats_of(attacks.values())) <= 1
    return {name for name, attack in attacks.items() if alike and is_search(attack)}


def asks_nothing(attack: Attack) -> bool:
    """Does it neither ask for gradients nor try every point of a grid?"""
    if isinstance(attack, Combined):
        return all(asks_nothing(part) for part in attack.parts)
    return is_search(attack) or isinstance(attack, RandomPerturbation)


def effort(attack: Attack) -> tuple[float, float]:
    """The number of steps of an attack with gradients, and how far they go together, in radii. Infinite: not known.

    Example:
        >>> from lightning_robust.attacks import Linf
        >>> effort(PGD(Linf(0.1), steps=5, rel_step_size=0.125))
        (5, 0.625)
    """
    if isinstance(attack, Combined):
        pairs = [effort(part) for part in attack.parts if not asks_nothing(part)]
        return max((steps for steps, _ in pairs), default=0), max((way for _, way in pairs), default=0.0)
    if isinstance(attack, PGD):
        # In other rules `rel_step_size` is not all that decides, or nothing.
        return attack.steps, math.fsum(attack.sizes()) if type(attack.rule) is Steepest else math.inf
    known = getattr(attack, "effort", None)  # of attacks of other packages
    return (math.inf, math.inf) if known is None else known


def weaknesses(attacks: Iterable[Attack]) -> tuple[Weakness, ...]:
    """The doubts of an evaluation that need no measurement: no attack with gradients, one step, steps that do not reach
    the surface of a ball.
    """
    made = [attack for attack in attacks if not is_nothing(attack)]
    climbing = [attack for attack in made if not asks_nothing(attack)]
    if not climbing:
        threats = threats_of(made)
        few = bool(threats) and all(isinstance(threat.space, AffineSpace) for threat in threats)
        return () if few or not made else (("no_gradients", 0.0),)
    found: list[Weakness] = []
    if max(effort(attack)[0] for attack in climbing) <= 1:
        found.append(("one_step", 1.0))
    balls = [threat for threat in threats_of(climbing) if torch.as_tensor(threat.ball.radius).any()]
    ways = [_way_within(threat, climbing) for threat in balls]
    if ways and min(ways) < 1:
        found.append(("short_steps", min(ways)))
    return tuple(found)


def _way_within(threat: Threat, attacks: list[Attack]) -> float:
    """How far the attacks within a set go together, rounded, and those that may be within it."""
    sets = [(attack, declared(attack)) for attack in attacks]
    within = [attack for attack, own in sets if own is None or any(same_threat(threat, one) for one in own)]
    return round(max(effort(attack)[1] for attack in within), 6)


def goes_far(attack: Attack) -> bool:
    """Does it go as far as it may, along gradients, in pixels? Not a search, nor one for the least norm; in spaces of
    few parameters the gain may be highest inside of the ball.
    """
    threats = declared(attack)
    if threats is None or len(threats) != 1 or type(threats[0].space) is not PixelSpace:
        return False
    if isinstance(attack, Combined):
        return all(goes_far(part) for part in attack.parts)
    others = asks_nothing(attack) or isinstance(attack, MinimumNorm)
    return not others and not getattr(attack, "gives_back", False)


def radius_used_by(attack: Attack, x: Tensor, outcome: Outcome) -> Tensor | None:
    """(N,) the norm of each perturbation as a share of what the ball and the range of pixels allow; None of an attack
    that may well stay near.

    Args:
        attack: The attack.
        x: (N, ...) clean inputs.
        outcome: Its result.
    """
    if not goes_far(attack):
        return None
    (threat,) = declared(attack) or ()
    delta = threat.space.difference(x, outcome.x_adv)
    chart = threat.space.chart(x, torch.zeros(len(x), device=x.device))
    assert chart.lower is not None
    assert chart.upper is not None
    farthest = threat.ball.norm(torch.maximum(chart.upper, -chart.lower)).double()
    radius = torch.as_tensor(threat.ball.radius, dtype=torch.float64, device=x.device)
    return threat.ball.norm(delta).double() / torch.minimum(farthest, radius.expand_as(farthest))
