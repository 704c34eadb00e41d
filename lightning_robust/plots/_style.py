"""One look for all figures: a style file, a look for each group, one legend, and the way to a PNG.

Figures are built through matplotlib's object-oriented interface: pyplot is never imported and no backend is chosen.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_robust import _checks
from lightning_robust._files import write_bytes
from lightning_robust._optional import optional

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, MUTED, GRID = "#262626", "#6b6b6b", "#e3e3e3"
"""The colors of text, of what stands back, and of grid lines."""
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#4d4d4d")
"""The colors of the style file."""

_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_DASHES = ("-", "--", ":", "-.")
_HATCHES = ("", "////", "....", "xxxx")
_MOST_GROUPS = len(COLORS) * len(_DASHES)
_STYLE = Path(__file__).with_name("report.mplstyle")
_PNG_DPI = 160
_LEGEND_WIDTH = 0.92  # of the figure: at another resolution letters are a little wider


@dataclass(frozen=True)
class Look:
    """How one group is drawn everywhere in a figure: a color, and shapes for when color is not enough."""

    color: str
    marker: str
    dash: str
    hatch: str


def looks(groups: Iterable[Hashable]) -> dict[Hashable, Look]:
    """A look for each distinct group, in order of first appearance.

    After seven groups the colors come again, with another marker, dash and hatch.

    Raises:
        ValueError: there are more than 28 groups, which could not be told apart.

    Example:
        >>> looks(["normal", "adversarial", "normal"])["adversarial"]
        Look(color='#d55e00', marker='s', dash='-', hatch='')
    """
    distinct = list(dict.fromkeys(groups))
    if len(distinct) > _MOST_GROUPS:
        raise ValueError(
            f"Expected at most {_MOST_GROUPS} groups in a figure, but got {len(distinct)}. Draw several figures."
        )
    return {group: _look(*divmod(i, len(COLORS))) for i, group in enumerate(distinct)}


def _look(lap: int, i: int) -> Look:
    return Look(COLORS[i], _MARKERS[(i + lap) % len(_MARKERS)], _DASHES[lap], _HATCHES[lap])


@contextmanager
def style() -> Iterator[None]:
    """Within it, new figures have this package's look, whatever the user's `rcParams` say; these are put back.

    Example:
        >>> from matplotlib.figure import Figure
        >>> with style():
        ...     axes = Figure(layout="constrained").add_subplot()
        >>> axes.spines["top"].get_visible()
        False
    """
    with optional("matplotlib.style", "report").context(["default", str(_STYLE)]):
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of `width` x `height` inches that makes room for labels by itself; use within `style`."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def add_legend(figure: Figure) -> None:
    """Put one legend for all panels below the figure, each label once, in as many columns as the figure is wide for.

    A label that is too long for a single column goes on in the next line.
    """
    handles = {
        label: handle for axes in figure.axes for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    columns, letters = len(handles), max(map(len, handles), default=0)
    while handles:
        labels = [label if len(label) <= letters else textwrap.fill(label, letters) for label in handles]
        legend = figure.legend(list(handles.values()), labels, loc="outside lower left", ncols=columns)
        if legend.get_window_extent().x1 <= _LEGEND_WIDTH * figure.bbox.width or letters == 1:
            return
        legend.remove()
        columns, letters = (columns - 1, letters) if columns > 1 else (1, letters - 1)


def png(figure: Figure, dpi: float = _PNG_DPI) -> bytes:
    """The figure as the bytes of a PNG file; the same bytes for the same figure."""
    _checks.instance("figure", figure, optional("matplotlib.figure", "report").Figure, "a matplotlib figure")
    buffer, dpi = io.BytesIO(), _checks.number("dpi", dpi, 0, above=True)
    with style():
        figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def save_png(figure: Figure, path: str | Path, dpi: float = _PNG_DPI) -> Path:
    """Write the figure to `path` as a PNG, whole or not at all."""
    return write_bytes(path, png(figure, dpi))
