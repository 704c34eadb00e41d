"""A measured value with its interval: what bars, curves and tables show."""

from __future__ import annotations

from dataclasses import dataclass

from lightning_robust import _checks
from lightning_robust.plots.units import PERCENT, Unit

_ROUNDING = 1e-6


@dataclass(frozen=True)
class Estimate:
    """A value, its interval ``[low, high]`` (95 % throughout this package), and the number of samples behind it.

    Args:
        value: the point estimate, finite.
        low: the lower end of the interval, at most ``value`` (up to rounding in float32).
        high: the upper end of the interval, at least ``value`` (up to rounding in float32).
        count: number of samples behind it, at least 1.

    Raises:
        ValueError: if a number is not finite, the value lies outside its interval, or ``count`` is below 1.

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

    def row(self, **keys: str | float) -> dict[str, str | float]:
        """A row of a tidy table: ``keys`` first, then value, low, high and count."""
        return {**keys, "value": self.value, "low": self.low, "high": self.high, "count": self.count}
