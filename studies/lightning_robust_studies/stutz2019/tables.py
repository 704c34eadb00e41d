"""The tables of the manifold study."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from torch import Tensor

from lightning_robust.cells import Row
from lightning_robust.learning_curves import mean_over_seeds
from lightning_robust.plots import PERCENT, POINTS, Estimate, Unit

PIXELS = Unit(digits=2)
DEGREES = Unit(digits=1, symbol="degrees")
THREATS = {"off": "off the manifold", "on": "on the manifold"}

MAIN = (
    "test error",
    "off-manifold success",
    "off-manifold success, worst restart",
    "on-manifold success",
    "on-manifold success, worst restart",
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

_MEASURED = ["metric", "value", "low", "high", "count"]
MODEL_COLUMNS = ["n", "scheme", "seed", *_MEASURED]
LEAK_COLUMNS = ["n", "scheme", "seed", "manifold", *_MEASURED, "sentence"]
DISTANCE_COLUMNS = ["n", "scheme", "seed", "threat", "manifold", *_MEASURED]


@dataclass(frozen=True)
class Tables:
    """The rows of all stages, and the values of single examples.

    Args:
        models: n, scheme, seed, metric, value, low, high, count.
        leaks: n, scheme, seed, manifold, metric, value, low, high, count, sentence.
        manifolds: manifold, seed, metric, value.
        transfer: n, source, threat, target, value, low, high, count.
        distances: n, scheme, seed, threat, manifold, metric, value, low, high, count.
        examples: for "<off or on> <true or tangent> <distance or angle>" and "<off or on> size" the values (N,).
        pictures: the tensors that `pictures.Illustrate` kept.
        decoders: for "<manifold> <scheme>" how often each class was read of each decoder, (K, K).
    """

    models: pd.DataFrame
    leaks: pd.DataFrame = field(default_factory=lambda: frame([], LEAK_COLUMNS))
    manifolds: pd.DataFrame = field(default_factory=pd.DataFrame)
    transfer: pd.DataFrame = field(default_factory=pd.DataFrame)
    distances: pd.DataFrame = field(default_factory=lambda: frame([], DISTANCE_COLUMNS))
    examples: Mapping[str, Tensor] = field(default_factory=dict)
    pictures: Mapping[str, Tensor] = field(default_factory=dict)
    decoders: Mapping[str, Tensor] = field(default_factory=dict)


def frame(rows: Sequence[Row], columns: Sequence[str]) -> pd.DataFrame:
    """The rows as a data frame with these columns, also where there is no row."""
    return pd.DataFrame(rows, columns=list(columns))


def mean_of(rows: pd.DataFrame) -> Estimate:
    """The mean of models that differ in their seed, with its interval by Student's t."""
    within = list(zip(rows["low"], rows["high"], strict=True))
    return mean_over_seeds(rows["value"].tolist(), within, max(1, int(rows["count"].sum())))


def means(rows: pd.DataFrame, *names: str) -> dict[tuple[Any, ...], Estimate]:
    """For each combination of `names` the mean over seeds, in the order of their first appearance."""
    return {key: mean_of(group) for key, group in rows.groupby(list(names), sort=False)}


def largest(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the largest size."""
    return rows[rows["n"] == rows["n"].max()]


def table_over_seeds(models: pd.DataFrame) -> pd.DataFrame:
    """A line for each size and scheme, with an `Estimate` for each metric of `MAIN` that was measured."""
    rows = models[models["metric"].isin(MAIN)]
    shares = {key: estimate.clipped() for key, estimate in means(rows, "n", "scheme", "metric").items()}
    return wide(shares, "N", "training")


def table_beside_plot(models: pd.DataFrame) -> pd.DataFrame:
    """On-manifold success beside that of the authors' plot, where both are there."""
    success = means(models[models["metric"] == "on-manifold success"], "n", "scheme")
    lines = [
        {
            "N": n,
            "training": scheme,
            "here": estimate.clipped(),
            "the paper's plot": PERCENT.text(PLOT[scheme][n]),
            "difference": POINTS.text(estimate.value - PLOT[scheme][n]),
        }
        for (n, scheme), estimate in success.items()
        if n in PLOT.get(scheme, {})
    ]
    return pd.DataFrame(lines)


def table_of_classes(models: pd.DataFrame) -> pd.DataFrame:
    """Success rates class by class at the largest size: a line for each scheme and threat."""
    table = _by_threat(models, r"^(?P<threat>.*) success in class (?P<what>.*)$", PERCENT)
    return table[[*table.columns[:2], *sorted(table.columns[2:])]]


def table_of_efforts(models: pd.DataFrame) -> pd.DataFrame:
    """Distances of successful examples and steps to success at the largest size: a line for each scheme and threat."""
    return _by_threat(models, r"^(?P<threat>.*) success, (?P<what>.*(?: distance| of codes| after steps))$", PIXELS)


def table_of_distances(distances: pd.DataFrame) -> pd.DataFrame:
    """Distance, angle and tangent share: a line for each size, kind of example and manifold."""
    units = {"distance": PIXELS, "angle": DEGREES, "tangent share": PERCENT}
    rows = distances[distances["metric"].isin(units)]
    texts = {
        (n, THREATS[threat], manifold, metric): estimate.text(units[metric])
        for (n, threat, manifold, metric), estimate in means(rows, "n", "threat", "manifold", "metric").items()
    }
    return wide(texts, "N", "examples", "manifold")


def _by_threat(models: pd.DataFrame, pattern: str, unit: Unit) -> pd.DataFrame:
    rows = largest(models)
    parts = rows["metric"].str.extract(pattern)
    rows = rows.join(parts)[parts["what"].notna()]
    texts = {key: unit.text(estimate.value) for key, estimate in means(rows, "scheme", "threat", "what").items()}
    return wide(texts, "training", "threat")


def wide(values: Mapping[tuple[Any, ...], object], *names: str) -> pd.DataFrame:
    """A line for each combination of `names`, the first entries of the keys, and a column for each last entry."""
    if not values:
        return pd.DataFrame()
    lines: dict[tuple[Any, ...], dict[Any, object]] = {}  # pandas 2.2 mixes values up in `unstack(sort=False)`
    for (*line, column), value in values.items():
        lines.setdefault(tuple(line), {})[column] = value
    columns = dict.fromkeys((key[-1] for key in values), object)
    rows = [{**dict(zip(names, line, strict=True)), **found} for line, found in lines.items()]
    return pd.DataFrame(rows, columns=[*names, *columns]).astype(columns)
