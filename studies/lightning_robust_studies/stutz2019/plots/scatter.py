"""Points with a regression line: does one measured number go with another?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lightning_robust._checks import instance
from lightning_robust.plots.rows import Rows, check_texts, distinct, named_columns
from lightning_robust.plots.style import INK, MUTED, Look, even_columns, legend_below, new_figure, themed
from lightning_robust.plots.units import PERCENT, Unit
from lightning_robust_studies.stutz2019.plots.arrays import Numbers, finite
from lightning_robust_studies.stutz2019.plots.points import point_area, point_looks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANELS_A_ROW = 4
_LEAST_POINTS = 3
_SMALLEST_P = 1e-3


@dataclass(frozen=True)
class LinearFit:
    """The line ``y = slope * x + intercept``, and how closely ``n`` points follow it; made by `linear_fit`.

    Args:
        slope: of the line.
        intercept: of the line.
        r: Pearson's correlation of x and y in [-1, 1]; NaN where all ``y`` are equal.
        interval: the 95 % interval of r by Fisher's transformation; three points say nothing: (-1, 1). NaN where
            ``r`` is.
        p: two-sided p-value of ``slope = 0``; NaN where ``r`` is.
        n: number of points.
    """

    slope: float
    intercept: float
    r: float
    interval: tuple[float, float]
    p: float
    n: int

    def at(self, x: float) -> float:
        """The height of the line at ``x``."""
        return self.slope * x + self.intercept

    def text(self) -> str:
        """How the fit is written in a figure, with the 95 % interval of r.

        Example:
            >>> LinearFit(slope=1.0, intercept=0.0, r=0.934, interval=(0.294, 0.996), p=0.0201, n=5).text()
            'r = 0.934 [0.294, 0.996], p = 0.020, n = 5'
        """
        if math.isnan(self.r):
            return f"r and p n/a (all heights equal), n = {self.n}"
        p = f"p < {_SMALLEST_P}" if self.p < _SMALLEST_P else f"p = {self.p:.3f}"
        r, low, high = (f"{round(value, 3) + 0.0:.3f}" for value in (self.r, *self.interval))
        return f"r = {r} [{low}, {high}], {p}, n = {self.n}"


def linear_fit(x: Numbers, y: Numbers) -> LinearFit:
    """The least-squares line of ``y`` over ``x`` (`scipy.stats.linregress`), with Pearson's r (`scipy.stats.pearsonr`).

    The p-value and the interval take the points as independent; models that share training data, or a seed, are not
    quite.

    Args:
        x: positions (n,), n >= 3, not all equal.
        y: heights (n,).

    Raises:
        ValueError: if the lengths differ, there are fewer than three points, a number is not finite, or all ``x`` are
            equal.

    Example:
        >>> fit = linear_fit([0.0, 1.0, 2.0, 3.0], [1.0, 3.0, 4.0, 8.0])
        >>> round(fit.slope, 3), round(fit.intercept, 3), round(fit.r, 3), round(fit.p, 3), fit.n
        (2.2, 0.7, 0.965, 0.035, 4)
    """
    from scipy.stats import linregress, pearsonr

    a, b = finite("x", x, "n").numpy(), finite("y", y, "n").numpy()
    n = len(a)
    if len(b) != n:
        raise ValueError(f"Expected arguments `x` and `y` to have one length, but got {n} and {len(b)}.")
    if n < _LEAST_POINTS:
        raise ValueError(f"Expected argument `x` to have at least {_LEAST_POINTS} points, but got {n}.")
    if a.min() == a.max():
        raise ValueError(f"Expected argument `x` to hold at least two values, but got only {a[0]}.")
    if b.min() == b.max():
        return LinearFit(0.0, float(b[0]), math.nan, (math.nan, math.nan), math.nan, n)
    line, correlation = linregress(a, b), pearsonr(a, b)
    low, high = correlation.confidence_interval(0.95)
    r, p = float(correlation.statistic), float(correlation.pvalue)
    return LinearFit(float(line.slope), float(line.intercept), r, (float(low), float(high)), p, n)


def regression_scatter(
    rows: Rows,
    x: str,
    y: str,
    *,
    group: str | None = None,
    panel: str | None = None,
    xunit: Unit = PERCENT,
    yunit: Unit = PERCENT,
    title: str = "",
    xlabel: str | None = None,
    ylabel: str | None = None,
) -> Figure:
    """A point for each row, coloured by ``group``, and in each ``panel`` one line through all its points, with r and p.

    The line is `linear_fit` over all groups of the panel, drawn from its smallest to its largest ``x``. A panel with
    fewer than three points, or with one value of ``x``, has no line, and says so. The panels share both axes.

    Args:
        rows: a tidy table, one row a point.
        x: the column of positions, for example the test error.
        y: the column of heights, for example the success rate of an attack.
        group: the column that names colour and marker (for example the training scheme); without it all are alike.
        panel: the column that names the panel (for example the threat); without it there is one.
        xunit: how numbers on the x axis are written; by default fractions, written in percent.
        yunit: how numbers on the y axis are written.
        title: above the figure.
        xlabel: below the x axis; by default the name of the column.
        ylabel: beside the y axis; by default the name of the column.

    Raises:
        ValueError: if there is no row, a column is missing, or a position or height is not finite.

    Example:
        >>> rows = [{"error": e / 10, "success": e / 5, "scheme": "normal"} for e in range(4)]
        >>> figure = regression_scatter(rows, "error", "success", group="scheme")
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['r = 1.000 [1.000, 1.000], p < 0.001, n = 4']
    """
    from matplotlib.ticker import MaxNLocator

    named_columns(rows, {"x": x, "y": y}, group=group, panel=panel)
    xlabel, ylabel = x if xlabel is None else xlabel, y if ylabel is None else ylabel
    check_texts(title=title, xlabel=xlabel, ylabel=ylabel)
    for name, unit in (("xunit", xunit), ("yunit", yunit)):
        instance(name, unit, Unit, "a Unit")
    _check_finite(rows, x)
    _check_finite(rows, y)
    look_of = point_looks(_names(rows, group))
    panels = [None] if panel is None else list(distinct(rows, panel))
    columns = even_columns(len(panels), _PANELS_A_ROW)
    lines = math.ceil(len(panels) / columns)

    with themed():
        width = 6.4 if columns == 1 else min(15.0, 0.8 + 3.4 * columns)
        figure = new_figure(width, 0.7 + (3.6 if columns == 1 else 3.2) * lines)
        grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
        for i, axes in enumerate(grid.flat):
            if i >= len(panels):
                axes.set_visible(False)
                continue
            shown = [row for row in rows if panel is None or row[panel] == panels[i]]
            _draw_points(axes, shown, x, y, group, look_of)
            _draw_fit(axes, [float(row[x]) for row in shown], [float(row[y]) for row in shown])
            if panel is not None:
                axes.set_title(str(panels[i]), fontsize=10.5, pad=20)
            if i + columns >= len(panels):
                axes.set_xlabel(xlabel)
                axes.tick_params(axis="x", labelbottom=True)
            if i % columns == 0:
                axes.set_ylabel(ylabel)
            axes.grid(visible=True, axis="both")
            axes.xaxis.set_major_locator(MaxNLocator(nbins=7 if columns == 1 else 5))
            axes.xaxis.set_major_formatter(lambda v, _: xunit.tick(v))
            axes.yaxis.set_major_formatter(lambda v, _: yunit.tick(v))
        if panel is None:
            grid[0, 0].set_title(title, pad=20)
        elif title:
            figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
        if group is not None:
            legend_below(figure, grid.flat[: len(panels)])
    return figure


def _names(rows: Rows, group: str | None) -> list[Any]:
    return [None if group is None else row[group] for row in rows]


def _check_finite(rows: Rows, column: str) -> None:
    for i, row in enumerate(rows):
        if not math.isfinite(float(row[column])):
            raise ValueError(f"Expected column `{column}` to be finite, but got {float(row[column])} in row {i}.")


def _draw_points(axes: Axes, rows: Rows, x: str, y: str, group: str | None, look_of: dict[Any, Look]) -> None:
    for name in dict.fromkeys(_names(rows, group)):
        members = [row for row in rows if group is None or row[group] == name]
        axes.scatter(
            [float(row[x]) for row in members],
            [float(row[y]) for row in members],
            s=point_area(len(rows)),
            color=look_of[name].colour,
            marker=look_of[name].marker,
            edgecolors="white",
            linewidths=0.6,
            alpha=0.9,
            label=None if group is None else str(name),
        )


def _draw_fit(axes: Axes, x: list[float], y: list[float]) -> None:
    if len(x) < _LEAST_POINTS:
        text = f"no line: n = {len(x)}"
    elif min(x) == max(x):
        text = f"no line: one position, n = {len(x)}"
    else:
        fit = linear_fit(x, y)
        ends = [min(x), max(x)]
        axes.plot(ends, [fit.at(end) for end in ends], color=INK, linewidth=1.4, zorder=1.5)
        text = fit.text()
    axes.annotate(
        text,
        (0, 1),
        xycoords="axes fraction",
        xytext=(0, 5),
        textcoords="offset points",
        ha="left",
        va="bottom",
        fontsize=8.5,
        color=MUTED,
    )
