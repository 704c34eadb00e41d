"""A function of two directions as a contour map: the gain of an attack around an example, in the latent space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from lightning_robust._checks import instance, number
from lightning_robust.plots.rows import check_texts
from lightning_robust.plots.style import BAD, COLOURS, GOOD, INK, legend_below, new_figure, themed
from lightning_robust.plots.units import PLAIN, Unit
from lightning_robust_studies.stutz2019.plots.arrays import Numbers, finite
from lightning_robust_studies.stutz2019.plots.points import point_looks

if TYPE_CHECKING:
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

_BANDS = 16
_SIDE = 4.2  # inches of the longer side of the map
_BAR_GAP, _BAR_WIDTH = 0.2, 0.2
_MARK = 8.0


def loss_surface(
    values: Tensor | Sequence[Sequence[float]],
    x: Numbers,
    y: Numbers,
    *,
    marks: Mapping[str, tuple[float, float]] | None = None,
    level: float | None = None,
    unit: Unit = PLAIN,
    title: str = "",
    xlabel: str = "first direction",
    ylabel: str = "second direction",
    label: str = "gain",
) -> Figure:
    """Bands of equal ``values`` over the plane, both directions at one scale, with points of interest marked.

    Without ``level`` the colour runs from white, the lowest value, to blue. With it, it runs from blue (far below) over
    white (at the level) to orange (far above), and a black line follows the level: with the margin or the log-odds
    as gain and ``level=0``, the line is where the decision flips, and orange is where the model is fooled.

    Args:
        values: (A, B), A and B >= 2; ``values[a, b]`` belongs to the point ``(x[a], y[b])``.
        x: positions along the first direction (A,), increasing.
        y: positions along the second direction (B,), increasing.
        marks: points ``(x, y)`` in the plane by their names, for example the clean and the adversarial code.
        level: a value to draw as a line and to part the colours at; the legend says where no line crosses the plane.
        unit: how values are written beside the colour bar.
        title: above the figure.
        xlabel: below the x axis.
        ylabel: beside the y axis.
        label: beside the colour bar.

    Raises:
        ValueError: if shapes do not match, positions do not increase, a number is not finite, or a mark lies outside
            the plane that ``x`` and ``y`` span.

    Example:
        >>> import torch
        >>> axis = torch.linspace(-1, 1, 21)
        >>> gain = axis[:, None] + axis[None, :]
        >>> figure = loss_surface(gain, axis, axis, marks={"clean": (0.0, 0.0), "attack": (1.0, 1.0)}, level=0.5)
        >>> [text.get_text() for text in figure.legends[0].get_texts()]
        ['clean', 'attack', 'gain = 0.5']
    """
    from matplotlib.ticker import MaxNLocator

    heights, across, up = finite("values", values, "AB"), _positions("x", x), _positions("y", y)
    if heights.shape != (len(across), len(up)):
        raise ValueError(
            f"Expected argument `values` to have shape ({len(across)}, {len(up)}) as `x` and `y` say, "
            f"but got {tuple(heights.shape)}."
        )
    level = None if level is None else number("level", level)
    check_texts(title=title, xlabel=xlabel, ylabel=ylabel, label=label)
    instance("unit", unit, Unit, "a Unit")
    named = {} if marks is None else dict(instance("marks", marks, Mapping, "a mapping from names to points"))
    for name, point in named.items():
        _check_mark(name, point, across, up)

    with themed():
        colours, bottom, top = _colours(heights, level)
        spans = (across[-1] - across[0]).item(), (up[-1] - up[0]).item()
        width, height = (_SIDE * span / max(spans) for span in spans)
        figure = new_figure(max(2.6, width) + 1.8, height + 1.3)
        axes = figure.add_subplot()
        grid = across.numpy(), up.numpy(), heights.T.numpy()
        bands = _bands(heights)
        surface = axes.contourf(*grid, levels=bands, cmap=colours, vmin=bottom, vmax=top)
        beside = axes.inset_axes((1.0 + _BAR_GAP / width, 0.0, _BAR_WIDTH / width, 1.0))  # as high as the map
        bar = figure.colorbar(surface, cax=beside, label=label, ticks=MaxNLocator(max(2, int(2 * height))))
        bar.ax.yaxis.set_major_formatter(lambda v, _: unit.tick(v))
        bar.outline.set_visible(False)
        for (name, point), look in zip(named.items(), point_looks(named).values(), strict=True):
            axes.plot(
                *point,
                linestyle="",
                marker=look.marker,
                markersize=_MARK,
                color=INK,
                markeredgewidth=1.2,
                label=name,
                clip_on=False,
                zorder=3,
            )
        if level is not None:
            reached = heights.min() < level < heights.max()
            if reached:
                axes.contour(*grid, levels=[level], colors=INK, linewidths=1.6)
            text = f"{label} = {unit.tick(level)}" + ("" if reached else " (not crossed here)")
            axes.plot([], [], color=INK, linewidth=1.6, label=text)
        axes.set_aspect("equal")
        axes.grid(visible=False)
        axes.set_title(title)
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        legend_below(figure, [axes])
    return figure


def _positions(name: str, values: Numbers) -> Tensor:
    positions = finite(name, values, "A" if name == "x" else "B")
    if len(positions) < 2 or not (positions.diff() > 0).all():
        raise ValueError(
            f"Expected argument `{name}` to be at least two increasing positions, but got {positions.tolist()}."
        )
    return positions


def _check_mark(name: str, point: tuple[float, float], x: Tensor, y: Tensor) -> None:
    for value, axis in zip(finite(f"marks[{name!r}]", point, "2").tolist(), (x, y), strict=True):
        low, high = axis[0].item(), axis[-1].item()
        slack = 1e-6 * (high - low)  # codes in float32
        if not low - slack <= value <= high + slack:
            raise ValueError(
                f"Expected argument `marks[{name!r}]` to lie in [{low:g}, {high:g}] in each direction, "
                f"but got {tuple(point)}."
            )


def _bands(values: Tensor) -> list[float]:
    """Round numbers that enclose all values: the edges of the bands."""
    from matplotlib.ticker import MaxNLocator

    low, high = values.min().item(), values.max().item()
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        low, high = low - 0.5, high + 0.5
    return [float(edge) for edge in MaxNLocator(_BANDS, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)]


def _colours(values: Tensor, level: float | None) -> tuple[Colormap, float, float]:
    """The colours and the values of their ends."""
    from matplotlib.colors import LinearSegmentedColormap

    low, high = values.min().item(), values.max().item()
    if level is None:
        return LinearSegmentedColormap.from_list("white to blue", ["#ffffff", COLOURS[0]]), low, high
    reach = max(high - level, level - low) or 1.0
    return LinearSegmentedColormap.from_list("blue to orange", [GOOD, "#ffffff", BAD]), level - reach, level + reach
