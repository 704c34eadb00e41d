"""Distributions laid over each other: distances, angles, losses of several kinds of example."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from lightning_robust._checks import count, instance
from lightning_robust.plots.rows import check_texts
from lightning_robust.plots.style import Look, legend_below, looks, new_figure, themed
from lightning_robust.plots.units import PERCENT, PLAIN, Unit
from lightning_robust_studies.stutz2019.plots.arrays import Numbers, finite

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def histogram_panel(
    values: Mapping[str, Numbers],
    *,
    bins: int | Numbers = 40,
    unit: Unit = PLAIN,
    xlabel: str = "",
    ylabel: str = "share of samples",
    title: str = "",
) -> Figure:
    """A histogram for each group, over the same bins, with a dashed line at its median; the legend states the medians.

    Heights are shares of the group, which add up to 1 in each group: groups of different sizes compare. Every bin holds
    its left edge, the last one also its right edge. The median of an even number of values is the mean of the middle
    two.

    Args:
        values: the values (N,) of each group, by its name.
        bins: how many bins of equal width from the smallest to the largest value of all groups; or their edges,
            increasing, which must enclose every value.
        unit: how values are written, on the x axis and in the legend.
        xlabel: below the x axis.
        ylabel: beside the y axis.
        title: above the figure.

    Raises:
        ValueError: if there is no group, a group has no value or one that is not finite, ``bins`` is below 1, or edges
            do not increase or leave a value out.

    Example:
        >>> figure = histogram_panel({"off": [1.0, 2.0, 3.0], "on": [0.0, 0.0, 0.5, 4.0]}, bins=[0, 1, 2, 4])
        >>> figure.axes[0].patches[1].get_data().values.tolist()
        [0.75, 0.0, 0.25]
        >>> [text.get_text() for text in figure.legends[0].get_texts()]
        ['off (median 2.000)', 'on (median 0.250)']
    """
    if not instance("values", values, Mapping, "a mapping from names to numbers"):
        raise ValueError("Expected argument `values` to hold at least one group, but got none.")
    groups = {name: finite(f"values[{name!r}]", numbers, "N") for name, numbers in values.items()}
    check_texts(title=title, xlabel=xlabel, ylabel=ylabel)
    instance("unit", unit, Unit, "a Unit")
    edges = _edges(torch.cat(tuple(groups.values())), bins)

    with themed():
        figure = new_figure(6.4, 4.0)
        axes = figure.add_subplot()
        for (name, numbers), look in zip(groups.items(), looks(groups).values(), strict=True):
            median = numbers.quantile(0.5).item()
            _draw(axes, shares(numbers, edges), edges, median, look, f"{name} (median {unit.text(median)})")
        axes.set_xlim(edges[0].item(), edges[-1].item())
        axes.set_ylim(bottom=0.0)
        axes.xaxis.set_major_formatter(lambda v, _: unit.tick(v))
        axes.yaxis.set_major_formatter(lambda v, _: PERCENT.tick(v))
        axes.set_title(title)
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        legend_below(figure, [axes])
    return figure


def shares(values: Tensor, edges: Tensor) -> Tensor:
    """The share (B,) of ``values`` (N,) in each of the B bins between ``edges`` (B + 1,), which enclose them.

    Example:
        >>> shares(torch.tensor([0.0, 0.5, 1.0, 2.0]), torch.tensor([0.0, 1.0, 2.0]))
        tensor([0.5000, 0.5000])
    """
    bin_of = torch.bucketize(values, edges[1:-1], right=True)
    return torch.bincount(bin_of, minlength=len(edges) - 1).to(edges.dtype) / len(values)


def _edges(values: Tensor, bins: int | Numbers) -> Tensor:
    low, high = values.min().item(), values.max().item()
    if not isinstance(bins, Sequence | Tensor | np.ndarray):
        bins = count("bins", bins)
        size = max(abs(low), abs(high))
        if high - low <= 1e-9 * size:  # all alike: a window around them, which holds as many bins
            low, high = low - (0.05 * size or 0.5), high + (0.05 * size or 0.5)
        return torch.linspace(low, high, bins + 1, dtype=torch.float64)
    edges = finite("bins", bins, "B")
    if len(edges) < 2 or not (edges.diff() > 0).all():
        raise ValueError(f"Expected argument `bins` to be at least two increasing edges, but got {edges.tolist()}.")
    if low < edges[0] or high > edges[-1]:
        raise ValueError(
            f"Expected argument `bins` to enclose all values, from {low:g} to {high:g}, "
            f"but got edges from {edges[0].item():g} to {edges[-1].item():g}."
        )
    return edges


def _draw(axes: Axes, heights: Tensor, edges: Tensor, median: float, look: Look, label: str) -> None:
    from matplotlib.colors import to_rgba

    axes.stairs(
        heights.numpy(),
        edges.numpy(),
        fill=True,
        facecolor=to_rgba(look.colour, 0.28),
        edgecolor=look.colour,
        linewidth=1.3,
        hatch=look.hatch,
        label=label,
    )
    axes.axvline(median, color=look.colour, linestyle="--", linewidth=1.4)
