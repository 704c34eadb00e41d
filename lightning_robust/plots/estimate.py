"""A measured value with its interval, and how numbers are written: the same on axes, on bars and in tables."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from lightning_robust import _checks

_ROUNDING = 1e-6


@dataclass(frozen=True)
class Unit:
    r"""A value `v` is written as `v * scale` with `digits` decimals, then `symbol`.

    Args:
        scale: what the value is multiplied by before it is written (100 for percent).
        digits: decimals of a written value, at least 0; axis ticks use as few as they need.
        symbol: written after the number, with a space; empty for plain numbers.

    Raises:
        ValueError: if `scale` is not a positive finite number or `digits` is negative.

    Example:
        >>> PERCENT.number(0.1357), PERCENT.text(0.1357), PERCENT.tick(0.125), PLAIN.text(0.03)
        ('13.6', '13.6 %', '12.5 %', '0.030')
    """

    scale: float = 1.0
    digits: int = 3
    symbol: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", _checks.number("scale", self.scale, 0, above=True))
        object.__setattr__(self, "digits", _checks.count("digits", self.digits, 0))
        _checks.text("symbol", self.symbol, empty=True)

    def number(self, value: float) -> str:
        """The scaled number alone; `n/a` where there is none (NaN)."""
        if math.isnan(value):
            return "n/a"
        text = f"{value * self.scale:,.{self.digits}f}"
        return text.removeprefix("-") if float(text.replace(",", "")) == 0 else text

    def text(self, value: float) -> str:
        """The scaled number and the symbol."""
        return f"{self.number(value)} {self.symbol}".rstrip()

    def tick(self, value: float) -> str:
        """The scaled number with as few digits as it needs, and the symbol: for axes."""
        number = round(value * self.scale, 10) + 0.0  # + 0.0 turns -0.0 into 0.0
        text = f"{number:,.0f}" if number == round(number) else f"{number:.6g}"
        return f"{text} {self.symbol}".rstrip()


PERCENT = Unit(scale=100.0, digits=1, symbol="%")
"""Shares, as percentages with one digit."""
POINTS = Unit(scale=100.0, digits=1, symbol="points")
"""Percentage points, for differences of shares."""
PLAIN = Unit()
"""Numbers as they are."""


@dataclass(frozen=True)
class Estimate:
    """A value, its interval `[low, high]` (95 % throughout this package), and the number of samples behind it.

    Args:
        value: the point estimate, finite.
        low: the lower end of the interval, at most `value` (up to rounding in float32).
        high: the upper end of the interval, at least `value` (up to rounding in float32).
        count: number of samples behind it, at least 1.

    Raises:
        ValueError: if a number is not finite, the value lies outside its interval, or `count` is below 1.

    Example:
        >>> error = Estimate(0.136, low=0.123, high=0.150, count=2500)
        >>> error.text()
        '13.6 % [12.3, 15.0]'
        >>> error.row(model="on-manifold", metric="test error")
        {'model': 'on-manifold', 'metric': 'test error', 'value': 0.136, 'low': 0.123, 'high': 0.15, 'count': 2500}
    """

    value: float
    low: float
    high: float
    count: int

    def __post_init__(self) -> None:
        for name in ("value", "low", "high"):
            object.__setattr__(self, name, _checks.number(name, getattr(self, name)))
        object.__setattr__(self, "count", _checks.count("count", self.count))
        slack = _ROUNDING * max(1.0, abs(self.value))
        if self.low > self.value + slack:
            raise ValueError(f"Expected argument `low` to be at most `value` = {self.value}, but got {self.low}.")
        if self.high < self.value - slack:
            raise ValueError(f"Expected argument `high` to be at least `value` = {self.value}, but got {self.high}.")

    def text(self, unit: Unit = PERCENT) -> str:
        """The value with its interval in brackets."""
        return f"{unit.text(self.value)} [{unit.number(self.low)}, {unit.number(self.high)}]"

    def clipped(self) -> Estimate:
        """The estimate of a share: with its interval cut to [0, 1], which Student's t knows nothing of."""
        return replace(self, low=max(0.0, self.low), high=min(1.0, self.high))

    def row(self, **keys: str | float) -> dict[str, str | float]:
        """A row of a tidy table: `keys` first, then value, low, high and count."""
        return {**keys, "value": self.value, "low": self.low, "high": self.high, "count": self.count}
