"""A matrix of rates, distributions, the surface of a loss, and samples in a plane."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from torch import Tensor

from lightning_robust.plots import PERCENT, Unit, add_legend, style
from lightning_robust_studies.stutz2019.plots.looks import MARKERS, area, look

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DARK = 0.55  # brightness below which white letters are read better than dark ones
_LUMINANCE = (0.299, 0.587, 0.114)  # weights of red, green and blue


def heat_map(matrix: pd.DataFrame, *, title: str = "", xlabel: str = "", ylabel: str = "") -> "Figure":
    """A cell for each entry of a matrix of fractions: the darker, the larger; its percentage stands in it, n/a for NaN.

    Example:
        >>> figure = heat_map(pd.DataFrame([[0.9, 0.2], [0.25, np.nan]]))
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['90.0', '20.0', '25.0', 'n/a']
    """
    from matplotlib.figure import Figure

    values = matrix.to_numpy(dtype=np.float64)
    rows, columns = values.shape
    with style():
        figure = Figure(figsize=(2.6 + 0.62 * columns, 2.2 + 0.42 * rows), layout="constrained")
        axes = figure.add_subplot()
        image = axes.imshow(values, cmap="Blues", vmin=0.0, vmax=np.nanmax(values, initial=1e-9), aspect="auto")
        brightness = image.to_rgba(values)[..., :3] @ _LUMINANCE  # (R, C)
        for (i, j), value in np.ndenumerate(values):
            ink = "0.15" if np.isnan(value) or brightness[i, j] > _DARK else "white"
            axes.text(j, i, PERCENT.number(value), ha="center", va="center", fontsize=9, color=ink)
        axes.set_xticks(range(columns), matrix.columns, rotation=40, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(rows), matrix.index)
        axes.tick_params(length=0)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        figure.suptitle(f"{title} [%]".strip(), x=0.01, ha="left", fontsize=12, fontweight="bold")
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
    return figure


def histogram_panel(values: Mapping[str, Sequence[float]], *, unit: Unit, xlabel: str = "", bins: int = 40) -> "Figure":
    """A histogram for each group, over the same bins, with a dashed line at its median; the legend states the medians.

    Heights are shares of the group, so that groups of different sizes compare. The unit is that of the medians.

    Example:
        >>> figure = histogram_panel({"off": [1.0, 2.0, 3.0], "on": [0.0, 0.0, 0.5, 4.0]}, unit=PERCENT)
        >>> [text.get_text() for text in figure.legends[0].get_texts()]
        ['off (median 200.0 %)', 'on (median 25.0 %)']
    """
    from matplotlib.colors import to_rgba
    from matplotlib.figure import Figure

    edges = np.histogram_bin_edges(np.concatenate(list(values.values())), bins).tolist()
    with style():
        figure = Figure(figsize=(6.4, 4.4), layout="constrained")
        axes = figure.add_subplot()
        for i, (name, numbers) in enumerate(values.items()):
            median, color = float(np.median(numbers)), f"C{i}"
            axes.hist(
                numbers,
                bins=edges,
                weights=np.full(len(numbers), 1 / len(numbers)),
                histtype="stepfilled",
                facecolor=to_rgba(color, 0.28),
                edgecolor=color,
                linewidth=1.3,
                label=f"{name} (median {unit.text(median)})",
            )
            axes.axvline(median, color=color, linestyle="--", linewidth=1.4)
        axes.set_xlim(edges[0], edges[-1])
        axes.yaxis.set_major_formatter(lambda value, _: PERCENT.tick(value))
        axes.set_xlabel(xlabel)
        axes.set_ylabel("share of samples")
        add_legend(figure)
    return figure


def loss_surface(
    values: Tensor,
    axis: Tensor,
    marks: Mapping[str, tuple[float, float]],
    *,
    label: str,
    xlabel: str = "",
    ylabel: str = "",
) -> "Figure":
    """Bands of equal values over a plane, from blue below 0 over white to orange above it, with a black line at 0.

    `values[a, b]` belongs to the point `(axis[a], axis[b])`; `marks` are points in the plane by their names. With the
    log-odds as value the line is where the decision flips, and orange is where the model is fooled.

    Example:
        >>> import torch
        >>> axis = torch.linspace(-1, 1, 21)
        >>> figure = loss_surface(axis[:, None] + axis, axis, {"clean": (0.0, 0.0)}, label="gain")
        >>> [text.get_text() for text in figure.legends[0].get_texts()]
        ['clean', 'gain = 0']
    """
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    heights = values.T.double().numpy()
    reach = float(np.abs(heights).max()) or 1.0
    crossed = bool(heights.min() < 0 < heights.max())
    with style():
        figure = Figure(figsize=(6.0, 5.4), layout="constrained")
        axes = figure.add_subplot()
        colors = LinearSegmentedColormap.from_list("below and above", ["C0", "white", "C1"])
        levels = MaxNLocator(24, symmetric=True).tick_values(-reach, reach)
        surface = axes.contourf(axis, axis, heights, levels=levels, cmap=colors)
        bar = figure.colorbar(surface, label=label, ticks=MaxNLocator(9), fraction=0.046, pad=0.03)
        bar.outline.set_visible(False)
        for (name, point), marker in zip(marks.items(), MARKERS, strict=False):
            axes.plot(*point, linestyle="", marker=marker, markersize=8, color="0.15", label=name, clip_on=False)
        if crossed:
            axes.contour(axis, axis, heights, levels=[0.0], colors="0.15", linewidths=1.6)
        axes.plot([], [], color="0.15", linewidth=1.6, label=f"{label} = 0{'' if crossed else ' (not crossed here)'}")
        axes.set_aspect("equal")
        axes.grid(visible=False)
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        add_legend(figure)
    return figure


def embedding(points: Mapping[str, Tensor], *, xlabel: str = "", ylabel: str = "") -> "Figure":
    """A point for each sample (N, 2) of each group, both axes at one scale and without ticks, later groups on top.

    Example:
        >>> import torch
        >>> figure = embedding({"data": torch.tensor([[0.0, 1.0]]), "off": torch.tensor([[2.0, 3.0]])})
        >>> [dots.get_offsets().tolist() for dots in figure.axes[0].collections]
        [[[0.0, 1.0]], [[2.0, 3.0]]]
    """
    from matplotlib.figure import Figure

    size = area(sum(len(group) for group in points.values()))
    spans = np.ptp(np.concatenate(list(points.values())), axis=0)
    height = 1.2 + min(5.0, max(2.0, 5.8 * spans[1] / (spans[0] or 1.0)))
    with style():
        figure = Figure(figsize=(6.4, height), layout="constrained")
        axes = figure.add_subplot()
        for i, (name, group) in enumerate(points.items()):
            x, y = group.T.tolist()
            axes.scatter(x, y, s=size, edgecolors="white", linewidths=0.4, alpha=0.85, label=name, **look(i))
        axes.set_aspect("equal", adjustable="datalim")
        axes.grid(visible=False)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        add_legend(figure)
    return figure
