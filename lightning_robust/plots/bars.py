"""Grouped bars with intervals."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lightning_robust._checks import instance
from lightning_robust.plots._style import INK, MUTED, add_legend, looks, new_figure, style
from lightning_robust.plots.rows import Row, Rows, check_texts, checked_rows
from lightning_robust.plots.units import PERCENT, Unit

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_GAP = 0.8  # between two groups, in bars
_INCHES_PER_BAR = 0.46
_LEAST_WIDTH, _MOST_WIDTH = 4.8, 15.0
_CHARACTERS_PER_INCH = 10.5


def bar_chart(
    rows: Rows | pd.DataFrame,
    *,
    group: str = "metric",
    bar: str = "model",
    value: str = "value",
    low: str = "low",
    high: str = "high",
    unit: Unit = PERCENT,
    title: str = "",
    ylabel: str = "",
    note: str = "Whiskers: 95 % intervals",
) -> Figure:
    """Bars of ``value``, whiskers from ``low`` to ``high``: a cluster for each ``group``, a color for each ``bar``.

    Groups and bars stand in the order in which the rows first name them. A combination that no row has leaves a gap.

    Args:
        rows: a tidy table, one row a bar; `Estimate.row` makes such rows.
        group: the column that names the cluster along the x axis.
        bar: the column that names the bar within a cluster, and with it the color.
        value: the column of heights, at least 0.
        low: the column of lower interval ends.
        high: the column of upper interval ends.
        unit: how numbers are written; by default fractions, written in percent.
        title: above the figure.
        ylabel: beside the y axis.
        note: small, below the axis; says what the whiskers are.

    Raises:
        ValueError: there is no row, a column is missing, a combination comes twice, or a value is negative, not
            finite, or outside its interval.

    Example:
        >>> from lightning_robust.plots import Estimate
        >>> figure = bar_chart([Estimate(0.136, 0.123, 0.150, 2500).row(model="on-manifold", metric="test error")])
        >>> float(figure.axes[0].patches[0].get_height())
        0.136
    """
    rows = checked_rows(rows, {"group": group, "bar": bar, "value": value, "low": low, "high": high})
    check_texts(title=title, ylabel=ylabel, note=note)
    instance("unit", unit, Unit, "a Unit")
    for row in rows:
        _check_interval(row, value, low, high)
    groups, bars = (list(dict.fromkeys(row[column] for row in rows)) for column in (group, bar))
    cells = _by_cell(rows, group, bar)

    with style():
        from matplotlib.patheffects import withStroke

        pitch = len(bars) + _GAP
        width = min(_MOST_WIDTH, max(_LEAST_WIDTH, 1.0 + _INCHES_PER_BAR * pitch * len(groups)))
        figure = new_figure(width, 4.2)
        axes = figure.add_subplot()
        for j, (name, look) in enumerate(looks(bars).items()):
            shown = {i * pitch + j: cells[g, name] for i, g in enumerate(groups) if (g, name) in cells}
            heights = [float(row[value]) for row in shown.values()]
            ends = [(float(row[low]), float(row[high])) for row in shown.values()]
            container = axes.bar(
                list(shown),
                heights,
                width=0.86,
                yerr=[
                    [max(0.0, height - below) for height, (below, _) in zip(heights, ends, strict=True)],
                    [max(0.0, above - height) for height, (_, above) in zip(heights, ends, strict=True)],
                ],
                error_kw={"ecolor": INK, "elinewidth": 1.1, "capsize": 2.5, "capthick": 1.1},
                color=look.color,
                hatch=look.hatch,
                edgecolor="white",
                linewidth=0.0,
                label=str(name),
            )
            labels = [unit.number(height) for height in heights]
            halo = withStroke(linewidth=2.5, foreground="white")  # a grid line must not cross the digits
            axes.bar_label(container, labels, padding=3, fontsize=8.5, path_effects=[halo])
        middles = [i * pitch + (len(bars) - 1) / 2 for i in range(len(groups))]
        characters = max(8, int((width - 1.0) / len(groups) * _CHARACTERS_PER_INCH))
        axes.set_xticks(middles, [textwrap.fill(str(g), characters) for g in groups])
        axes.tick_params(axis="x", length=0)
        axes.margins(x=1.2 / len(rows))  # a lone bar does not fill the figure
        axes.set_ylim(0.0, 1.09 * (max(float(row[high]) for row in rows) or 1.0))
        axes.yaxis.set_major_formatter(lambda height, _: unit.tick(height))
        axes.set_title(title)
        axes.set_ylabel(ylabel)
        axes.set_xlabel(note, loc="left", fontsize=8.5, color=MUTED)
        add_legend(figure)
    return figure


def _by_cell(rows: Sequence[Row], group: str, bar: str) -> dict[tuple[Any, Any], Row]:
    cells: dict[tuple[Any, Any], Row] = {}
    for row in rows:
        if cells.setdefault((row[group], row[bar]), row) is not row:
            raise ValueError(
                f"Expected argument `rows` to have one row for each {group} and {bar}, "
                f"but got two for {(row[group], row[bar])}."
            )
    return cells


def _check_interval(row: Row, value: str, low: str, high: str) -> None:
    height, below, above = (float(row[column]) for column in (value, low, high))
    slack = 1e-6 * max(1.0, abs(height))  # float32
    if not (0 <= height < math.inf and -math.inf < below <= height + slack and height - slack <= above < math.inf):
        raise ValueError(
            f"Expected argument `rows` to have finite numbers with 0 <= {value} and {low} <= {value} <= {high}, "
            f"but got {value} = {height}, {low} = {below}, {high} = {above}."
        )
