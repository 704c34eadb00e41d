"""What something is, in words: equal for equal content, other words for other content."""

import dataclasses
import functools
import itertools
import logging

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lightning_robust.attacks import PGD, Box, Linf, Threat, as_attack, margin
from lightning_robust.evaluation._described import described

STEPS = 3
DEVICE = "cpu"


def closure(steps):
    inner = PGD(Linf(0.1), steps)
    return lambda model, x, y: inner(model, x, y)


def made(weight, **_):
    return lambda x: F.linear(x, weight)


class Own:
    def __init__(self, steps, scale=1.0):
        self.steps, self.calls, self._scale = steps, itertools.count(), scale

    def __call__(self, model, x, y):
        next(self.calls)
        return x


def box(first):
    widths = torch.zeros(1, 40, 40)
    widths[0, first : first + 3] = 0.5
    return Threat(Box(widths))


def network(seed):
    torch.manual_seed(seed)
    return nn.Linear(2, 2)


PAIRS = {
    "a small tensor beyond four digits": [lambda v=v: torch.tensor([0.1, v]) for v in (0.12345678, 0.12345)],
    "a large tensor": [lambda v=v: box(v) for v in (3, 20)],
    "an array": [lambda v=v: np.full((9, 9), v) for v in (1, 2)],
    "a type": [lambda v=v: torch.ones(2, dtype=v) for v in (torch.float32, torch.float64)],
    "a closure with an attack": [functools.partial(closure, v) for v in (1, 50)],
    "an attack made of it": [lambda v=v: as_attack(closure(v)) for v in (1, 50)],
    "a function of a tensor": [lambda v=v: made(torch.full((1, 99), v)) for v in (1.0, 2.0)],
    "a function of tensors": [lambda v=v: made({"weight": torch.tensor([v])}) for v in (1.0, 2.0)],
    "a gain": [lambda v=v: PGD(Linf(0.1), gain=v) for v in (lambda z, y: margin(z, y), lambda z, y: -margin(z, y))],
    "a constant": [lambda: lambda x: 2 * x, lambda: lambda x: 3 * x],
    "a function that is called": [lambda: lambda x: F.relu(x), lambda: lambda x: F.elu(x)],
    "a default": [lambda v=v: lambda x, n=v: x for v in (1, 2)],
    "a part of a function": [lambda v=v: functools.partial(made, weight=v) for v in (1, 2)],
    "an object that keeps its arguments": [functools.partial(Own, v) for v in (1, 2)],
    "a method of it": [lambda v=v: Own(v).__call__ for v in (1, 2)],
    "a network": [lambda v=v: (lambda net: lambda x: net(x))(network(v)) for v in (1, 2)],
    "a set": [lambda: frozenset({"code", "key"}), lambda: frozenset({"code"})],
    "a function in a function": [lambda v=v: (lambda f: lambda x: [f(y) for y in x])(made(v)) for v in (1, 2)],
}


@pytest.mark.parametrize("name", PAIRS)
def test_equal_content_equal_words(name):
    one, other = PAIRS[name]
    assert described(one()) == described(one())
    assert described(other()) == described(other())
    assert described(one()) != described(other())
    assert " at 0x" not in described(one())


def test_globals_are_content(monkeypatch):
    def steps(x):
        return x * STEPS

    before = described(steps)
    monkeypatch.setitem(globals(), "STEPS", 4)
    assert described(steps) != before


def test_what_changes_by_itself_is_no_content():
    count, seen, cache, own = 0, [], {}, Own(3)
    numbers = itertools.count()

    def function(x):
        nonlocal count
        count += 1
        seen.append(x)
        cache[count] = next(numbers)
        own(None, x, None)
        return x

    before = described(function), described(own)
    function(1)
    assert (described(function), described(own)) == before


@dataclasses.dataclass
class Stats:
    calls: int = 0


class Counter:
    def __init__(self, calls=0):
        self.calls = calls


@pytest.mark.parametrize("make", [Stats, Counter])
def test_an_object_that_a_function_changes_is_told_by_its_type(make):
    stats = make()

    def function(x):
        stats.calls += 1
        return x

    before = described(function)
    function(1)
    assert described(function) == before

    def writes(scale):
        def function(x):
            x.grad, stats.calls = None, 0
            return x * scale.steps

        return function

    assert described(writes(Own(1))) != described(writes(Own(2)))


@dataclasses.dataclass
class Where:
    device: str
    scale: float = 1.0


def test_where_and_how_to_compute_is_no_content_around_a_function(monkeypatch):
    def made(device, config, where, scale=1.0):
        log = logging.getLogger("where and how")
        return lambda x: (log, x.to(device), config["workers"] + where.scale, scale)

    before = described(made("cpu", {"workers": 4, "steps": 3}, Where("cpu")))
    logging.getLogger("where and how").setLevel(logging.DEBUG)
    assert described(made("cpu:0", {"workers": 8, "steps": 3}, Where("cuda"))) == before
    assert described(made("cpu", {"workers": 4, "steps": 4}, Where("cpu"))) != before
    assert described(made("cpu", {"workers": 4, "steps": 3}, Where("cpu", 2.0))) != before
    assert described(made(torch.ones(2), {"workers": 4, "steps": 3}, Where("cpu"))) != before

    def function(x):
        return x.to(DEVICE)

    before = described(function)
    monkeypatch.setitem(globals(), "DEVICE", "cuda")
    assert described(function) == before


@pytest.mark.parametrize("name", ["name", "rank"])
def test_a_name_may_choose_what_is_computed(name):
    one, other = (eval(f"lambda {name}: lambda x: x[{name}]")(value) for value in (1, 2))
    assert described(one) != described(other)


def test_what_is_of_this_package_or_plain_is_shown_as_it_is():
    attack = PGD(Linf(0.1), steps=3, gain=margin)
    shown = described(attack)
    assert shown == repr(attack).replace(repr(margin), "<function margin>")
    assert described((0, "a", None, 1.5, (2,), [torch.float32], {"b": True})) == (
        "(0, 'a', None, 1.5, (2,), [torch.float32], {'b': True})"
    )


def test_what_holds_itself_has_words():
    both = [1]
    both.append(both)
    assert described(both) == "[1, ...]"

    def again(n):
        return again(n - 1)

    assert described(again) == described(again)


def test_functions_that_call_each_other_often_are_told_once():
    """Each calls the next three: there are 3^21 ways from the first to the last."""
    module = {}
    for i in range(24):
        body = " + ".join(f"g{j}(v)" for j in (i + 1, i + 2, i + 3)) if i < 21 else "v"
        exec(f"def g{i}(v):\n    return {body}\n", module)
    before = described(module["g0"])
    assert described(module["g0"]) == before
    exec("def g23(v):\n    return -v\n", module)
    assert described(module["g0"]) != before


@dataclasses.dataclass
class Options:
    names: frozenset
    width: int = 3


def words():
    return described((Options(frozenset("abcdef")), closure(3), as_attack(closure(2)), Own(2), box(3)))


def test_the_words_are_those_of_another_process(fresh):
    """Sets of strings have another order there, and everything another address."""
    program = "from tests.evaluation.test__described import words; print(words())"
    child = fresh.run(program)
    assert child.stdout.strip() == words()
    assert "width=3" in words()
