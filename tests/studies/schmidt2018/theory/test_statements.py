"""The table of statements: what is in it, what it refuses, and how it is solved."""

import math
import re
from types import SimpleNamespace

import pytest

from lightning_robust_studies.schmidt2018.theory import STATEMENTS, Guarantee
from tests.studies.schmidt2018.theory.helpers import POINTS

STEP = 1e-6
SIDES = {"<=": (-1, 1), "<": (-1, 1), ">=": (1, -1), ">": (1, -1)}
CONDITIONS = [(name, condition) for name, statement in STATEMENTS.items() for condition in statement.conditions]


def test_the_table_holds_every_statement_of_the_two_papers():
    main, appendix = (4, 5, 6, 8, 9, 10, 11), (18, 21, 27, 31)
    named = {f"Theorem {i}" for i in main + appendix} | {f"Corollary {i}" for i in (19, 22, 23, 28)}
    named |= {"Fact 12"} | {f"Lemma {i}" for i in (13, 14, 15, 16, 17, 20, 29)}
    carmon = {f"Carmon et al., {each}" for each in ("Theorem 1", "Proposition 1", "Theorem 2")}
    assert set(STATEMENTS) == named | carmon == set(POINTS)
    assert all(name == each.name and each.says and each.source for name, each in STATEMENTS.items())
    checked = {name for name, each in STATEMENTS.items() if each.machine_checked == "Lean"}
    assert checked == {"Corollary 23", "Theorem 21", "Corollary 22", "Theorem 10"}


@pytest.mark.parametrize("name", STATEMENTS)
def test_each_gives_a_value_that_can_be_read_and_takes_all_its_arguments_and_no_others(name):
    statement, point = STATEMENTS[name], POINTS[name]
    assert statement.reads.format(statement(**point))
    assert (statement.reads == "{}") == isinstance(statement(**point), Guarantee)
    with pytest.raises(TypeError, match=re.escape(str(sorted(point)))):
        statement(**dict(list(point.items())[1:]))
    with pytest.raises(TypeError, match="'other'"):
        statement(**point, other=1.0)


@pytest.mark.parametrize(("name", "condition"), CONDITIONS, ids=str)
def test_a_condition_holds_up_to_its_limit_and_a_refusal_names_argument_condition_and_value(name, condition):
    statement, a = STATEMENTS[name], SimpleNamespace(**POINTS[name])
    for key, value in statement.derived.items():
        setattr(a, key, value(a) if callable(value) else value)
    limit = condition.limit_at(a)
    inside, outside = (limit + side * STEP * max(1.0, abs(limit)) for side in SIDES[condition.relation])
    message = rf"^Expected argument `{condition.name}` to be .*{re.escape(condition.text)}.*, but got .*{outside}\.$"
    for value in (inside, limit)[: len(condition.relation)]:
        setattr(a, condition.name, value)
        condition.check(a)
    setattr(a, condition.name, outside)
    with pytest.raises(ValueError, match=message):
        condition.check(a)
    if condition.name in statement.arguments and outside > 0:
        with pytest.raises(ValueError, match=message):
            statement(**{**POINTS[name], condition.name: outside})


@pytest.mark.parametrize("name", [name for name, each in STATEMENTS.items() if each.conditions])
def test_the_last_condition_is_solved_for_its_argument(name):
    statement, argument = STATEMENTS[name], STATEMENTS[name].conditions[-1].name
    others = {key: value for key, value in POINTS[name].items() if key != argument}
    limit = statement.limit(argument, **others)
    first, second = (limit + side * STEP * max(1.0, abs(limit)) for side in SIDES[statement.conditions[-1].relation])
    statement(**others, **{argument: first})
    with pytest.raises(ValueError, match=f"`{argument}`"):
        statement(**others, **{argument: second})


def test_what_no_condition_limits_cannot_be_solved_for():
    with pytest.raises(ValueError, match=r"one of \['eps'\] for Theorem 21, but got 'd'"):
        STATEMENTS["Theorem 21"].limit("d", n=1.0, sigma=1.0, eps=0.1, beta=0.1)
    with pytest.raises(ValueError, match="`sigma` to be at most"):  # the other conditions must hold
        STATEMENTS["Corollary 22"].limit("n", d=16, sigma=1.0, eps=0.1)


def test_a_guarantee_is_read_with_its_probability():
    assert str(Guarantee(0.01, 1.0)) == "error at most 0.01, but for a probability below 1e-15"
    assert str(Guarantee(0.0, 0.5)) == "error below 1e-15, but for a probability at most 0.5"
    assert "too few dimensions" in str(Guarantee(0.01, 0.0))
    assert math.isclose(STATEMENTS["Corollary 28"](d=2**12, tau=0.2, beta=0.01).error, 0.01)
