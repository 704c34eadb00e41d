"""Grouped bars with intervals."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from lightning_robust._checks import instance
from lightning_robust.plots.rows import Row, Rows, check_texts, checked_rows
from lightning_robust.plots.style import INK, MUTED, legend_below, looks, new_figure, themed, wrap_evenly
from lightning_robust.plots.units import PERCENT, Unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BAR_INCHES = 0.46
_MOST_BAR_INCHES = 0.8
_GAP_BARS = 0.8  # room between two groups, in bars


def bar_chart(
    rows: Rows,
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
    """Bars of ``value``, whiskers from ``low`` to ``high``: a cluster for each ``group``, a colour for each ``bar``.

    Groups and bars stand in the order in which the rows first name them. A combination that no row has leaves a gap.

    Args:
        rows: a tidy table, one row a bar; `Estimate.row` makes such rows.
        group: the column that names the cluster along the x axis.
        bar: the column that names the bar within a cluster, and with it the colour.
        value: the column of heights, at least 0.
        low: the column of lower interval ends.
        high: the column of upper interval ends.
        unit: how numbers are written; by default fractions, written in percent.
        title: above the figure.
        ylabel: beside the y axis.
        note: small, below the axis; says what the whiskers are.

    Raises:
        ValueError: if there is no row, a column is missing, a combination comes twice, or a value is negative, not
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
    cells = _by_cell(rows, group, bar)
    for row in rows:
        _check_row(row, value, low, high)
    groups, bars = (list(dict.fromkeys(row[column] for row in rows)) for column in (group, bar))
    top = max(float(row[high]) for row in rows) or 1.0

    with themed():
        pitch = len(bars) + _GAP_BARS
        width = min(15.0, max(4.8, 1.0 + _BAR_INCHES * pitch * len(groups)))
        figure = new_figure(width, 4.2)
        axes = figure.add_subplot()
        for j, (name, look) in enumerate(looks(bars).items()):
            present = [(i * pitch + j, cells[g, name]) for i, g in enumerate(groups) if (g, name) in cells]
            positions = [x for x, _ in present]
            heights = [float(row[value]) for _, row in present]
            below = [max(0.0, float(row[value]) - float(row[low])) for _, row in present]
            above = [max(0.0, float(row[high]) - float(row[value])) for _, row in present]
            axes.bar(
                positions,
                heights,
                width=0.86,
                color=look.colour,
                hatch=look.hatch,
                edgecolor="white",
                linewidth=0.0,
                label=str(name),
            )
            axes.errorbar(
                positions,
                heights,
                yerr=[below, above],
                fmt="none",
                ecolor=INK,
                elinewidth=1.1,
                capsize=2.5,
                capthick=1.1,
            )
            for x, height, up in zip(positions, heights, above, strict=True):
                _write_value(axes, x, height + up, unit.number(height))
        middles = [i * pitch + (len(bars) - 1) / 2 for i in range(len(groups))]
        characters = max(8, int((width - 1.0) / len(groups) / 0.085))
        axes.set_xticks(middles, [wrap_evenly(str(g), characters) for g in groups])
        axes.tick_params(axis="x", length=0)
        span = max(pitch * len(groups), (width - 1.0) / _MOST_BAR_INCHES)  # a lone bar does not fill the figure
        centre = (pitch * (len(groups) - 1) + len(bars) - 1) / 2
        axes.set_xlim(centre - span / 2, centre + span / 2)
        axes.set_ylim(0.0, 1.09 * top)
        axes.yaxis.set_major_formatter(lambda v, _: unit.tick(v))
        axes.set_title(title)
        axes.set_ylabel(ylabel)
        axes.set_xlabel(note, loc="left", fontsize=8.5, color=MUTED)
        legend_below(figure, [axes])
    return figure


def _write_value(axes: Axes, x: float, y: float, text: str) -> None:
    from matplotlib.patheffects import withStroke

    halo = withStroke(linewidth=2.5, foreground="white")  # a grid line must not cross the digits
    axes.annotate(
        text,
        (x, y),
        xytext=(0, 3),
        textcoords="offset points",
        ha="center",
        va="bottom",
        fontsize=8.5,
        path_effects=[halo],
    )


def _by_cell(rows: Rows, group: str, bar: str) -> dict[tuple[Any, Any], Row]:
    cells: dict[tuple[Any, Any], Row] = {}
    for row in rows:
        key = (row[group], row[bar])
        if key in cells:
            raise ValueError(
                f"Expected argument `rows` to have one row for each {group} and {bar}, but got two for {key}."
            )
        cells[key] = row
    return cells


def _check_row(row: Row, value: str, low: str, high: str) -> None:
    v, a, b = (float(row[column]) for column in (value, low, high))
    slack = 1e-6 * max(1.0, abs(v))
    if not (math.isfinite(v) and math.isfinite(a) and math.isfinite(b) and v >= 0 and a - slack <= v <= b + slack):
        raise ValueError(
            f"Expected argument `rows` to have finite numbers with 0 <= {value} and {low} <= {value} <= {high}, "
            f"but got {value} = {v}, {low} = {a}, {high} = {b}."
        )
