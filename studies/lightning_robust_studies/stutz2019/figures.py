"""The figures of the manifold study that show numbers of many images; those of single images are in `pictures`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd
from torch import Tensor

from lightning_robust.plots import curve_panel
from lightning_robust_studies.stutz2019.claims import points
from lightning_robust_studies.stutz2019.kinds import KINDS, along
from lightning_robust_studies.stutz2019.plots import heat_map, histogram_panel, regression_scatter
from lightning_robust_studies.stutz2019.tables import DEGREES, PIXELS, THREATS, Tables, largest, means

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PROJECTION = (
    "True manifold: Adam on the parameters of the known letter and face, from three starts. Tangent: the span of the "
    "training images nearest to the example, at the clean image. Learned manifold: Adam on the code of the image's "
    "class, from that of the encoder, where the clean image itself is not on it."
)
"""How examples are projected."""
_SUCCESS = {
    "off-manifold success": "off the manifold, mean of restarts",
    "on-manifold success": "on the manifold, mean of restarts",
    "off-manifold success, worst restart": "off the manifold, worst restart",
    "on-manifold success, worst restart": "on the manifold, worst restart",
    **{f"{along(name)} success": f"{along(name)}, mean of restarts" for name in KINDS},
}
_TRANSFER = (
    "Transfer, {}, at the largest size: of the images that both models read correctly, the share whose adversarial "
    "example, made on the model of the row, fools both. Rows and columns are models of different seeds; with one seed "
    "the diagonal is the attack itself."
)


def figures_of(tables: Tables) -> dict[str, tuple["Figure", str]]:
    """Figures and captions, by the name of the file."""
    models = tables.models
    figures = {
        "error": (
            _curves(models[models["metric"] == "test error"], ylabel="test error"),
            "Test error over the number of training images; bands: 95 % intervals.",
        ),
        "success": (
            _curves(models[models["metric"].isin(_SUCCESS)], panel="threat", ylabel="success"),
            "Success rates of attacks over the number of training images; bands: 95 % intervals.",
        ),
        "regression": (
            regression_scatter(points(models), "test error", "success", group="scheme", panel="threat"),
            "Success rate over test error, a point for each model, with the line of least squares over all of them.",
        ),
    }
    for metric, unit, label in (
        ("distance", PIXELS, "L2 distance from the manifold"),
        ("angle", DEGREES, "angle to the manifold in degrees"),
    ):
        values = _values_of(tables.examples, metric)
        if values:
            caption = f"{label[0].upper()}{label[1:]} of successful examples of one model. {PROJECTION}"
            figures[f"{metric}s"] = (histogram_panel(values, unit=unit, xlabel=label), caption)
    if len(tables.transfer):
        for threat, name in THREATS.items():
            figures[f"transfer_{threat}"] = (transfer_matrix(tables.transfer, threat), _TRANSFER.format(name))
    return figures


def transfer_matrix(transfer: pd.DataFrame, threat: str) -> "Figure":
    """The rates of transfer at the largest size, from the models of the rows to those of the columns."""
    rows = largest(transfer[transfer["threat"] == threat])
    rates = rows.pivot(index="source", columns="target", values="value")
    rates = rates.loc[rows["source"].unique(), rows["target"].unique()]
    return heat_map(rates, title=f"Transfer {THREATS[threat]}", xlabel="shown to", ylabel="made on")


def _curves(rows: pd.DataFrame, *, panel: str | None = None, ylabel: str) -> "Figure":
    lines = [
        {"n": n, "scheme": scheme, "threat": _SUCCESS.get(metric), "value": e.value, "low": e.low, "high": e.high}
        for (n, scheme, metric), estimate in means(rows, "n", "scheme", "metric").items()
        for e in (estimate.clipped(),)
    ]
    return curve_panel(
        lines,
        "n",
        "value",
        low="low",
        high="high",
        group="scheme",
        panel=panel,
        xscale="log",
        xlabel="training images",
        ylabel=ylabel,
    )


def _values_of(examples: Mapping[str, Tensor], metric: str) -> dict[str, list[float]]:
    values = {
        f"{threat}-manifold examples, {manifold} manifold": examples.get(f"{threat} {manifold} {metric}")
        for threat in THREATS
        for manifold in ("true", "tangent", "learned")
    }
    defined = {name: each[~each.isnan()].tolist() for name, each in values.items() if each is not None}
    return {name: each for name, each in defined.items() if each}
