"""The figures of the study of sample complexity."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lightning_robust.cells import Row
from lightning_robust.learning_curves import best_over
from lightning_robust.learning_curves.seeds import over_seeds, share
from lightning_robust.plots import curve_panel
from lightning_robust_studies.schmidt2018.experiments.masking import trusted
from lightning_robust_studies.schmidt2018.experiments.tables import Tables, laws, names_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Figures = dict[str, tuple["Figure", str]]

_NETWORKS = (
    "{}: each network alone, best over radius and checkpoint. Networks with threshold filters are attacked through "
    "them too; what that leaves out is in the table of attacks."
)
_GAP = (
    "{}: robust accuracy over the training of the network {} at radius {:g}, first seed. The distance of the lines is "
    "the robust generalization gap."
)


def figures_of(tables: Tables) -> Figures:
    """Figures and captions, by the name of the file."""
    rows = trusted(tables.models, tables.masking)
    best = best_over(rows)
    figures: Figures = {
        "accuracy": (
            _curves(best, ("data", "n", "eps_test"), group="eps_test", panel="data"),
            "Test accuracy over the number of training images, a line for each radius of the attack.",
        )
    }
    law = _law_figure(rows)
    if law is not None:
        figures["power_law"] = (law, "Test error with fitted power laws (dashed) and their 95 % bands.")
    for data in names_of(rows, "data"):
        mine = [row for row in rows if row["data"] == data]
        radii = names_of(mine, "eps_train")
        if len(radii) > 1:
            alone = [row for eps in radii for row in best_over(mine, only={"eps_train": eps})]
            alone = [{**row, "trained": f"trained at {row['eps_train']:g}"} for row in alone]
            figures[f"radii_{data}"] = (
                _curves(alone, ("n", "eps_test", "trained"), group="eps_test", panel="trained"),
                f"{data}: each radius of training alone; best over network and checkpoint.",
            )
        every = [row for row in tables.models if row["data"] == data]
        models = names_of(every, "model")
        if len(models) > 1:
            each = [row for model in models for row in best_over(every, only={"model": model})]
            each = [{**row, "attack radius": f"attack of radius {row['eps_test']:g}"} for row in each]
            figures[f"networks_{data}"] = (
                _curves(each, ("n", "model", "attack radius"), group="model", panel="attack radius"),
                _NETWORKS.format(data),
            )
        gap = _gap_figure([row for row in tables.gaps if row["data"] == data])
        if gap is not None:
            figures[f"gap_{data}"] = gap
    return figures


def _curves(rows: Sequence[Row], names: Sequence[str], *, group: str, panel: str) -> "Figure":
    means = [
        {**dict(zip(names, key, strict=True)), "value": e.value, "low": share(e).low, "high": share(e).high}
        for key, e in over_seeds(rows, names).items()
    ]
    if group == "eps_test":
        means = [{**row, group: f"radius {row[group]:g}" if row[group] else "no attack"} for row in means]
    return curve_panel(
        means,
        "n",
        "value",
        low="low",
        high="high",
        group=group,
        panel=panel,
        xscale="log",
        xlabel="training images",
        ylabel="test accuracy",
    )


def _gap_figure(gaps: Sequence[Row]) -> tuple["Figure", str] | None:
    """Robust accuracy over the steps of training, of one network at the largest radius, smallest and largest size."""
    if not gaps:
        return None
    eps, model = max(float(str(row["eps_train"])) for row in gaps), gaps[0]["model"]
    sizes = sorted({int(str(row["n"])) for row in gaps})
    names = {"train": "training images", "val": "validation images"}
    rows = [
        {**row, "part": names[str(row["split"])], "size": f"{row['n']} training images"}
        for n in dict.fromkeys((sizes[0], sizes[-1]))
        for row in gaps
        if (row["eps_train"], row["model"], row["n"], row["seed"]) == (eps, model, n, 0)
    ]
    figure = curve_panel(rows, "step", "value", group="part", panel="size", xlabel="step", ylabel="robust accuracy")
    return figure, _GAP.format(gaps[0]["data"], model, eps)


def _law_figure(rows: Sequence[Row]) -> "Figure | None":
    points: list[dict[str, Any]] = []
    dashed: dict[str, str] = {}
    for data, eps, curves, fit in laws(rows):
        name, panel = f"radius {eps:g}" if eps else "no attack", data
        sizes = next(iter(curves.values())).n
        for n in sizes:
            errors = [1 - curve.at(n)[0] for curve in curves.values()]
            points.append(_point(panel, name, n, sum(errors) / len(errors)))
        grid = [sizes[0] * (sizes[-1] / sizes[0]) ** (i / 20) for i in range(21)]
        low, high = fit.bands(grid)
        dashed[f"{name}, fit"] = name
        for i, n in enumerate(grid):
            points.append(_point(panel, f"{name}, fit", n, fit.law.predict(n), max(low[i], 1e-4), min(high[i], 1.0)))
    if not points:
        return None
    return curve_panel(
        points,
        "n",
        "error",
        low="low",
        high="high",
        group="curve",
        panel="data",
        xscale="log",
        yscale="log",
        dashed=dashed,
        xlabel="training images",
        ylabel="test error",
    )


def _point(
    data: str, curve: str, n: float, error: float, low: float = math.nan, high: float = math.nan
) -> dict[str, Any]:
    error = max(error, 1e-4)
    return {
        "data": data,
        "curve": curve,
        "n": n,
        "error": error,
        "low": error if math.isnan(low) else low,
        "high": error if math.isnan(high) else high,
    }
