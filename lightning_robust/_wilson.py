"""The formula of Wilson's score interval, for numbers and for tensors."""

from typing import TypeVar

from torch import Tensor

_Real = TypeVar("_Real", float, Tensor)

Z95 = 1.959963984540054
"""The normal quantile of an interval of 95 %."""


def wilson_low(s: _Real, n: _Real, z: float) -> _Real:
    r"""The lower end of the interval; the upper one is :math:`1 - \mathrm{low}(n - s, n)`.

    .. math:: \text{low}(s, n) = \frac{s^2 / n}{s + z^2/2 + z \sqrt{s (n - s) / n + z^2/4}}

    Args:
        s: successes.
        n: trials, above 0.
        z: the normal quantile.
    """
    rate = s / n
    return s * rate / (s + z**2 / 2 + z * (rate * (n - s) + z**2 / 4) ** 0.5)
