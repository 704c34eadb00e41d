"""Lines with bands: training curves, error over the number of samples, success over a radius."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from lightning_robust._checks import choice, instance, interval, number, values
from lightning_robust.plots.rows import Rows, check_texts, checked_rows
from lightning_robust.plots.style import MUTED, Look, even_columns, legend_below, looks, new_figure, themed
from lightning_robust.plots.units import PERCENT, Unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANELS_A_ROW = 4
_MOST_MARKERS = 40
_FEW_DECADES = 200.0  # below this ratio the powers of ten alone are too few ticks
_MOST_TICKS = 8
_NONE: Mapping[Any, Any] = MappingProxyType({})


def curve_panel(
    rows: Rows,
    x: str,
    y: str,
    *,
    low: str | None = None,
    high: str | None = None,
    group: str | None = None,
    panel: str | None = None,
    xscale: Literal["linear", "log"] = "linear",
    yscale: Literal["linear", "log"] = "linear",
    xticks: Sequence[float] | None = None,
    ylim: tuple[float, float] | None = None,
    dashed: Mapping[Any, Any] = _NONE,
    marks: Mapping[str, float] = _NONE,
    unit: Unit = PERCENT,
    title: str = "",
    xlabel: str | None = None,
    ylabel: str = "",
) -> Figure:
    """A line of ``y`` over ``x`` for each ``group``, with a band from ``low`` to ``high`` where these are given.

    Rows are sorted by ``x``. A NaN in ``y`` interrupts the line. A group has the same colour in all panels, and the
    panels share both axes. On a logarithmic x axis with few distinct values the ticks stand at these values. On a
    logarithmic y axis what is not positive is not drawn.

    Args:
        rows: a tidy table, one row a point.
        x: the column of positions (epoch, N, eps).
        y: the column of heights.
        low: the column of lower band ends; with ``high`` or not at all.
        high: the column of upper band ends.
        group: the column that names the line; without it all rows are one line.
        panel: the column that names the panel (for example the threat); without it there is one.
        xscale: ``"linear"`` or ``"log"``.
        yscale: ``"linear"`` or ``"log"``.
        xticks: where the ticks of the x axis stand.
        ylim: the ends of the y axis; by default what the lines need.
        dashed: groups that are drawn dashed and without markers, as bounds and closed forms are. Each is mapped to the
            group whose colour it takes, which may be itself.
        marks: vertical lines: what to write beside each, and its position on the x axis.
        unit: how numbers on the y axis are written; by default fractions, written in percent.
        title: above the figure.
        xlabel: below the x axis; by default the name of the column.
        ylabel: beside the y axis.

    Raises:
        ValueError: if there is no row, a column is missing, only one band end is given, one line has two points at the
            same ``x``, ``x``, a mark or a tick is not finite (not positive on a logarithmic axis), ``dashed`` names a
            group that there is not, or ``ylim`` does not rise.

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
    xticks = None if xticks is None else values("xticks", xticks)
    _check_positions(f"column `{x}`", [row[x] for row in rows], xscale)
    _check_positions("argument `marks`", marks.values(), xscale)
    _check_positions("argument `xticks`", () if xticks is None else xticks, xscale)
    ylim = None if ylim is None else interval("ylim", ylim)
    if ylim is not None and yscale == "log" and ylim[0] <= 0:
        raise ValueError(f"Expected argument `ylim` to be positive on a logarithmic axis, but got {ylim}.")
    look_of = _looks(_group_names(rows, group), dashed)
    panels = [None] if panel is None else list(dict.fromkeys(row[panel] for row in rows))
    columns = even_columns(len(panels), _PANELS_A_ROW)
    lines = math.ceil(len(panels) / columns)

    with themed():
        width = 6.4 if columns == 1 else min(15.0, 0.8 + 3.4 * columns)
        figure = new_figure(width, 0.6 + (3.4 if columns == 1 else 2.9) * lines)
        grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
        for i, axes in enumerate(grid.flat):
            if i >= len(panels):
                axes.set_visible(False)
                continue
            shown = [row for row in rows if panel is None or row[panel] == panels[i]]
            for name in dict.fromkeys(_group_names(shown, group)):
                members = [row for row in shown if group is None or row[group] == name]
                members.sort(key=lambda row: float(row[x]))
                _draw_line(axes, members, x, y, low, high, look_of[name], "" if group is None else str(name))
            if panel is not None:
                axes.set_title(str(panels[i]), fontsize=10.5)
            below = i + columns >= len(panels)
            if below:
                axes.set_xlabel(xlabel)
                axes.tick_params(axis="x", labelbottom=True)
            if i % columns == 0:
                axes.set_ylabel(ylabel)
            ticks = sorted({float(row[x]) for row in rows}) if xticks is None else sorted(map(float, xticks))
            _dress_axes(axes, ticks, xscale, yscale, unit, fixed=xticks is not None)
            if ylim is not None:
                axes.set_ylim(*ylim)
            _draw_marks(axes, marks)
        if panel is None:
            grid[0, 0].set_title(title)
        elif title:
            figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
        if group is not None:
            legend_below(figure, grid.flat[: len(panels)])
    return figure


def _group_names(rows: Rows, group: str | None) -> list[Any]:
    return [None if group is None else row[group] for row in rows]


def _looks(names: Sequence[Any], dashed: Mapping[Any, Any]) -> dict[Hashable, Look]:
    for name in (*dashed, *dashed.values()):
        if name not in names:
            raise ValueError(
                f"Expected argument `dashed` to name groups among {tuple(dict.fromkeys(names))}, but got {name!r}."
            )
    own = looks(name for name in names if dashed.get(name, name) == name)
    return {**own, **{name: Look(own[like].colour, "", "--", "") for name, like in dashed.items()}}


def _check_positions(what: str, positions: Iterable[Any], xscale: str) -> None:
    for position in map(float, positions):
        if not math.isfinite(position) or (xscale == "log" and position <= 0):
            kind = "positive and finite on a logarithmic axis" if xscale == "log" else "finite"
            raise ValueError(f"Expected {what} to be {kind}, but got {position}.")


def _draw_line(
    axes: Axes, rows: Rows, x: str, y: str, low: str | None, high: str | None, look: Look, label: str
) -> None:
    positions = [float(row[x]) for row in rows]
    if len(set(positions)) != len(positions):
        twice = next(p for p in positions if positions.count(p) > 1)
        raise ValueError(
            f"Expected argument `rows` to have one row for each {x} of line {label!r}, but got two at {twice}."
        )
    if low is not None and high is not None:
        ends = [float(row[low]) for row in rows], [float(row[high]) for row in rows]
        axes.fill_between(positions, *ends, color=look.colour, alpha=0.18, linewidth=0)
    marker = look.marker if len(positions) <= _MOST_MARKERS else ""
    heights = [float(row[y]) for row in rows]
    axes.plot(positions, heights, color=look.colour, linestyle=look.dash, marker=marker, label=label)


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


def _dress_axes(axes: Axes, positions: Sequence[float], xscale: str, yscale: str, unit: Unit, *, fixed: bool) -> None:
    from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator, NullLocator

    if yscale == "log":
        axes.set_yscale("log")
        bottom, top = axes.get_ylim()
        if top < _FEW_DECADES * bottom:
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(lambda v, _: unit.tick(v))
    if xscale == "log":
        axes.set_xscale("log")
    if fixed or (xscale == "log" and len(positions) <= _MOST_TICKS):
        axes.xaxis.set_major_locator(FixedLocator(positions))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(lambda v, _: f"{v:,.6g}")
    elif xscale == "log":
        few = positions[-1] < _FEW_DECADES * positions[0]
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(lambda v, _: f"{v:,.6g}")
    elif xscale == "linear" and all(position == round(position) for position in positions):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
