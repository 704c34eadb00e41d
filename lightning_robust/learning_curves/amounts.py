"""Positive amounts that may be known from one side only, and how they are written."""

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Amount:
    """A positive number that is known (`low` is `high`), or censored: between two bounds, 0 and infinity for none.

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
        """Are both bounds equal?"""
        return self.low == self.high

    @property
    def value(self) -> float:
        """The number or its only bound; NaN if there is none."""
        return (self.low or math.nan) if self.known or math.isinf(self.high) else self.high

    def __str__(self) -> str:
        if self.known:
            return _text(self.low)
        if math.isinf(self.high):
            return f"> {_text(self.low)}" if self.low else "unknown"
        return f"{_text(self.low)} to {_text(self.high)}" if self.low else f"< {_text(self.high)}"


@dataclass(frozen=True)
class AmountEstimate:
    """An amount with its 95 % interval [low, high], and the seeds whose own amounts are censored.

    Example:
        >>> print(AmountEstimate(Amount(20_000, math.inf), 16_500, math.inf, censored=(0, 2)))
        > 20,000 [16,500, ∞), censored: seeds 0, 2
    """

    amount: Amount
    low: float
    high: float
    censored: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        if not (self.low <= self.amount.low and self.amount.high <= self.high):
            raise ValueError(f"Expected [low, high] to contain {self.amount}, but got [{self.low}, {self.high}].")

    def __str__(self) -> str:
        end = "∞)" if math.isinf(self.high) else f"{_text(self.high)}]"
        seeds = f", censored: seed{'s' * (len(self.censored) > 1)} {', '.join(map(str, self.censored))}"
        return f"{self.amount} [{_text(self.low)}, {end}{seeds if self.censored else ''}"


def _text(number: float) -> str:
    return f"{number:,.0f}" if number >= 99.95 else f"{number:.3g}"
