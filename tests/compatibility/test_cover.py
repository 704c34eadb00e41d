"""A cover holds every two, or three, values that may come together, nothing else, and not many combinations."""

import itertools

import pytest

from tests.compatibility.cover import completed, cover, parts
from tests.compatibility.table import AXES, REFUSALS, allowed, covering, matches

SMALL = {"a": (1, 2, 3), "b": (1, 2), "c": (1, 2, 3), "d": ("x", "y")}


def _rules(chosen):
    """Two that forbid, and one that follows from both: a=1 leaves no value of d beside c=1."""
    if (chosen.get("a"), chosen.get("d")) == (1, "x") or (chosen.get("c"), chosen.get("d")) == (1, "y"):
        return False
    return (chosen.get("b"), chosen.get("c")) != (2, 3)


def _held(combinations, strength):
    """All sets of values in complete combinations, by looking."""
    return {part for one in combinations for part in itertools.combinations(one.items(), strength)}


@pytest.mark.parametrize("strength", [1, 2, 3, 4])
def test_a_cover_holds_all_that_may_come_together_and_nothing_else(strength):
    everything = [dict(zip(SMALL, values, strict=True)) for values in itertools.product(*SMALL.values())]
    good = [one for one in everything if _rules(one)]
    combinations = cover(SMALL, strength, _rules)
    assert all(one in good for one in combinations)
    assert _held(combinations, strength) == _held(good, strength) == set(parts(SMALL, strength, _rules))
    assert len(combinations) <= len(good)
    assert cover(SMALL, strength, _rules) == combinations


def test_what_follows_from_two_rules_is_no_part():
    assert (("a", 1), ("c", 1)) not in parts(SMALL, 2, _rules)
    assert completed(SMALL, {"a": 1, "c": 1}, _rules) is None


@pytest.mark.parametrize("levels", [2, 3, 4])
def test_it_is_near_the_least_possible(levels):
    """Two axes of n values need n^2 combinations, and of four axes a greedy cover takes not many more."""
    axes = dict.fromkeys("abcd", range(levels))
    assert levels**2 <= len(cover(axes, 2, lambda _: True)) <= levels**2 + levels


def test_the_cover_of_the_table():
    cells = covering(2)
    assert len(set(cells)) == len(cells) <= 80
    pairs = _held([cell._asdict() for cell in cells], 2)
    for names in itertools.combinations(AXES, 2):
        for values in itertools.product(*(AXES[name] for name in names)):
            pair = tuple(zip(names, values, strict=True))
            assert pair in pairs or not allowed(dict(pair)) or "16-mixed" in values or not _installed(values)
    assert not any(matches(r.values, cell._asdict()) for r in REFUSALS if not r.trainer for cell in cells)


def _installed(values):
    from tests.compatibility.table import FEATURES, STRATEGIES

    return all(v in FEATURES or v not in AXES["feature"] for v in values) and all(
        v in STRATEGIES or v not in AXES["strategy"] for v in values
    )


def test_a_gpu_is_asked_for_half_precision_alone():
    assert {(cell.precision, cell.alone) for cell in covering(2, gpu=True)} == {("16-mixed", True)}
    assert all(cell.precision != "16-mixed" for cell in covering(2))
