"""The figures and the page of the manifold study."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from lightning_robust.plots import (
    Html,
    Report,
    Unit,
    curve_panel,
    heading,
    heat_map,
    histogram_panel,
    picture,
    regression_scatter,
    save_png,
    table,
    versions,
)
from lightning_robust.plots import settings as settings_part
from lightning_robust.studies.grid.cells import Row
from lightning_robust.studies.manifold.claims import (
    DEGREES,
    PIXELS,
    claims,
    fits,
    points,
    table_beside_plot,
    table_of_classes,
    table_of_efforts,
    table_over_seeds,
    unit_of,
)
from lightning_robust.studies.manifold.pictures import picture_figures
from lightning_robust.studies.seeds import over_seeds, share

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SUCCESS = {
    "off-manifold success": "off the manifold, mean of attempts",
    "on-manifold success": "on the manifold, mean of attempts",
    "learned-manifold success": "on the learned manifold, mean of attempts",
    "off-manifold success, worst attempt": "off the manifold, worst attempt",
    "on-manifold success, worst attempt": "on the manifold, worst attempt",
}
_INTERVALS = (
    "Brackets: 95 % intervals over {} seeds (Student's t) of initial weights and order of images; for letters they "
    "do not cover the draw of the training images, which are the same for all. With one seed: for the draw of test "
    "images. Intervals of r and p-values take models as independent, but those of one size share their training images."
)
_SUCCESS_RATE = (
    "Success rate: of the test images that are read correctly, the share whose attack succeeds; the mean over random "
    "starts, as in the paper, or the worst of them. Every attempt keeps its best iterate. On-manifold attacks move the "
    "parameters that drew the image, within the range of the data; where these are not known (data but letters), "
    "and in what is called learned-manifold success, they move the code that the learned manifold of the image's class "
    "gives it: then the image before is the decoded one, and only images whose code has no entry beyond 2 count, "
    'successful or not ("the paper\'s count", in the table of all results, applies that to successes alone). Learned '
    "manifolds saw {} images; the paper's saw more than its classifiers. Half of each batch is attacked in training, "
    "all of it in schemes that end in -100."
)
_BESIDE = "On-manifold success beside the plot of the authors, on letters of other faces (their eps in pixels is 0.3)"
_PROJECTION = (
    "True manifold: Adam on the parameters of the known letter and face, from three starts. Tangent: the span of the "
    "training images nearest to the example, at the clean image. Learned manifold: Adam on the code of the image's "
    "class, from that of the encoder, where the clean image itself is not on it."
)
_DISTANCE = (
    f"Distance: L2 in pixels from a successful example to its projection. {_PROJECTION} The angle is that between the "
    "perturbation and its part along the manifold."
)
_TRANSFER = (
    "Transfer, {}, at the largest size: of the images that both models read correctly, the share whose adversarial "
    "example, made on the model of the row, fools both. Rows and columns are models of different seeds; with one seed "
    "the diagonal is the attack itself."
)
_THREATS = {"off": "off the manifold", "on": "on the manifold"}
_EXAMPLES = {"off": "off-manifold examples", "on": "on-manifold examples"}


@dataclass(frozen=True)
class Tables:
    """The rows of all stages, and the values of single examples.

    Args:
        models: n, scheme, seed, metric, value, low, high, count.
        manifolds: manifold, metric, value.
        transfer: n, source, threat, target, value, low, high, count.
        distances: n, scheme, seed, threat, manifold, metric, value, low, high, count.
        examples: for "<off or on> <true or tangent> <distance or angle>" and "<off or on> size" the values (N,).
        pictures: what `manifold_pictures.Illustrate` kept.
    """

    models: Sequence[Row]
    manifolds: Sequence[Row] = ()
    transfer: Sequence[Row] = ()
    distances: Sequence[Row] = ()
    examples: Mapping[str, Tensor] = field(default_factory=dict)
    pictures: Mapping[str, Tensor] = field(default_factory=dict)


def write_report(tables: Tables, out: Path, settings: Mapping[str, Any], classes: Sequence[str] = ()) -> Path:
    """Write `report.html` and each figure as a PNG.

    Args:
        tables: what the study found.
        out: the folder.
        settings: names and values to show at the end.
        classes: names of the classes.

    Returns:
        the page.
    """
    figures = _figures(tables) | picture_figures(tables.pictures, settings, tuple(classes))
    for name, (figure, _) in figures.items():
        save_png(figure, out / f"{name}.png")
    found = claims(tables.models, tables.distances)
    summary = " ".join(f"Claim {claim.title.partition('.')[0]} {claim.verdict}." for claim in found)
    seeds = len({row["seed"] for row in tables.models})
    parts: list[Html | str] = [heading("The four claims")]
    parts += [f"{claim.title} {claim.verdict.capitalize()}. {claim.text}" for claim in found]
    parts += [
        _INTERVALS.format(seeds),
        heading("All models"),
        table(table_over_seeds(tables.models), caption="Means over seeds"),
        *_extra_tables(tables, settings),
        *(picture(figure, caption=caption, alt=caption) for figure, caption in figures.values()),
        table(
            [
                {
                    "training": row["schemes"],
                    "threat": row["threat"],
                    "slope": math.nan if row["fit"] is None else row["fit"].slope,
                    "fit": "too few models" if row["fit"] is None else row["fit"].text(),
                }
                for row in fits(tables.models)
            ],
            caption="Regression of the success rate on the test error",
        ),
    ]
    if tables.distances:
        parts += [table(_distance_lines(tables.distances), caption="Distance from the manifold, means over seeds")]
    if tables.manifolds:
        parts += [table(tables.manifolds, caption="Learned manifolds, on held-out images")]
    parts += [
        heading("What the numbers are"),
        _SUCCESS_RATE.format(settings.get("manifold_size", "their own")),
        _DISTANCE,
        heading("How it was made"),
        settings_part(settings),
        settings_part(versions(), caption="Versions"),
        "Stutz, Hein, Schiele, Disentangling Adversarial Robustness and Generalization, CVPR 2019.",
    ]
    return Report("Robustness and generalization, on and off the manifold", summary, parts).write(out / "report.html")


def _extra_tables(tables: Tables, settings: Mapping[str, Any]) -> list[Html]:
    theirs = {"data": "fonts", "norm": "linf", "eta": 0.3}
    comparable = all(settings.get(name, value) == value for name, value in theirs.items())
    beside = table_beside_plot(tables.models) if comparable else []
    found = {
        _BESIDE: beside,
        "Success rate by class, largest size, means over seeds": table_of_classes(tables.models),
        "Distances of successful examples from their images, in pixels and in codes, and steps until the first "
        "success; largest size, means over seeds": table_of_efforts(tables.models),
    }
    return [table(rows, caption=caption) for caption, rows in found.items() if rows]


def _figures(tables: Tables) -> dict[str, tuple["Figure", str]]:
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
            figures[f"{metric}s"] = (figure, f"{where} of successful examples of one model. {_PROJECTION}")
    if tables.transfer:
        for threat, name in _THREATS.items():
            figures[f"transfer_{threat}"] = (_matrix(tables.transfer, threat), _TRANSFER.format(name))
    return figures


def _histogram(examples: Mapping[str, Tensor], metric: str, unit: Unit, label: str) -> "Figure | None":
    values = {
        f"{_EXAMPLES[threat]}, {manifold} manifold": kept
        for threat in _THREATS
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
    return heat_map(matrix, sources, targets, xlabel="shown to", ylabel="made on", title=f"Transfer {_THREATS[threat]}")


def _distance_lines(distances: Sequence[Row]) -> list[dict[str, Any]]:
    lines: dict[tuple[Any, ...], dict[str, Any]] = {}
    for (n, threat, manifold, metric), estimate in over_seeds(distances, ("n", "threat", "manifold", "metric")).items():
        if manifold == "none":
            continue
        line = lines.setdefault((n, threat, manifold), {"N": n, "examples": _THREATS[threat], "manifold": manifold})
        line[metric] = estimate.text(unit_of(metric))
    return list(lines.values())
