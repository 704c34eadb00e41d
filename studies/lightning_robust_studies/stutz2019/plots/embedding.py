"""Samples as points in a plane: data, and examples on and off its manifold."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lightning_robust._checks import sequence
from lightning_robust.plots.rows import check_texts
from lightning_robust.plots.style import legend_below, new_figure, themed
from lightning_robust_studies.stutz2019.plots.arrays import finite
from lightning_robust_studies.stutz2019.plots.points import point_area, point_looks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDTH = 6.4
_TIE = 1e-6


def principal_plane(data: Tensor) -> Tensor:
    r"""Coordinates of ``data`` in the plane in which it varies most: its first two principal components.

    With the mean ``m`` and the singular value decomposition ``data - m = U diag(s) V^T``, s decreasing,

    .. math:: P = (data - m) [v_1, v_2].

    A singular vector is determined up to its sign; here the entry of ``v_k`` that is largest in magnitude is positive
    (the first of those that are largest up to rounding). So the same data gives the same picture on every machine,
    unless two singular values are equal.

    Args:
        data: (N, d), N >= 2 and d >= 2, on any device; flatten images first.

    Returns:
        P (N, 2), float64 on the CPU, with mean 0 and the larger variance in the first column.

    Raises:
        ValueError: if ``data`` is not (N, d), too small, or not finite.

    Example:
        >>> principal_plane(torch.tensor([[0.0, 0.0, 1.0], [0.0, 3.0, 1.0], [1.0, 0.0, 1.0], [1.0, 3.0, 1.0]])).abs()
        tensor([[1.5000, 0.5000],
                [1.5000, 0.5000],
                [1.5000, 0.5000],
                [1.5000, 0.5000]], dtype=torch.float64)
    """
    rows = finite("data", data, "Nd")
    if min(rows.shape) < 2:
        raise ValueError(f"Expected argument `data` to have shape (N, d), N and d >= 2, but got {tuple(rows.shape)}.")
    centred = rows - rows.mean(dim=0)
    directions = torch.linalg.svd(centred, full_matrices=False).Vh[:2]  # (2, d)
    size = directions.abs()
    largest = size >= (1.0 - _TIE) * size.amax(dim=1, keepdim=True)
    signs = directions.gather(1, largest.int().argmax(dim=1, keepdim=True)).sign()  # argmax: the first of equals
    return centred @ (directions * signs).T


def embedding(
    points: Tensor | Sequence[Sequence[float]],
    group: Sequence[Hashable] | Tensor,
    *,
    title: str = "",
    xlabel: str = "",
    ylabel: str = "",
) -> Figure:
    """A point for each sample, with a colour and a marker for each group, both axes at one scale.

    Groups are drawn in the order in which they first come, later ones on top: put the data first, examples after it.

    Args:
        points: coordinates (N, 2) from `principal_plane` or any other embedding.
        group: of each sample (N,): names, or a tensor of class labels.
        title: above the figure.
        xlabel: below the x axis; ticks are left out, for the coordinates mean nothing by themselves.
        ylabel: beside the y axis.

    Raises:
        ValueError: if ``points`` is not (N, 2) or not finite, or ``group`` has another length.

    Example:
        >>> figure = embedding([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]], ["data", "off", "data"])
        >>> [dots.get_offsets().tolist() for dots in figure.axes[0].collections]
        [[[0.0, 1.0], [4.0, 5.0]], [[2.0, 3.0]]]
    """
    places = finite("points", points, "N2")
    if places.shape[1] != 2:
        raise ValueError(f"Expected argument `points` to have shape (N, 2), but got {tuple(places.shape)}.")
    names = sequence("group", group, "a sequence of names")
    check_texts(title=title, xlabel=xlabel, ylabel=ylabel)
    if len(names) != len(places):
        raise ValueError(f"Expected argument `group` to have {len(places)} entries, but got {len(names)}.")

    with themed():
        spans = (places.amax(dim=0) - places.amin(dim=0)).tolist()
        figure = new_figure(_WIDTH, 1.2 + min(6.0, max(2.5, (_WIDTH - 0.3) * spans[1] / (spans[0] or 1.0))))
        axes = figure.add_subplot()
        for name, look in point_looks(names).items():
            mine = places[torch.tensor([other == name for other in names])]
            axes.scatter(
                mine[:, 0].tolist(),
                mine[:, 1].tolist(),
                s=point_area(len(places)),
                color=look.colour,
                marker=look.marker,
                edgecolors="white",
                linewidths=0.4,
                alpha=0.85,
                label=str(name),
            )
        axes.set_aspect("equal", adjustable="datalim")
        axes.grid(visible=False)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_title(title)
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        legend_below(figure, [axes])
    return figure
