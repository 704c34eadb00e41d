"""Lines with bands: training curves, error over the number of samples, robust accuracy over the radius."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from lightning_robust._checks import choice, instance, interval, number, values
from lightning_robust.plots._style import MUTED, Look, add_legend, looks, new_figure, style
from lightning_robust.plots.estimate import PERCENT, Unit
from lightning_robust.plots.rows import Row, Rows, check_texts, checked_rows

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

_PANELS_PER_ROW = 4
_MOST_MARKERS = 40
_FEW_DECADES = 200.0  # below this ratio the powers of ten alone are too few ticks
_MOST_TICKS = 8
_NONE: Mapping[Any, Any] = MappingProxyType({})
Scale = Literal["linear", "log"]


def curve_panel(
    rows: Rows | pd.DataFrame,
    x: str,
    y: str,
    *,
    low: str | None = None,
    high: str | None = None,
    group: str | None = None,
    panel: str | None = None,
    xscale: Scale = "linear",
    yscale: Scale = "linear",
    xticks: Sequence[float] | None = None,
    ylim: tuple[float, float] | None = None,
    dashed: Mapping[Any, Any] = _NONE,
    marks: Mapping[str, float] = _NONE,
    unit: Unit = PERCENT,
    title: str = "",
    xlabel: str | None = None,
    ylabel: str = "",
) -> Figure:
    """A line of `y` over `x` for each `group`, with a band from `low` to `high` where these are given.

    Rows are sorted by `x`. A NaN in `y` interrupts the line. A group has the same color in all panels, and the
    panels share both axes. On a logarithmic x axis with few distinct values the ticks stand at these values. On a
    logarithmic y axis what is not positive is not drawn.

    Args:
        rows: a tidy table, one row a point.
        x: the column of positions (epoch, N, eps).
        y: the column of heights.
        low: the column of lower band ends; with `high` or not at all.
        high: the column of upper band ends.
        group: the column that names the line; without it all rows are one line.
        panel: the column that names the panel (for example the threat); without it there is one.
        xscale: `"linear"` or `"log"`.
        yscale: `"linear"` or `"log"`.
        xticks: where the ticks of the x axis stand.
        ylim: the ends of the y axis; by default what the lines need.
        dashed: groups that are drawn dashed and without markers, as bounds and closed forms are. Each is mapped to the
            group whose color it takes, which may be itself.
        marks: vertical lines: what to write beside each, and its position on the x axis.
        unit: how numbers on the y axis are written; by default fractions, written in percent.
        title: above the figure.
        xlabel: below the x axis; by default the name of the column.
        ylabel: beside the y axis.

    Raises:
        ValueError: there is no row, a column is missing, only one band end is given, one line has two points at the
            same `x`, `x`, a mark or a tick is not finite (not positive on a logarithmic axis), `dashed` names a
            group that there is not, or `ylim` does not rise.

    Example:
        >>> rows = [{"epoch": e, "acc": 0.5 + 0.1 * e, "low": 0.4, "high": 0.9} for e in range(3)]
        >>> figure = curve_panel(rows, "epoch", "acc", low="low", high="high")
        >>> [float(round(v, 1)) for v in figure.axes[0].lines[0].get_ydata()]
        [0.5, 0.6, 0.7]
    """
    if (low is None) != (high is None):
        raise ValueError(f"Expected arguments `low` and `high` to be given together, but got {low!r} and {high!r}.")
    for argument, scale in (("xscale", xscale), ("yscale", yscale)):
        choice(argument, scale, ("linear", "log"))
    rows = checked_rows(rows, {"x": x, "y": y}, low=low, high=high, group=group, panel=panel)
    xlabel = x if xlabel is None else xlabel
    check_texts(title=title, xlabel=xlabel, ylabel=ylabel)
    instance("unit", unit, Unit, "a Unit")
    for argument, mapping in (("dashed", dashed), ("marks", marks)):
        instance(argument, mapping, Mapping, "a mapping")
    marks = {name: number(f"marks[{name!r}]", position) for name, position in marks.items()}
    positions = sorted({float(row[x]) for row in rows}) if xticks is None else sorted(values("xticks", xticks))
    _check_positions(f"column `{x}`", [row[x] for row in rows], xscale)
    _check_positions("argument `marks`", marks.values(), xscale)
    _check_positions("argument `xticks`", () if xticks is None else positions, xscale)
    ylim = None if ylim is None else interval("ylim", ylim)
    if ylim is not None and yscale == "log" and ylim[0] <= 0:
        raise ValueError(f"Expected argument `ylim` to be positive on a logarithmic axis, but got {ylim}.")
    lines = _lines(rows, x, group, panel)
    look_of = _looks([None if group is None else row[group] for row in rows], dashed)
    panels = list(dict.fromkeys(name for name, _ in lines))
    height = math.ceil(len(panels) / _PANELS_PER_ROW)
    width = math.ceil(len(panels) / height)

    with style():
        figure = new_figure(*((6.4, 4.2) if len(panels) == 1 else (0.8 + 3.4 * width, 0.8 + 2.9 * height)))
        axes_of = dict(
            zip(panels, figure.subplots(height, width, sharex=True, sharey=True, squeeze=False).flat, strict=False)
        )
        for axes in figure.axes[len(panels) :]:
            axes.remove()
        for (name, label), members in lines.items():
            axes, look = axes_of[name], look_of[label]
            places, heights = [float(row[x]) for row in members], [float(row[y]) for row in members]
            if low is not None and high is not None:
                ends = [float(row[low]) for row in members], [float(row[high]) for row in members]
                axes.fill_between(places, *ends, color=look.color, alpha=0.18, linewidth=0)
            marker = look.marker if len(places) <= _MOST_MARKERS else ""
            shown = None if group is None else str(label)
            axes.plot(places, heights, color=look.color, linestyle=look.dash, marker=marker, label=shown)
        for i, (name, axes) in enumerate(axes_of.items()):
            axes.set_title(title if panel is None else str(name), fontsize=None if panel is None else 10.5)
            if i + width >= len(panels):
                axes.set_xlabel(xlabel)
                axes.tick_params(axis="x", labelbottom=True)
            if i % width == 0:
                axes.set_ylabel(ylabel)
            _set_x_ticks(axes, positions, xscale, fixed=xticks is not None)
            _set_y_ticks(axes, yscale, unit)
            axes.set_ylim(ylim)
            _draw_marks(axes, marks)
        if panel is not None:
            figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
        add_legend(figure)
    return figure


def radius_curve(rows: Rows | pd.DataFrame, *, panel: str | None = None, title: str = "") -> Figure:
    """Robust accuracy over the radius of the attack with its interval: a line for each model.

    An accuracy at one radius says little: a line that does not fall to 0 at a large radius shows a weak attack or
    masked gradients, and the lines of two models may cross. Radius 0 is the clean accuracy.

    Args:
        rows: a tidy table with the columns model, radius, value, low and high, accuracies as fractions;
            `Estimate.row` makes such rows.
        panel: the column that names the panel (for example the threat); without it there is one.
        title: above the figure.

    Raises:
        ValueError: as `curve_panel`.

    Example:
        >>> from lightning_robust.plots import Estimate
        >>> accuracies = {0.0: Estimate(0.9, 0.88, 0.92, 1000), 0.1: Estimate(0.5, 0.47, 0.53, 1000)}
        >>> figure = radius_curve([acc.row(model="normal", radius=eps) for eps, acc in accuracies.items()])
        >>> figure.axes[0].lines[0].get_ydata().tolist()
        [0.9, 0.5]
    """
    labels: Any = {"title": title, "xlabel": "radius of the attack", "ylabel": "robust accuracy"}
    band: Any = {"low": "low", "high": "high", "group": "model", "panel": panel, "ylim": (0.0, 1.0)}
    return curve_panel(rows, "radius", "value", **band, **labels)


def _lines(rows: Sequence[Row], x: str, group: str | None, panel: str | None) -> dict[tuple[Any, Any], list[Row]]:
    """The rows of each line, sorted by position, by panel and group."""
    lines: dict[tuple[Any, Any], list[Row]] = {}
    for row in rows:
        key = (None if panel is None else row[panel], None if group is None else row[group])
        lines.setdefault(key, []).append(row)
    for (_, name), members in lines.items():
        positions = [float(row[x]) for row in members]
        if len(set(positions)) < len(positions):
            twice = next(position for position in positions if positions.count(position) > 1)
            raise ValueError(
                f"Expected argument `rows` to have one row for each {x} of line {name!r}, but got two at {twice}."
            )
        members.sort(key=lambda row: float(row[x]))
    return lines


def _looks(names: Sequence[Any], dashed: Mapping[Any, Any]) -> dict[Hashable, Look]:
    for name in (*dashed, *dashed.values()):
        if name not in names:
            raise ValueError(
                f"Expected argument `dashed` to name groups among {tuple(dict.fromkeys(names))}, but got {name!r}."
            )
    own = looks(name for name in names if dashed.get(name, name) == name)
    return {**own, **{name: Look(own[like].color, "", "--", "") for name, like in dashed.items()}}


def _check_positions(what: str, positions: Iterable[Any], xscale: str) -> None:
    for position in map(float, positions):
        if not math.isfinite(position) or (xscale == "log" and position <= 0):
            kind = "positive and finite on a logarithmic axis" if xscale == "log" else "finite"
            raise ValueError(f"Expected {what} to be {kind}, but got {position}.")


def _draw_marks(axes: Axes, marks: Mapping[str, float]) -> None:
    for text, position in marks.items():
        axes.axvline(position, color=MUTED, linewidth=1.0, linestyle=":", zorder=1)
        axes.annotate(
            text,
            (position, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(-3, -3),
            textcoords="offset points",
            rotation=90,
            ha="right",
            va="top",
            fontsize=8.5,
            color=MUTED,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
        )


def _set_x_ticks(axes: Axes, positions: Sequence[float], scale: str, *, fixed: bool) -> None:
    from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

    axes.set_xscale(scale)
    if fixed or (scale == "log" and len(positions) <= _MOST_TICKS):
        axes.xaxis.set_major_locator(FixedLocator(positions))
        axes.xaxis.set_minor_locator(NullLocator())
    elif scale == "log":
        _set_log_ticks(axes.xaxis, positions[0], positions[-1])
    elif all(position == round(position) for position in positions):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.xaxis.set_major_formatter(lambda position, _: f"{round(position, 10):,.6g}")


def _set_y_ticks(axes: Axes, scale: str, unit: Unit) -> None:
    axes.set_yscale(scale)
    if scale == "log":
        _set_log_ticks(axes.yaxis, *axes.get_ylim())
    axes.yaxis.set_major_formatter(lambda height, _: unit.tick(height))


def _set_log_ticks(axis: Axis, low: float, high: float) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < _FEW_DECADES * low else (1,)))
    axis.set_minor_locator(NullLocator())
