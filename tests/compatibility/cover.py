"""Covers: few combinations in which every two, or every three, values of different axes occur together."""

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Axes = Mapping[str, Sequence[Any]]
Allowed = Callable[[Mapping[str, Any]], bool]
"""Says of some values, by axis, whether a combination may hold them all."""
Part = tuple[tuple[str, Any], ...]


def completed(axes: Axes, chosen: dict[str, Any], allowed: Allowed) -> dict[str, Any] | None:
    """The first allowed combination that holds what is chosen; None: there is none."""
    if not allowed(chosen):
        return None
    free = next((name for name in axes if name not in chosen), None)
    if free is None:
        return {name: chosen[name] for name in axes}
    tries = (completed(axes, {**chosen, free: value}, allowed) for value in axes[free])
    return next((combination for combination in tries if combination is not None), None)


def parts(axes: Axes, strength: int, allowed: Allowed) -> list[Part]:
    """All sets of `strength` values of different axes that some allowed combination holds."""
    choices = (
        tuple(zip(names, values, strict=True))
        for names in itertools.combinations(axes, strength)
        for values in itertools.product(*(axes[name] for name in names))
    )
    return [part for part in choices if completed(axes, dict(part), allowed) is not None]


def parts_of(combination: Mapping[str, Any], strength: int) -> set[Part]:
    """The sets of `strength` values that a combination holds."""
    return set(itertools.combinations(combination.items(), strength))


def cover(axes: Axes, strength: int, allowed: Allowed) -> list[dict[str, Any]]:
    """A small list of allowed combinations in which each of `parts` occurs; always the same.

    Greedy: a combination begins with a part that is still missing. The other axes follow, each with the value that
    brings the most missing parts, the first of these. Of the combinations for all orders of axes that are tried, the
    best is taken.
    """
    missing = dict.fromkeys(parts(axes, strength, allowed))
    combinations = []
    while missing:
        start = dict(next(iter(missing)))
        free = [name for name in axes if name not in start]
        orders = [free[i:] + free[:i] for i in range(len(free))] or [free]
        orders += [order[::-1] for order in orders]
        filled = [_filled(axes, start, order, strength, allowed, missing) for order in orders]
        best = max(filled, key=lambda one: len(parts_of(one, strength) & missing.keys()))
        combinations.append(best)
        for part in parts_of(best, strength):
            missing.pop(part, None)
    return combinations


def _filled(axes: Axes, start: dict[str, Any], order: list[str], strength: int, allowed: Allowed, missing: Any) -> Any:
    """A combination that begins with some values, the other axes in the order given."""
    chosen = dict(start)

    def gain(name: str, value: Any) -> int:
        new = {**chosen, name: value}
        held = {axis: new[axis] for axis in axes if axis in new}
        return sum((name, value) in part for part in parts_of(held, strength) & missing.keys())

    for name in order:
        possible = [v for v in axes[name] if completed(axes, {**chosen, name: v}, allowed) is not None]
        chosen[name] = max(possible, key=functools.partial(gain, name))
    return {name: chosen[name] for name in axes}
