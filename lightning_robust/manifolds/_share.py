"""A share of samples, as two counts."""

import math
from dataclasses import dataclass

from torch import Tensor

from lightning_robust._checks import count
from lightning_robust._wilson import Z95, wilson_low


@dataclass(frozen=True)
class Share:
    """How many of some samples, with the 95 % interval of Wilson.

    Args:
        hits: the samples that count.
        n: all of them. With none the value is NaN and the interval (0, 1).

    Raises:
        ValueError: if `hits` is above `n`.

    Example:
        >>> share = Share(45, 100)
        >>> print(share, f"{share.value:.2f} {share.low:.4f} {share.high:.4f}")
        45.0 % [35.6, 54.8] 0.45 0.3561 0.5476
    """

    hits: int
    n: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "n", count("n", self.n, 0))
        object.__setattr__(self, "hits", count("hits", self.hits, 0, self.n))

    @classmethod
    def of(cls, hits: Tensor) -> "Share":
        """Count the true entries of a boolean tensor (N,)."""
        return cls(int(hits.sum()), len(hits))

    @property
    def value(self) -> float:
        """The share, from 0 to 1."""
        return self.hits / self.n if self.n else math.nan

    @property
    def low(self) -> float:
        """The lower end of its interval."""
        return wilson_low(float(self.hits), float(self.n), Z95) if self.n else 0.0

    @property
    def high(self) -> float:
        """The upper end of its interval."""
        return 1 - self.rest.low

    @property
    def rest(self) -> "Share":
        """The share of the samples that do not count."""
        return Share(self.n - self.hits, self.n)

    def __str__(self) -> str:
        """In per cent, with the interval."""
        return f"{100 * self.value:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}]"
