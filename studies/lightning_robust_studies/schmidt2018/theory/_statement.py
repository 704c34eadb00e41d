"""What a statement of a paper is: arguments, conditions and a value."""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any, Literal

from lightning_robust._checks import number

Check = Callable[[str, Any], Any]
"""From the name and value of an argument to the value; it refuses what the argument may not be."""
POSITIVE: Check = partial(number, low=0, above=True)
NOT_NEGATIVE: Check = partial(number, low=0)

Value = Callable[[Any], Any]
"""From the arguments, as attributes (`a.n`, `a.d`, ...), to a value."""

_RELATIONS: Mapping[str, tuple[Callable[[Any, Any], bool], str]] = {
    "<=": (operator.le, "at most"),
    "<": (operator.lt, "less than"),
    ">=": (operator.ge, "at least"),
    ">": (operator.gt, "greater than"),
}


@dataclass(frozen=True)
class Guarantee:
    """What an upper bound promises: an error of at most `error` with a probability of at least `probability`.

    The probability is over the training samples. Where the bound says nothing (too few dimensions), it is 0.

    Example:
        >>> print(Guarantee(0.01, 0.98))
        error at most 0.01, but for a probability at most 0.02
    """

    error: float
    probability: float

    def __str__(self) -> str:
        missed = 1 - self.probability
        if missed >= 1:
            return "nothing: the probability is 0, as there are too few dimensions"
        chance = f"at most {missed:.2g}" if missed > 0 else "below 1e-15"
        error = f"at most {self.error:.3g}" if self.error >= 1e-15 else "below 1e-15"
        return f"error {error}, but for a probability {chance}"


@dataclass(frozen=True)
class Condition:
    """An argument lies on one side of a limit that may depend on the other arguments.

    Args:
        name: the argument.
        relation: its side of the limit.
        text: the limit as a formula.
        limit: the limit: a number, or a function of the arguments (`a.n`, `a.d`, ...).

    Example:
        >>> print(Condition("sigma", "<=", "d^(1/4) / 32", lambda a: a.d**0.25 / 32))
        sigma <= d^(1/4) / 32
    """

    name: str
    relation: Literal["<=", "<", ">=", ">"]
    text: str
    limit: float | Callable[[Any], float]

    def __str__(self) -> str:
        return f"{self.name} {self.relation} {self.text}"

    def limit_at(self, a: Any) -> float:
        """The limit at these arguments."""
        return self.limit(a) if callable(self.limit) else self.limit

    def check(self, a: Any) -> None:
        """Refuse arguments that do not meet the condition."""
        holds, words = _RELATIONS[self.relation]
        value, limit = getattr(a, self.name), self.limit_at(a)
        if not holds(value, limit):
            shown = f"{self.text} = {limit:.6g}" if callable(self.limit) else self.text
            raise ValueError(f"Expected argument `{self.name}` to be {words} {shown}, but got {value}.")


@dataclass(frozen=True, kw_only=True)
class Statement:
    """A theorem, corollary, lemma or fact; called with its arguments it gives its value where its conditions hold.

    Args:
        name: its name in the paper.
        model: the model it speaks of.
        says: what it says.
        source: where it stands; pages are those of arXiv 1804.11285v2.
        arguments: the arguments, and the check that each passes before the conditions.
        conditions: when it holds; the last one ties the arguments together, and `limit` solves it.
        value: from the arguments (`a.n`, `a.d`, ...) to the value: a `Guarantee` for upper bounds, a number for lower
            bounds, probabilities and numbers of samples.
        reads: the value in words, a format string.
        derived: further arguments: a number, or what follows from the given ones, such as sigma from its scale.
        inverse: solves the value for an argument, by its name.
        machine_checked: the proof assistant that has checked a proof of it elsewhere; empty: none.
        note: where the paper's wording is not what holds.
    """

    name: str
    model: Literal["Gaussian", "Bernoulli"] = "Gaussian"
    says: str
    source: str
    arguments: Mapping[str, Check]
    conditions: tuple[Condition, ...] = ()
    value: Value
    reads: str = "{}"
    derived: Mapping[str, Value | float] = field(default_factory=dict)
    inverse: Mapping[str, Callable[..., float]] = field(default_factory=dict)
    machine_checked: str = ""
    note: str = ""

    @property
    def where(self) -> str:
        """The conditions, and the arguments that are fixed."""
        fixed = [f"{name} = {value:g}" for name, value in self.derived.items() if isinstance(value, float)]
        return ", ".join([*map(str, self.conditions), *fixed]) or "always"

    def __call__(self, **arguments: Any) -> Any:
        """Give the value at these arguments.

        Raises:
            ValueError: an argument is out of its range or a condition does not hold; the message names the argument,
                the condition and the value.
            TypeError: an argument is missing, is none of the statement's or is of a wrong type.
        """
        a = self._taken(arguments, set(self.arguments))
        for condition in self.conditions:
            condition.check(a)
        return self.value(a)

    def limit(self, name: str, **others: Any) -> float:
        """Solve the last condition for its argument: how far `name` may go at these values of all other arguments.

        For an argument in `inverse`: what its function gives.

        Raises:
            ValueError: as for a call; or the statement is not solved for this argument.
        """
        if name in self.inverse:
            return self.inverse[name](**others)
        *others_hold, last = self.conditions or (None,)
        if last is None or last.name != name:
            solved = [*self.inverse, *(condition.name for condition in self.conditions[-1:])]
            raise ValueError(f"Expected argument `name` to be one of {solved} for {self.name}, but got {name!r}.")
        a = self._taken(others, set(self.arguments) - {name})
        for condition in others_hold:
            if condition.name != name:
                condition.check(a)
        return last.limit_at(a)

    def _taken(self, given: Mapping[str, Any], expected: set[str]) -> SimpleNamespace:
        if given.keys() != expected:
            raise TypeError(f"Expected arguments {sorted(expected)} for {self.name}, but got {sorted(given)}.")
        a = SimpleNamespace(**{name: self.arguments[name](name, value) for name, value in given.items()})
        for name, value_of in self.derived.items():
            setattr(a, name, value_of(a) if callable(value_of) else value_of)
        return a
