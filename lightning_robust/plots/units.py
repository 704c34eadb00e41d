"""How a number is written: its scale, digits and symbol, the same on axes, on bars and in tables."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lightning_robust._checks import count, number, text


@dataclass(frozen=True)
class Unit:
    r"""A value ``v`` is written as ``v * scale`` with ``digits`` decimals, then ``symbol``.

    Args:
        scale: what the value is multiplied by before it is written (100 for percent).
        digits: decimals of a written value, at least 0; axis ticks use as few as they need.
        symbol: written after the number, with a space; empty for plain numbers.

    Raises:
        ValueError: if ``scale`` is not a positive finite number or ``digits`` is negative.

    Example:
        >>> PERCENT.number(0.1357), PERCENT.text(0.1357), PERCENT.tick(0.125), PLAIN.text(0.03)
        ('13.6', '13.6 %', '12.5 %', '0.030')
    """

    scale: float = 1.0
    digits: int = 3
    symbol: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", number("scale", self.scale, 0, above=True))
        object.__setattr__(self, "digits", count("digits", self.digits, 0))
        text("symbol", self.symbol, empty=True)

    def number(self, value: float) -> str:
        """The scaled number alone; ``n/a`` where there is none (NaN)."""
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
POINTS = Unit(scale=100.0, digits=1, symbol="points")
"""Percentage points, for differences of shares."""
PLAIN = Unit()
