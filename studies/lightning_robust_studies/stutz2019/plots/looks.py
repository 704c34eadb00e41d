"""How groups of points look, and the legend below a figure."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARKERS = "os^DvPX"
_COLORS = 7  # in the cycle of the library's style


def look(i: int) -> dict[str, Any]:
    """The color and marker of the i-th group; 49 groups are told apart.

    Example:
        >>> look(0), look(7)
        ({'color': 'C0', 'marker': 'o'}, {'color': 'C0', 'marker': 's'})
    """
    return {"color": f"C{i % _COLORS}", "marker": MARKERS[(i + i // _COLORS) % len(MARKERS)]}


def area(n: int) -> float:
    """The area of a marker, in square points, for n points in one panel: from 42 for few to 8 for thousands."""
    return min(42.0, max(8.0, 500.0 / max(n, 1) ** 0.5))


def legend_below(figure: "Figure", columns: int) -> None:
    """Put one legend for all panels below the figure, each label once."""
    handles = {
        label: handle for axes in figure.axes for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower left", ncols=columns)
