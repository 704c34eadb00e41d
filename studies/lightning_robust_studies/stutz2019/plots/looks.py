"""How groups of points look."""

from typing import Any

MARKERS = "os^DvPX"
_COLORS = 7  # in the cycle of the library's style


def look(i: int) -> dict[str, Any]:
    """The color and marker of the i-th group; 49 groups look different.

    Example:
        >>> look(0), look(7)
        ({'color': 'C0', 'marker': 'o'}, {'color': 'C0', 'marker': 's'})
    """
    return {"color": f"C{i % _COLORS}", "marker": MARKERS[(i + i // _COLORS) % len(MARKERS)]}


def area(n: int) -> float:
    """The area of a marker, in square points, for n points in one panel: from 42 for few to 8 for thousands."""
    return min(42.0, max(8.0, 500.0 / max(n, 1) ** 0.5))
