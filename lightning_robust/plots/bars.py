"""Grouped bars with intervals."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np

from lightning_robust._checks import instance
from lightning_robust.plots._style import INK, MUTED, add_legend, looks, new_figure, style
from lightning_robust.plots.estimate import PERCENT, Unit
from lightning_robust.plots.rows import Rows, check_texts, checked_rows

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_GAP = 0.8  # between two groups, in bars
_INCHES_PER_BAR = 0.46
_LEAST_WIDTH, _MOST_WIDTH = 4.8, 15.0
_LETTERS_PER_INCH = 10.5


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
    """Bars of `value`, whiskers from `low` to `high`: a cluster for each `group`, a color for each `bar`.

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
    numbers = np.array([[float(row[column]) for column in (low, value, high)] for row in rows])  # (R, 3)
    _check_intervals(numbers, value, low, high)
    cells = {(row[group], row[bar]): ends for row, ends in zip(rows, numbers, strict=True)}
    if len(cells) < len(rows):
        keys = [(row[group], row[bar]) for row in rows]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(
            f"Expected argument `rows` to have one row for each {group} and {bar}, but got two for {twice}."
        )
    groups, bars = (list(dict.fromkeys(row[column] for row in rows)) for column in (group, bar))

    with style():
        from matplotlib.patheffects import withStroke

        pitch = len(bars) + _GAP
        width = min(_MOST_WIDTH, max(_LEAST_WIDTH, 1.0 + _INCHES_PER_BAR * pitch * len(groups)))
        figure = new_figure(width, 4.2)
        axes = figure.add_subplot()
        for j, (name, look) in enumerate(looks(bars).items()):
            shown = {i * pitch + j: cells[g, name] for i, g in enumerate(groups) if (g, name) in cells}
            below, heights, above = np.stack(list(shown.values()), axis=1)
            container = axes.bar(
                list(shown),
                heights,
                width=0.86,
                yerr=np.stack((heights - below, above - heights)).clip(min=0.0),
                error_kw={"ecolor": INK, "elinewidth": 1.1, "capsize": 2.5, "capthick": 1.1},
                color=look.color,
                hatch=look.hatch,
                edgecolor="white",
                linewidth=0.0,
                label=str(name),
            )
            halo = withStroke(linewidth=2.5, foreground="white")  # a grid line must not cross the digits
            texts = [unit.number(height) for height in heights]
            axes.bar_label(container, texts, padding=3, fontsize=8.5, path_effects=[halo])
        letters = max(8, int((width - 1.0) / len(groups) * _LETTERS_PER_INCH))
        middles = [i * pitch + (len(bars) - 1) / 2 for i in range(len(groups))]
        axes.set_xticks(middles, [textwrap.fill(str(g), letters) for g in groups])
        axes.tick_params(axis="x", length=0)
        axes.margins(x=1.2 / len(rows))  # a lone bar does not fill the figure
        axes.set_ylim(0.0, 1.09 * (numbers.max() or 1.0))
        axes.yaxis.set_major_formatter(lambda height, _: unit.tick(height))
        axes.set_title(title)
        axes.set_ylabel(ylabel)
        axes.set_xlabel(note, loc="left", fontsize=8.5, color=MUTED)
        add_legend(figure)
    return figure


def _check_intervals(numbers: np.ndarray, value: str, low: str, high: str) -> None:
    slack = 1e-6 * np.maximum(1.0, np.abs(numbers[:, 1:2]))  # float32
    fine = np.isfinite(numbers).all(1) & (numbers[:, 1] >= 0) & (np.diff(numbers) >= -slack).all(1)
    if not fine.all():
        row = int(np.argmin(fine))
        below, height, above = numbers[row].tolist()
        raise ValueError(
            f"Expected argument `rows` to have finite numbers with 0 <= {value} and {low} <= {value} <= {high}, "
            f"but row {row} has {value} = {height}, {low} = {below}, {high} = {above}."
        )
