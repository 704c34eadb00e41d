"""The tables of the manifold study."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from lightning_robust.cells.cells import Row
from lightning_robust.learning_curves.seeds import over_seeds, share
from lightning_robust.plots import PERCENT, POINTS, Unit
from lightning_robust_studies.stages import filled

PIXELS = Unit(digits=2)
DEGREES = Unit(digits=1, symbol="degrees")
THREATS = {"off": "off the manifold", "on": "on the manifold"}

MAIN = (
    "test error",
    "off-manifold success",
    "off-manifold success, worst attempt",
    "on-manifold success",
    "on-manifold success, worst attempt",
    "learned-manifold success",
)
"""The metrics of the first table."""

PLOT: Mapping[str, Mapping[int, float]] = {
    "normal": {500: 0.952, 2500: 0.744, 10_000: 0.50, 20_000: 0.44},
    "adversarial": {500: 0.886, 2500: 0.714, 10_000: 0.497, 20_000: 0.440},
    "on-true": {500: 0.775, 2500: 0.337, 10_000: 0.22, 20_000: 0.165},
    "augmentation": {500: 0.851, 2500: 0.587, 10_000: 0.403, 20_000: 0.334},
    "transformations": {500: 0.803, 2500: 0.374, 10_000: 0.216, 20_000: 0.160},
    "on-learned-class": {500: 0.931, 2500: 0.650, 10_000: 0.391, 20_000: 0.315},
}
"""On-manifold success on letters, read off a plot of the authors (about half a point of reading error)."""


@dataclass(frozen=True)
class Tables:
    """The rows of all stages, and the values of single examples.

    Args:
        models: n, scheme, seed, metric, value, low, high, count.
        manifolds: manifold, metric, value.
        transfer: n, source, threat, target, value, low, high, count.
        distances: n, scheme, seed, threat, manifold, metric, value, low, high, count.
        examples: for "<off or on> <true or tangent> <distance or angle>" and "<off or on> size" the values (N,).
        pictures: what `pictures.Illustrate` kept.
    """

    models: Sequence[Row]
    manifolds: Sequence[Row] = ()
    transfer: Sequence[Row] = ()
    distances: Sequence[Row] = ()
    examples: Mapping[str, Tensor] = field(default_factory=dict)
    pictures: Mapping[str, Tensor] = field(default_factory=dict)


def sizes_of(models: Sequence[Row]) -> list[int]:
    """The numbers of training images, in order."""
    return sorted({int(str(row["n"])) for row in models})


def table_over_seeds(models: Sequence[Row], metrics: Sequence[str] = MAIN) -> list[dict[str, Any]]:
    """A line for each size and scheme, with an `Estimate` for each metric, of those that were measured."""
    lines: dict[tuple[Any, Any], dict[str, Any]] = {}
    chosen = [row for row in models if row["metric"] in metrics]
    for (n, scheme, metric), estimate in over_seeds(chosen, ("n", "scheme", "metric")).items():
        lines.setdefault((n, scheme), {"N": n, "training": scheme})[metric] = share(estimate)
    return filled(lines.values())


def table_beside_plot(models: Sequence[Row]) -> list[dict[str, Any]]:
    """On-manifold success beside that of the authors' plot, where both are there."""
    chosen = [row for row in models if row["metric"] == "on-manifold success"]
    return [
        {
            "N": n,
            "training": scheme,
            "here": share(estimate),
            "the paper's plot": PERCENT.text(PLOT[scheme][n]),
            "difference": POINTS.text(estimate.value - PLOT[scheme][n]),
        }
        for (n, scheme), estimate in over_seeds(chosen, ("n", "scheme")).items()
        if n in PLOT.get(scheme, {})
    ]


def table_of_classes(models: Sequence[Row]) -> list[dict[str, Any]]:
    """Success rates class by class at the largest size: a line for each scheme and threat."""
    largest, mark = max(sizes_of(models)), " success in class "
    chosen = [row for row in models if row["n"] == largest and mark in str(row["metric"])]
    lines: dict[tuple[Any, str], dict[str, Any]] = {}
    for (scheme, metric), estimate in over_seeds(chosen, ("scheme", "metric")).items():
        threat, _, label = str(metric).partition(mark)
        line = lines.setdefault((scheme, threat), {"training": scheme, "threat": threat})
        line[label] = PERCENT.text(estimate.value)
    return filled(lines.values())


def table_of_efforts(models: Sequence[Row]) -> list[dict[str, Any]]:
    """Distances of successful examples and steps to success at the largest size: a line for each scheme and threat."""
    largest = max(sizes_of(models))
    chosen = [
        row
        for row in models
        if row["n"] == largest and str(row["metric"]).endswith((" distance", " of codes", " after steps"))
    ]
    lines: dict[tuple[Any, str], dict[str, Any]] = {}
    for (scheme, metric), estimate in over_seeds(chosen, ("scheme", "metric")).items():
        threat, _, what = str(metric).partition(" success, ")
        line = lines.setdefault((scheme, threat), {"training": scheme, "threat": threat})
        line[what] = PIXELS.text(estimate.value)
    return filled(lines.values())


def unit_of(metric: str) -> Unit:
    """How a metric of the distances is written."""
    return DEGREES if metric == "angle" else PIXELS if metric in ("distance", "size") else PERCENT


def table_of_distances(distances: Sequence[Row]) -> list[dict[str, Any]]:
    """Distance from each manifold and angle to it: a line for each size, manifold and kind of example."""
    lines: dict[tuple[Any, ...], dict[str, Any]] = {}
    for (n, threat, manifold, metric), estimate in over_seeds(distances, ("n", "threat", "manifold", "metric")).items():
        if manifold == "none":
            continue
        line = lines.setdefault((n, threat, manifold), {"N": n, "examples": THREATS[threat], "manifold": manifold})
        line[metric] = estimate.text(unit_of(metric))
    return list(lines.values())
