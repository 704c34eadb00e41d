"""A matrix as colours with its values written in: which attacks carry over to which models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from lightning_robust import _checks
from lightning_robust._checks import instance, number, sequence
from lightning_robust.plots.rows import check_texts
from lightning_robust.plots.style import COLOURS, GRID, INK, new_figure, text_inches, themed, wrap_evenly
from lightning_robust.plots.units import PERCENT, Unit
from lightning_robust_studies.stutz2019.plots.arrays import shaped

if TYPE_CHECKING:
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

_NAME_CHARACTERS = 16
_NAME_SIZE, _VALUE_SIZE = 9.5, 9.0
_CELL_HEIGHT, _LEAST_CELL_WIDTH, _CELL_MARGIN = 0.42, 0.62, 0.2
_MOST_WIDTH = 15.0
_LUMINANCE = (0.299, 0.587, 0.114)  # weights of red, green and blue
_DARK = 0.55  # brightness below which white letters are read better than dark ones


def heat_map(
    matrix: Tensor | Sequence[Sequence[float]],
    row_names: Sequence[str],
    column_names: Sequence[str],
    *,
    unit: Unit = PERCENT,
    low: float | None = None,
    high: float | None = None,
    title: str = "",
    xlabel: str = "",
    ylabel: str = "",
) -> Figure:
    """A cell for each entry: the darker, the larger; its value stands in it. NaN is a white cell with ``n/a``.

    Args:
        matrix: values (R, C), NaN where there is none.
        row_names: of the R rows, from top to bottom.
        column_names: of the C columns, from left to right.
        unit: how values are written; by default fractions, written in percent. Only the number stands in the cell; a
            symbol joins the title.
        low: the value shown as white; by default 0, or the smallest value if that is negative; lower ones are clipped.
        high: the value with full colour; by default the largest; higher ones are clipped.
        title: above the figure.
        xlabel: below the columns' names, for example ``"evaluated on"``.
        ylabel: beside the rows' names, for example ``"made on"``.

    Raises:
        ValueError: if ``matrix`` is not (R, C) or holds infinity, the number of names is another one, or ``low`` is not
            below ``high``.

    Example:
        >>> figure = heat_map([[0.9, 0.2], [0.25, 0.85]], ["a", "b"], ["a", "b"], title="Success")
        >>> [text.get_text() for text in figure.axes[0].texts], figure.get_suptitle()
        (['90.0', '20.0', '25.0', '85.0'], 'Success [%]')
    """
    values = shaped("matrix", matrix, "RC")
    if values.isinf().any():
        raise ValueError("Expected argument `matrix` to be finite or NaN, but got an infinite value.")
    for name, names, n in (("row_names", row_names, len(values)), ("column_names", column_names, values.shape[1])):
        for i, entry in enumerate(sequence(name, names, f"{n} names", n)):
            _checks.text(f"{name}[{i}]", entry, empty=True)
    check_texts(title=title, xlabel=xlabel, ylabel=ylabel)
    instance("unit", unit, Unit, "a Unit")
    bottom, top = _range(values, low, high)

    texts = [[unit.number(v) for v in row] for row in values.tolist()]
    rows = [wrap_evenly(name, 2 * _NAME_CHARACTERS) for name in row_names]
    columns = [wrap_evenly(name, _NAME_CHARACTERS) for name in column_names]
    names_width = max(_block_width(name) for name in rows)
    written = max(text_inches(text, _VALUE_SIZE) for row in texts for text in row)
    narrow = max(_LEAST_CELL_WIDTH, _CELL_MARGIN + written)
    wide = max(narrow, _CELL_MARGIN + max(_block_width(name) for name in columns))
    upright = 0.7 + names_width + wide * len(columns) > _MOST_WIDTH
    cell = narrow if upright else wide
    names_height = max(_block_width(n) for n in columns) if upright else 0.17 * max(n.count("\n") + 1 for n in columns)
    cell_height = max(_CELL_HEIGHT, 0.1 + 0.17 * max(name.count("\n") + 1 for name in rows))
    full_title = f"{title} [{unit.symbol}]".strip() if unit.symbol else title

    with themed():
        title_width = 0.3 + 1.2 * text_inches(full_title, 12.0)  # bold letters are wider
        width = max(0.7 + names_width + cell * len(columns), title_width, 2.5)
        figure = new_figure(width, 1.0 + names_height + cell_height * len(rows))
        axes = figure.add_subplot()
        image = axes.imshow(values.numpy(), cmap=_colours(), vmin=bottom, vmax=top, aspect="auto")
        brightness = image.to_rgba(values.numpy())[..., :3] @ _LUMINANCE  # (R, C)
        for i, row in enumerate(texts):
            for j, text in enumerate(row):
                ink = INK if brightness[i, j] > _DARK else "white"
                axes.text(j, i, text, ha="center", va="center", fontsize=_VALUE_SIZE, color=ink)
        axes.set_xticks(range(len(columns)), columns, rotation=90 if upright else 0, fontsize=_NAME_SIZE)
        axes.set_yticks(range(len(rows)), rows, fontsize=_NAME_SIZE)
        axes.tick_params(length=0)
        axes.grid(visible=False)
        axes.spines[["left", "bottom"]].set_visible(False)
        for edge in range(len(columns) + 1):
            axes.axvline(edge - 0.5, color=GRID, linewidth=0.8)
        for edge in range(len(rows) + 1):
            axes.axhline(edge - 0.5, color=GRID, linewidth=0.8)
        if full_title:
            figure.suptitle(full_title, x=0.01, ha="left", fontsize=12, fontweight="bold")
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
    return figure


def _range(values: Tensor, low: float | None, high: float | None) -> tuple[float, float]:
    known = values[~values.isnan()]
    smallest, largest = (known.min().item(), known.max().item()) if known.numel() else (0.0, 1.0)
    bottom = min(0.0, smallest) if low is None else number("low", low)
    top = (largest if largest > bottom else bottom + 1.0) if high is None else number("high", high)
    if not bottom < top:
        raise ValueError(f"Expected argument `low` to be below `high` = {top}, but got {bottom}.")
    return bottom, top


def _colours() -> Colormap:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("white to blue", ["#ffffff", COLOURS[0]]).with_extremes(bad="#ffffff")


def _block_width(text: str) -> float:
    return max((text_inches(line, _NAME_SIZE) for line in text.splitlines()), default=0.0)
