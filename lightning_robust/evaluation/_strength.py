"""What the settings of attacks alone say of their strength."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from lightning_robust.attacks import PGD, AffineSpace, MinimumNorm, PixelSpace, RandomPerturbation, Steepest, Threat
from lightning_robust.attacks._aim import targets_among
from lightning_robust.attacks._combined import Combined
from lightning_robust.attacks.attack import Attack, Outcome
from lightning_robust.evaluation._declared import declared, is_nothing, same_threat, threats_of
from lightning_robust.evaluation._indicator import Indicator, indicator

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
    the surface of a ball, few targets (see `of_settings`).
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
    aimed = [targets_among(gain for attack in _within(threat, climbing) for gain in _gains(attack)) for threat in balls]
    least = min((targets for targets in aimed if targets is not None), default=_TARGETS)
    if least < _TARGETS:
        found.append(("few_targets", float(least)))
    return tuple(found)


def of_settings(weak: Iterable[Weakness], classes: int) -> list[Indicator]:
    """Weaknesses as indicators; targets are few where there are more wrong classes.

    Args:
        weak: As `weaknesses`.
        classes: Their number; 0: unknown, or labels are no classes.
    """
    return [indicator(*one) for one in weak if one[0] != "few_targets" or not classes or one[1] < classes - 1]


_TARGETS = 3
"""Of so many nearest classes the margins are to be raised, where no gain asks for any class."""


def _gains(attack: Attack) -> list[Any]:
    """What an attack with gradients raises; None in it: not known."""
    if isinstance(attack, Combined):
        return [gain for part in attack.parts if not asks_nothing(part) for gain in _gains(part)]
    if isinstance(attack, MinimumNorm):
        return [run.gain for run in attack._runs]
    gain = getattr(attack, "gain", None)
    return list(gain) if isinstance(gain, tuple) else [gain]


def _within(threat: Threat, attacks: list[Attack]) -> list[Attack]:
    """The attacks within a set, and those that may be."""
    sets = [(attack, declared(attack)) for attack in attacks]
    return [attack for attack, own in sets if own is None or any(same_threat(threat, one) for one in own)]


def _way_within(threat: Threat, attacks: list[Attack]) -> float:
    """How far the attacks within a set go together, rounded."""
    return round(max(effort(attack)[1] for attack in _within(threat, attacks)), 6)


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
    """(N,) the norm of each perturbation, or of the way from where the attack began if that is less, as a share of what
    the ball and the range of pixels allow; 0 where the input is the clean one. None of an attack that may well stay
    near.

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
    norm, signs = threat.ball.norm(delta).double(), outcome.signs
    if signs is not None:
        # Without a gradient nothing moves, which is told of by itself.
        way = torch.where(signs.zero > 0.5 * signs.steps, torch.inf, signs.way.to(norm))
        norm = torch.where(norm > 0, torch.minimum(norm, way.clamp_min(1e-30)), norm)
    return norm / torch.minimum(farthest, radius.expand_as(farthest))
