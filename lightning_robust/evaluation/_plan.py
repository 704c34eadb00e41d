"""Which attacks an evaluation makes."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from lightning_robust.attacks.attack import Attack, as_attack


class Plan(ABC):
    """Attacks that are one evaluation together: their worst case is logged, and not each of them.

    Any object with an attribute `attacks`, a mapping from names, is a plan. This class is for those that configuration
    files shall name: jsonargparse asks for a base class.
    """

    @property
    @abstractmethod
    def attacks(self) -> Mapping[str, Attack | Callable[..., Any]]:
        """The attacks by name."""


def is_plan(value: Any) -> bool:
    """Is it a plan? An attack is none, whatever it is made of."""
    return not isinstance(value, Attack | type) and isinstance(getattr(value, "attacks", None), Mapping)


def attacks_by_name(attacks: Any) -> dict[str, Attack]:
    """The attacks of an evaluation in their thorough form; the name "" is that of a single one.

    Args:
        attacks: An attack, a mapping of attacks by name, or a plan.
    """
    given = attacks.attacks if is_plan(attacks) else attacks
    if not isinstance(given, Mapping):
        return {"": as_attack(given, "attacks").thorough()}
    if not given:
        raise ValueError("Expected argument `attacks` to hold at least one attack, but got none.")
    for name in given:
        if not isinstance(name, str) or not name:
            raise TypeError(f"Expected argument `attacks` to have names that are not empty as keys, but got {name!r}.")
        if f"worst_{name}" in given:
            raise ValueError(
                f"Expected argument `attacks` to have no attack of the name 'worst_{name}' beside {name!r}: both would "
                f"report their success as `success_worst_{name}`. Give it another name."
            )
    return {name: as_attack(attack, f"attacks[{name!r}]").thorough() for name, attack in given.items()}
