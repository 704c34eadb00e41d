"""Points by group: a colour and a marker that together are each group's own."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import replace

from lightning_robust.plots.style import COLOURS, Look, looks


def point_looks(labels: Iterable[Hashable]) -> dict[Hashable, Look]:
    """As `looks`, but after seven groups the repeated colours come with another marker; 49 groups are told apart.

    `looks` tells such groups apart by dashes and hatches, which points do not have.

    Example:
        >>> both = point_looks(range(8))
        >>> (both[0].colour, both[0].marker), (both[7].colour, both[7].marker)
        (('#0072b2', 'o'), ('#0072b2', 's'))
    """
    markers = [look.marker for look in looks(range(len(COLOURS))).values()]
    return {
        label: replace(look, marker=markers[(i + i // len(COLOURS)) % len(markers)])
        for i, (label, look) in enumerate(looks(labels).items())
    }


def point_area(n: int) -> float:
    """The area of a marker, in square points, for ``n`` points in one panel: from 42 for few to 8 for thousands.

    Example:
        >>> [round(point_area(n)) for n in (10, 500, 10_000)]
        [42, 22, 8]
    """
    return min(42.0, max(8.0, 500.0 / n**0.5))
