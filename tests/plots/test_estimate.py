import math

import pytest

from lightning_robust.plots import PERCENT, PLAIN, Estimate, Unit


def test_text_is_the_value_with_its_interval():
    assert Estimate(0.136, 0.123, 0.15, 2500).text() == "13.6 % [12.3, 15.0]"
    assert Estimate(1.5, 1.25, 2.0, 10).text(PLAIN) == "1.500 [1.250, 2.000]"


def test_row_is_tidy():
    row = Estimate(0.5, 0.4, 0.7, 9).row(model="a", metric="b")
    assert row == {"model": "a", "metric": "b", "value": 0.5, "low": 0.4, "high": 0.7, "count": 9}
    assert list(row)[:2] == ["model", "metric"]


def test_rounding_at_the_ends_is_forgiven():
    assert Estimate(0.0, 1e-12, 0.01, 10).low == 1e-12
    assert Estimate(1.0, 0.9, 1.0 - 1e-7, 10).high < 1.0


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("low", (0.5, 0.6, 1.0, 1)),
        ("high", (0.5, 0.0, 0.4, 1)),
    ],
)
def test_bad_arguments_are_refused(name, arguments):
    with pytest.raises(ValueError, match=f"Expected argument `{name}`"):
        Estimate(*arguments)


@pytest.mark.parametrize(
    ("unit", "value", "text"),
    [
        (PERCENT, 0.1357, "13.6 %"),
        (PERCENT, 1.0, "100.0 %"),
        (PERCENT, -1e-9, "0.0 %"),
        (PLAIN, 1234.5678, "1,234.568"),
        (PLAIN, -0.5, "-0.500"),
        (PLAIN, math.nan, "n/a"),
        (Unit(digits=0, symbol="px"), 2.0, "2 px"),
    ],
)
def test_text(unit, value, text):
    assert unit.text(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0 %"), (-0.0, "0 %"), (0.2, "20 %"), (0.125, "12.5 %"), (0.1 + 0.2, "30 %"), (12.0, "1,200 %")],
)
def test_tick_uses_as_few_digits_as_it_needs(value, text):
    assert PERCENT.tick(value) == text


def test_a_share_is_between_nothing_and_all():
    assert Estimate(0.9, -0.2, 1.3, 10).clipped() == Estimate(0.9, 0.0, 1.0, 10)
