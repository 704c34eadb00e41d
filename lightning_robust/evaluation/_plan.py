"""Which attacks an evaluation makes, and on which samples."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, get_args

from lightning_robust import _checks
from lightning_robust.attacks.attack import Attack, as_attack

On = Literal["survivors", "right", "few"]


@dataclass(frozen=True)
class Stage:
    """An attack of a plan, and the samples that it is made on.

    Args:
        attack: An attack, or a function `(model, x, y) -> x_adv`.
        on: "survivors": the samples that no attack before it has broken. "right": all that are right without an attack,
            for least radii. "few": a tenth of the survivors, chosen by their content; all of them only if it breaks one
            of these.

    Example:
        >>> from lightning_robust.attacks import Linf, RandomSearch
        >>> Stage(RandomSearch(Linf(8 / 255), queries=1000), on="few").on
        'few'
    """

    attack: Any
    on: On = "survivors"

    def __post_init__(self) -> None:
        object.__setattr__(self, "attack", as_attack(self.attack))
        _checks.choice("on", self.on, get_args(On))


class Plan:
    """Attacks that are one evaluation together: a sample that one of them has broken is spared the others.

    So the worst case alone is known, and not the robust accuracy under each of them. Any object with an attribute
    `attacks`, a mapping from names, is a plan; in configuration files, subclasses of this class are.

    Args:
        attacks: Attacks, functions `(model, x, y) -> x_adv` or `Stage`s by name, the cheapest first.
        note: What a reader of the report shall know of the plan, in sentences.

    Example:
        >>> from lightning_robust.attacks import PGD, Linf, margin
        >>> plan = Plan({"margin": PGD(Linf(8 / 255), steps=10, gain=margin), "pgd": PGD(Linf(8 / 255), steps=50)})
        >>> list(Plan({**plan.attacks, "own": lambda model, x, y: x}).attacks)
        ['margin', 'pgd', 'own']
    """

    def __init__(self, attacks: Mapping[str, Any], *, note: str = "") -> None:
        given = _checks.instance("attacks", attacks, Mapping, "a mapping from names to attacks")
        self._attacks = dict(given)
        self.note = _checks.text("note", note, empty=True)
        stages_of(self)

    @property
    def attacks(self) -> Mapping[str, Any]:
        """Attacks and stages by name."""
        return MappingProxyType(self._attacks)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({dict(self.attacks)!r})"


def is_plan(value: Any) -> bool:
    """Is it a plan? An attack is none, whatever it is made of."""
    return not isinstance(value, Attack | type) and isinstance(getattr(value, "attacks", None), Mapping)


def stages_of(attacks: Any) -> dict[str, Stage]:
    """The stages of an evaluation, their attacks in the thorough form; the name "" is that of a single one.

    Args:
        attacks: An attack, a mapping of attacks by name, or a plan.
    """
    plan = is_plan(attacks)
    given = attacks.attacks if plan else attacks
    if not isinstance(given, Mapping):
        return {"": Stage(as_attack(given, "attacks").thorough())}
    if not given:
        raise ValueError("Expected argument `attacks` to hold at least one attack, but got none.")
    stages = {}
    for name, attack in given.items():
        if not isinstance(name, str) or not name:
            raise TypeError(f"Expected argument `attacks` to have names that are not empty as keys, but got {name!r}.")
        if f"worst_{name}" in given:
            raise ValueError(
                f"Expected argument `attacks` to have no attack of the name 'worst_{name}' beside {name!r}: both would "
                f"report their success as `success_worst_{name}`. Give it another name."
            )
        if isinstance(attack, Stage) and not plan:
            raise TypeError(
                f"Expected argument `attacks[{name!r}]` to be an attack, but got a Stage, which is part of a plan: "
                "Plan({...})."
            )
        stage = attack if isinstance(attack, Stage) else Stage(as_attack(attack, f"attacks[{name!r}]"))
        stages[name] = Stage(stage.attack.thorough(), stage.on)
    return stages
