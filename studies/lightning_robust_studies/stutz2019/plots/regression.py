"""Points with a regression line: does one measured number go with another?"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.stats import linregress, pearsonr

from lightning_robust.plots import PERCENT, add_legend, style
from lightning_robust_studies.stutz2019.plots.looks import area, look

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LEAST_POINTS = 3
_COLUMNS = 3  # panels beside one another
_SMALLEST_P = 1e-3


@dataclass(frozen=True)
class LinearFit:
    """The line `y = slope * x + intercept`, and how closely `n` points follow it; made by `linear_fit`.

    Args:
        slope: slope of the line.
        intercept: height of the line at 0.
        r: Pearson's correlation of x and y in [-1, 1]; NaN where all y are equal.
        interval: 95 % interval of r by Fisher's transformation; three points say nothing: (-1, 1). NaN where `r` is.
        p: two-sided p-value of `slope = 0`; NaN where `r` is.
        n: number of points.
    """

    slope: float
    intercept: float
    r: float
    interval: tuple[float, float]
    p: float
    n: int

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


def linear_fit(x: Sequence[float], y: Sequence[float]) -> LinearFit | None:
    """The least-squares line of y over x (`scipy.stats.linregress`), with Pearson's r (`scipy.stats.pearsonr`).

    None where there are fewer than three points or all x are equal. The p-value and the interval take the points as
    independent; models that share training data, or a seed, are not quite.

    Example:
        >>> fit = linear_fit([0.0, 1.0, 2.0, 3.0], [1.0, 3.0, 4.0, 8.0])
        >>> round(fit.slope, 3), round(fit.intercept, 3), round(fit.r, 3), round(fit.p, 3), fit.n
        (2.2, 0.7, 0.965, 0.035, 4)
    """
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    n = len(a)
    if n < _LEAST_POINTS or a.min() == a.max():
        return None
    if b.min() == b.max():
        return LinearFit(0.0, float(b[0]), math.nan, (math.nan, math.nan), math.nan, n)
    line, correlation = linregress(a, b), pearsonr(a, b)
    low, high = correlation.confidence_interval(0.95)
    r, p = float(correlation.statistic), float(correlation.pvalue)
    return LinearFit(float(line.slope), float(line.intercept), r, (float(low), float(high)), p, n)


def regression_scatter(rows: pd.DataFrame, x: str, y: str, *, group: str, panel: str) -> "Figure":
    """A point for each row, colored by `group`, and in each `panel` one line through all its points, with r and p.

    `x`, `y`, `group` and `panel` name columns; positions and heights are fractions. The line is `linear_fit` over all
    groups of the panel, from its smallest to its largest x. A panel without a fit says so.

    Example:
        >>> rows = [{"error": e / 10, "success": e / 5, "scheme": "normal", "threat": "off"} for e in range(4)]
        >>> figure = regression_scatter(pd.DataFrame(rows), "error", "success", group="scheme", panel="threat")
        >>> figure.axes[0].texts[0].get_text()
        'r = 1.000 [1.000, 1.000], p < 0.001, n = 4'
    """
    from matplotlib.figure import Figure

    panels, groups = rows[panel].unique(), list(rows[group].unique())
    with style():
        columns = min(_COLUMNS, len(panels))
        lines = -(-len(panels) // columns)
        figure = Figure(figsize=(0.8 + 3.6 * columns, 0.6 + 3.6 * lines), layout="constrained")
        all_axes = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
        for axes in all_axes.flat[len(panels) :]:
            axes.set_visible(False)
        for axes, name in zip(all_axes.flat, panels, strict=False):
            shown = rows[rows[panel] == name]
            for i, label in enumerate(groups):
                members = shown[shown[group] == label]
                marks = look(i) | {"edgecolors": "white", "linewidths": 0.6, "alpha": 0.9, "label": label}
                axes.scatter(members[x], members[y], s=area(len(shown)), **marks)
            fit = linear_fit(shown[x], shown[y])
            if fit is not None:
                ends = np.array([shown[x].min(), shown[x].max()])
                axes.plot(ends, fit.slope * ends + fit.intercept, color="0.15", linewidth=1.4, zorder=1.5)
            text = f"no line: n = {len(shown)}" if fit is None else fit.text()
            axes.text(0, 1.01, text, transform=axes.transAxes, fontsize=8.5, color="0.4")
            axes.set_title(name, fontsize=10.5, pad=20)
            axes.set_xlabel(x)
            axes.grid(visible=True, axis="both")
            axes.xaxis.set_major_formatter(lambda value, _: PERCENT.tick(value))
            axes.yaxis.set_major_formatter(lambda value, _: PERCENT.tick(value))
        for axes in all_axes[:, 0]:
            axes.set_ylabel(y)
        add_legend(figure)
    return figure
