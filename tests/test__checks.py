import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from lightning_robust import _checks


@pytest.mark.parametrize(
    ("check", "value", "plain"),
    [
        (_checks.number, np.float32(0.5), 0.5),
        (_checks.number, np.int8(3), 3),
        (_checks.number, Fraction(1, 2), 0.5),
        (_checks.number, 10**400, 10**400),
        (_checks.count, np.int64(7), 7),
        (_checks.seed, np.int32(-3), -3),
        (_checks.boolean, np.bool_(True), True),
        (_checks.counts, np.array([1, 2]), (1, 2)),
        (_checks.counts, torch.tensor([1, 2]), (1, 2)),
        (_checks.values, [1, np.float64(0.5)], (1, 0.5)),
        (_checks.one_or_more, (x for x in [1.0, 2.0]), (1.0, 2.0)),
        (_checks.interval, np.array([0.0, 1.0]), (0.0, 1.0)),
        (_checks.path, "a/b", Path("a/b")),
    ],
)
def test_what_is_meant_comes_back_plain(check, value, plain):
    checked = check("x", value)
    assert checked == plain
    assert type(checked) is type(plain)
    if isinstance(plain, tuple):
        assert [type(entry) for entry in checked] == [type(entry) for entry in plain]


def _refusals():
    numbers = ["0.5", None, [], object(), True, np.bool_(True), math.nan, math.inf, 1j, float]
    yield from ((_checks.number, value) for value in numbers)
    yield from ((_checks.count, value) for value in [*numbers, 0.5, 1.0, 0, -1])
    yield from ((_checks.seed, value) for value in [*numbers, 0.5, 1.0])
    yield from ((_checks.boolean, value) for value in ["no", 0, 1, None, math.nan, []])
    yield from ((_checks.text, value) for value in ["", b"a", None, 3])
    yield from ((_checks.function, value) for value in ["f", None, dict, 3])
    yield from ((_checks.counts, value) for value in ["12", 3, [], [1.5], {1: 2}, {1, 2}, np.array(3), [0]])
    yield from ((_checks.values, value) for value in ["12", 3, [], [math.nan], ["1"], torch.zeros(1, 1)])
    yield from ((_checks.one_or_more, value) for value in [np.array(0.5), "12", [], [math.nan], [[1]], True, None])
    yield from ((_checks.interval, value) for value in [(1, 0), (0, 0), (0, math.inf), (0,), (0, 1, 2), "01", None, 1])
    yield from ((_checks.path, value) for value in ["", None, 3, b"a"])


@pytest.mark.parametrize(("check", "value"), list(_refusals()))
def test_what_is_not_meant_is_refused_with_the_name(check, value):
    more = ["of x"] if check is _checks.function else []
    with pytest.raises((TypeError, ValueError), match=r"^Expected argument `x(\[\d\])?` to "):
        check("x", value, *more)


def test_messages():
    for call, message in (
        (lambda: _checks.number("x", 2, 0, 1, above=True), "`x` to be a number in (0, 1], but got 2."),
        (lambda: _checks.number("x", math.inf, 0), "`x` to be a number of at least 0 and finite, but got inf."),
        (lambda: _checks.count("x", np.int64(0)), "`x` to be an integer of at least 1, but got 0."),
        (lambda: _checks.choice("x", "c", ("a", "b")), '`x` to be one of "a", "b", but got \'c\'.'),
        (lambda: _checks.instance("x", dict, int, "an int"), "`x` to be an int, but got the class dict. Did you mean"),
        (lambda: _checks.counts("x", [2, 0]), "`x[1]` to be an integer of at least 1, but got 0."),
    ):
        with pytest.raises((TypeError, ValueError)) as error:
            call()
        assert str(error.value).startswith(f"Expected argument {message}")


def test_a_class_is_a_function_where_it_makes_what_is_wanted():
    assert _checks.function("x", torch.optim.SGD, "of x", torch.optim.Optimizer) is torch.optim.SGD
    with pytest.raises(TypeError, match=r"the class Linear. Did you mean Linear\(...\)"):
        _checks.function("x", torch.nn.Linear, "of x", torch.optim.Optimizer)


def test_a_function_takes_what_it_is_called_with():
    def loss(model, x, x_adv, y, weight=1.0): ...

    def factory(beta=6.0): ...

    assert _checks.function("loss", loss, "(model, x, x_adv, y) -> loss", takes=4) is loss
    assert _checks.function("loss", print, "(model, x, x_adv, y) -> loss", takes=4) is print
    with pytest.raises(TypeError, match=r"but got factory\(beta=6.0\). Did you mean factory\(...\)\?"):
        _checks.function("loss", factory, "(model, x, x_adv, y) -> loss", takes=4)
    with pytest.raises(TypeError, match=r"a function \(x\) -> loss, but got loss\(model, x, x_adv, y, weight=1.0\).$"):
        _checks.function("loss", loss, "(x) -> loss", takes=1)
