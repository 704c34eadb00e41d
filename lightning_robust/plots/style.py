"""One look for all figures: fonts, colours, empty figures with room for a legend, and the way to a PNG.

Figures are built through matplotlib's object-oriented interface. pyplot is never imported, no backend is chosen, and
the user's ``rcParams`` are as before afterwards; nor do they leak into our figures.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_robust._checks import instance, number
from lightning_robust._files import write_bytes
from lightning_robust._optional import optional

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#262626"
"""Text and interval whiskers."""
MUTED = "#6b6b6b"
"""Notes, axis lines, and whatever should stand back."""
GRID = "#e3e3e3"
"""Grid lines."""
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#4d4d4d")
"""The colours of Okabe and Ito (2008), told apart with every common kind of colour vision; without the yellow, which
is hard to see on white."""
GOOD, BAD = COLOURS[0], COLOURS[1]

_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_DASHES = ("-", "--", ":", "-.")
_HATCHES = ("", "////", "....", "xxxx")
_PNG_DPI = 160
_POINTS_AN_INCH = 72
_LEGEND_SIZE = 9.5

_THEME: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # travels with matplotlib: the same figure on every machine
    "font.size": 10.0,
    "text.color": INK,
    "axes.titlesize": 12.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10.0,
    "axes.labelsize": 10.0,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "hatch.linewidth": 0.7,
    "lines.linewidth": 1.8,
    "lines.markersize": 5.5,
    "lines.markeredgecolor": "white",
    "lines.markeredgewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": _LEGEND_SIZE,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}


@dataclass(frozen=True)
class Look:
    """How one group is drawn everywhere in a figure: a colour, and a shape for when colour is not enough."""

    colour: str
    marker: str
    dash: str
    hatch: str


def looks(labels: Iterable[Hashable]) -> dict[Hashable, Look]:
    """A look for each distinct label, in order of first appearance; colours repeat after seven, with another pattern.

    Example:
        >>> looks(["normal", "adversarial", "normal"])["adversarial"].colour
        '#d55e00'
    """
    distinct = tuple(dict.fromkeys(labels))
    return {label: _look(i) for i, label in enumerate(distinct)}


def _look(i: int) -> Look:
    lap = i // len(COLOURS)
    return Look(
        colour=COLOURS[i % len(COLOURS)],
        marker=_MARKERS[i % len(_MARKERS)],
        dash=_DASHES[lap % len(_DASHES)],
        hatch=_HATCHES[lap % len(_HATCHES)],
    )


@contextmanager
def themed() -> Iterator[None]:
    """Within it, new artists have this package's look, whatever the user's ``rcParams`` say; these are put back."""
    with optional("matplotlib.style", "report").context(["default", _THEME]):
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of ``width`` x ``height`` inches that makes room for labels by itself; use within `themed`."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def legend_below(figure: Figure, panels: Iterable[Axes]) -> None:
    """Puts one legend for all ``panels`` under the whole figure, in as many columns as its labels leave room for."""
    entries: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    if not entries:
        return
    inches = [0.62 + text_inches(label, _LEGEND_SIZE) for label in entries]
    room = figure.get_figwidth() - 0.2
    columns = len(entries) if sum(inches) <= room else max(1, int(room / max(inches)))
    columns = even_columns(len(entries), columns)
    figure.legend(
        list(entries.values()),
        list(entries),
        loc="outside lower left",
        ncols=columns,
        handlelength=1.8,
        columnspacing=1.6,
    )


def text_inches(text: str, fontsize: float) -> float:
    """How wide one line of text is in this package's font, in inches."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    if not text.strip():
        return 0.0
    font = FontProperties(family=_THEME["font.family"])
    return float(TextPath((0, 0), text, size=fontsize, prop=font).get_extents().width) / _POINTS_AN_INCH


def shorten(text: str, inches: float, fontsize: float) -> str:
    """``text``, or as much of its beginning as fits into ``inches`` with an ellipsis.

    Example:
        >>> shorten("cat", 0.8, fontsize=8), shorten("an automobile", 0.5, fontsize=8)
        ('cat', 'an aut…')
    """
    if text_inches(text, fontsize) <= inches:
        return text
    for length in range(len(text) - 1, 0, -1):
        cut = text[:length].rstrip() + "…"
        if text_inches(cut, fontsize) <= inches:
            return cut
    return "…"


def even_columns(n: int, most: int) -> int:
    """How many columns hold ``n`` things in as few rows as ``most`` columns would, with the rows as even as can be.

    Example:
        >>> even_columns(6, most=4), even_columns(4, most=4), even_columns(9, most=4)
        (3, 4, 3)
    """
    return math.ceil(n / math.ceil(n / min(n, most)))


def wrap_evenly(text: str, characters: int) -> str:
    """``text`` in as few lines of ``characters`` as it needs, all about equally long: no lone last word.

    Example:
        >>> wrap_evenly("robust error, PGD-40 x 3", 22).splitlines()
        ['robust error,', 'PGD-40 x 3']
    """
    lines = textwrap.wrap(text, characters)
    for fewer in range(max(1, math.ceil(len(text) / max(1, len(lines)))), characters):
        even = textwrap.wrap(text, fewer)
        if len(even) <= len(lines):
            return "\n".join(even)
    return "\n".join(lines)


def png(figure: Figure, dpi: float = _PNG_DPI) -> bytes:
    """The figure as the bytes of a PNG file; the same bytes for the same figure."""
    from matplotlib.figure import Figure

    instance("figure", figure, Figure, "a matplotlib figure")
    buffer, dpi = io.BytesIO(), number("dpi", dpi, 0, above=True)
    with themed():
        figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def save_png(figure: Figure, path: str | Path, dpi: float = _PNG_DPI) -> Path:
    """Writes the figure to ``path`` as a PNG: whole or not at all."""
    return write_bytes(path, png(figure, dpi))
