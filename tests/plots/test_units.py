import math

import pytest

from lightning_robust.plots import PERCENT, PLAIN, Unit


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
