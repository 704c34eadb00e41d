"""Positive amounts that may be known from one side only, and how they are written."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Amount:
    """A number that is known, or known to lie on one side of a bound: censored.

    Args:
        low: it is at least this; 0 where nothing is known downwards.
        high: it is at most this; infinity where nothing is known upwards. A number with both ends equal is known.

    Raises:
        ValueError: if not 0 <= low <= high.

    Example:
        >>> print(Amount(1840.2, 1840.2), Amount(0, 500), Amount(20_000, math.inf), Amount(0, math.inf), sep=" | ")
        1,840 | < 500 | > 20,000 | unknown
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high:
            raise ValueError(f"Expected 0 <= `low` <= `high`, but got low={self.low} and high={self.high}.")

    @property
    def known(self) -> bool:
        """Whether both ends are equal."""
        return self.low == self.high

    @property
    def value(self) -> float:
        """The number, or its bound: where a mark stands in a figure. NaN where there is neither."""
        if self.known or math.isinf(self.high):
            return self.low or math.nan
        return self.high

    def __str__(self) -> str:
        if self.known:
            return _written(self.low)
        if math.isinf(self.high):
            return f"> {_written(self.low)}" if self.low else "unknown"
        return f"{_written(self.low)} to {_written(self.high)}" if self.low else f"< {_written(self.high)}"


@dataclass(frozen=True)
class AmountEstimate:
    """An amount with the ends of its interval, of which the lower may be 0 and the upper infinite.

    Args:
        amount: the estimate.
        low: the lower end of the interval.
        high: the upper end of the interval.

    Raises:
        ValueError: if the interval does not hold the amount.

    Example:
        >>> print(AmountEstimate(Amount(20_000, math.inf), 16_500, math.inf))
        > 20,000 [16,500, ∞)
    """

    amount: Amount
    low: float
    high: float

    def __post_init__(self) -> None:
        if not (self.low <= self.amount.low and self.amount.high <= self.high):
            raise ValueError(f"Expected [low, high] to hold {self.amount}, but got [{self.low}, {self.high}].")

    def __str__(self) -> str:
        end = "∞)" if math.isinf(self.high) else f"{_written(self.high)}]"
        return f"{self.amount} [{_written(self.low)}, {end}"


def _written(number: float) -> str:
    return f"{number:,.0f}" if number >= 99.95 else f"{number:.3g}"
