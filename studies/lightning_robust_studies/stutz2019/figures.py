"""The figures of the manifold study that show numbers of many images; those of single images are in `pictures`."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from lightning_robust.cells.cells import Row
from lightning_robust.learning_curves.seeds import over_seeds, share
from lightning_robust.plots import Unit, curve_panel
from lightning_robust_studies.stutz2019.claims import points
from lightning_robust_studies.stutz2019.plots import heat_map, histogram_panel, regression_scatter
from lightning_robust_studies.stutz2019.tables import DEGREES, PIXELS, THREATS, Tables

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PROJECTION = (
    "True manifold: Adam on the parameters of the known letter and face, from three starts. Tangent: the span of the "
    "training images nearest to the example, at the clean image. Learned manifold: Adam on the code of the image's "
    "class, from that of the encoder, where the clean image itself is not on it."
)
"""How examples are projected."""
_SUCCESS = {
    "off-manifold success": "off the manifold, mean of attempts",
    "on-manifold success": "on the manifold, mean of attempts",
    "learned-manifold success": "on the learned manifold, mean of attempts",
    "off-manifold success, worst attempt": "off the manifold, worst attempt",
    "on-manifold success, worst attempt": "on the manifold, worst attempt",
}
_TRANSFER = (
    "Transfer, {}, at the largest size: of the images that both models read correctly, the share whose adversarial "
    "example, made on the model of the row, fools both. Rows and columns are models of different seeds; with one seed "
    "the diagonal is the attack itself."
)
_EXAMPLES = {"off": "off-manifold examples", "on": "on-manifold examples"}


def figures_of(tables: Tables) -> dict[str, tuple["Figure", str]]:
    """Figures and captions, by the name of the file."""
    shown = [row for row in tables.models if row["metric"] == "test error" or row["metric"] in _SUCCESS]
    means = [
        {"n": n, "scheme": scheme, "metric": metric, "value": e.value, "low": share(e).low, "high": share(e).high}
        for (n, scheme, metric), e in over_seeds(shown, ("n", "scheme", "metric")).items()
    ]
    curve: dict[str, Any] = {"low": "low", "high": "high", "group": "scheme", "xscale": "log"}
    errors = [row for row in means if row["metric"] == "test error"]
    success = [{**row, "threat": _SUCCESS[row["metric"]]} for row in means if row["metric"] in _SUCCESS]
    figures = {
        "error": (
            curve_panel(errors, "n", "value", **curve, xlabel="training images", ylabel="test error"),
            "Test error over the number of training images; bands: 95 % intervals.",
        ),
        "success": (
            curve_panel(success, "n", "value", **curve, panel="threat", xlabel="training images", ylabel="success"),
            "Success rates of attacks over the number of training images; bands: 95 % intervals.",
        ),
        "regression": (
            regression_scatter(points(tables.models), "test error", "success", group="scheme", panel="threat"),
            "Success rate over test error, a point for each model, with the line of least squares over all of them.",
        ),
    }
    for metric, unit, label in (("distance", PIXELS, "L2 distance"), ("angle", DEGREES, "angle in degrees")):
        figure = _histogram(tables.examples, metric, unit, label)
        if figure is not None:
            where = "L2 distance from the manifold" if metric == "distance" else "Angle to the manifold in degrees"
            figures[f"{metric}s"] = (figure, f"{where} of successful examples of one model. {PROJECTION}")
    if tables.transfer:
        for threat, name in THREATS.items():
            figures[f"transfer_{threat}"] = (_matrix(tables.transfer, threat), _TRANSFER.format(name))
    return figures


def _histogram(examples: Mapping[str, Tensor], metric: str, unit: Unit, label: str) -> "Figure | None":
    values = {
        f"{_EXAMPLES[threat]}, {manifold} manifold": kept
        for threat in THREATS
        for manifold in ("true", "tangent", "learned")
        if len(kept := _defined(examples.get(f"{threat} {manifold} {metric}")))
    }
    return histogram_panel(values, unit=unit, xlabel=label) if values else None


def _defined(values: Tensor | None) -> list[float]:
    return [] if values is None else values[~values.isnan()].tolist()


def _matrix(transfer: Sequence[Row], threat: str) -> "Figure":
    largest = max(int(str(row["n"])) for row in transfer)
    rates = {
        (str(row["source"]), str(row["target"])): float(str(row["value"]))
        for row in transfer
        if row["n"] == largest and row["threat"] == threat
    }
    sources, targets = (list(dict.fromkeys(key[i] for key in rates)) for i in (0, 1))
    matrix = [[rates.get((source, target), math.nan) for target in targets] for source in sources]
    return heat_map(matrix, sources, targets, xlabel="shown to", ylabel="made on", title=f"Transfer {THREATS[threat]}")
