"""The figures and the page of the study of sample complexity."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_robust.plots import (
    PERCENT,
    PLAIN,
    POINTS,
    Estimate,
    Html,
    Report,
    curve_panel,
    heading,
    picture,
    save_png,
    table,
    versions,
)
from lightning_robust.plots import settings as settings_part
from lightning_robust.studies.curves import (
    best_over,
    curve_per_seed,
    fit_with_bands,
    needed_with_interval,
    ratio_needed,
)
from lightning_robust.studies.grid.cells import Row
from lightning_robust.studies.sample_complexity.claims import claims
from lightning_robust.studies.sample_complexity.masking import MISLED, misled, trusted
from lightning_robust.studies.sample_complexity.settings import Grid
from lightning_robust.studies.seeds import over_seeds, share
from lightning_robust.studies.stages import filled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Figures = dict[str, tuple["Figure", str]]

_ACCURACY = (
    "Accuracy: the share of images that are read correctly as they are and under the attack, {} (radius 0: as they "
    "are); for networks with threshold filters, whose gradients are masked, also under PGD on the linear part of the "
    "filters. Attacks bound robust accuracy from above alone. All curves but those of single radii show the best over "
    "network, training radius and checkpoint, chosen on validation images under the same attack, for each size and "
    "seed; the paper chose on the test set. The best checkpoint is the state of a training that was best on validation "
    "images under the attack of that training. Training images are attacked as they come to the training, augmented "
    "where it does so. Training sets of the built-in problems are class-balanced, and each contains the smaller ones "
    "of its seed."
)
_ATTACKS = {
    "pgd": "PGD with its best iterate",
    "worst": "the worst of PGD on the log-odds, PGD on the margin and a random search",
}
_BANDS = (
    "Bands and brackets: 95 % intervals by Student's t over {} seeds of the choice of training images, their order and "
    "the initial weights; the test images are the same. With one seed: for the draw of test images. Numbers of samples "
    "come from monotone curves, interpolated on a logarithmic scale; their intervals, and those of power laws, also "
    "cover the draw of test images."
)
_MASKING = (
    "For models of the largest size and the first seed, at the largest radius: white-box PGD against attacks that "
    "masked gradients do not mislead. A random search asks for scores alone, numerical gradients see across flat "
    "zones, transferred examples were made on the first network of the same cell (of which there is no such column), "
    "and substitute gradients pass threshold filters. The last column is the share of images that withstand PGD but "
    "not all of the others."
)


_REFERENCE = (
    "Schmidt, Santurkar, Tsipras, Talwar, Madry, Adversarially Robust Generalization Requires More Data, NeurIPS 2018."
)
_NETWORKS = (
    "{}: each network alone, best over radius and checkpoint. Networks with threshold filters are attacked through "
    "them too; what that leaves out is in the table of attacks."
)
_GAP = (
    "{}: robust accuracy over the training of the network {} at radius {:g}, first seed. The distance of the lines is "
    "the robust generalization gap."
)


@dataclass(frozen=True)
class Tables:
    """The rows of all stages.

    Args:
        models: data, n, model, eps_train, seed, checkpoint, split, eps_test, value, low, high, count.
        gaps: data, n, model, eps_train, seed, split, step, value.
        masking: data, n, model, eps_train, seed, eps_test, attack, metric, value, low, high, count.
    """

    models: Sequence[Row]
    gaps: Sequence[Row] = ()
    masking: Sequence[Row] = ()


def write_report(
    tables: Tables, out: Path, *, targets: Sequence[float], settings: Mapping[str, Any], grids: Sequence[Grid]
) -> Path:
    """Write `report.html` and each figure as a PNG.

    Args:
        tables: what the study found.
        out: the folder.
        targets: accuracies for which the number of samples is told.
        settings: names and values to show at the end.
        grids: what was run of each problem.

    Returns:
        the page.
    """
    figures = _figures(tables)
    for name, (figure, _) in figures.items():
        save_png(figure, out / f"{name}.png")
    judged = trusted(tables.models, tables.masking)
    found = claims(judged, targets=targets)
    summary = " ".join(f"Claim {claim.title.partition('.')[0]} {claim.verdict}." for claim in found)
    seeds = len({row["seed"] for row in tables.models})
    shown = {name: picture(figure, caption=text, alt=text) for name, (figure, text) in figures.items()}
    parts: list[Html | str] = [heading("The claims")]
    parts += [f"{claim.title} {claim.verdict.capitalize()}. {claim.text}" for claim in found]
    parts += [heading("Accuracy over the number of training images"), shown.pop("accuracy")]
    parts += [table(accuracy_lines(judged), caption="Best over hyperparameters, means over seeds")]
    parts += [heading("How many images an accuracy takes")]
    parts += [table(needed_lines(judged, targets), caption="Training images for an accuracy, and their ratio")]
    laws = law_lines(judged)
    if laws:
        parts += [shown.pop("power_law"), table(laws, caption="Power laws: error = a n^-b")]
    parts += [heading("Radii, networks, checkpoints and training images"), *shown.values()]
    checkpoints = checkpoint_lines(tables.models)
    if checkpoints:
        parts += [table(checkpoints, caption="The best checkpoint less the last one, on test images")]
    if tables.masking:
        parts += [heading("Can PGD be believed?"), _MASKING]
        parts += [masking_verdict(tables.masking), table(masking_lines(tables.masking), caption="Accuracy by attack")]
    parts += [
        heading("What the numbers are"),
        _ACCURACY.format(_ATTACKS[str(settings.get("attacks", "pgd"))]),
        _BANDS.format(seeds),
        heading("How it was made"),
        *(settings_part({k: v for k, v in vars(grid).items() if k != "data"}, caption=grid.data) for grid in grids),
        settings_part(settings),
        settings_part(versions(), caption="Versions"),
        _REFERENCE,
    ]
    return Report("How much data robustness takes", summary, parts).write(out / "report.html")


# ---- figures


def _figures(tables: Tables) -> Figures:
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
    for data in _names(rows, "data"):
        mine = [row for row in rows if row["data"] == data]
        radii = _names(mine, "eps_train")
        if len(radii) > 1:
            alone = [row for eps in radii for row in best_over(mine, only={"eps_train": eps})]
            alone = [{**row, "trained": f"trained at {row['eps_train']:g}"} for row in alone]
            figures[f"radii_{data}"] = (
                _curves(alone, ("n", "eps_test", "trained"), group="eps_test", panel="trained"),
                f"{data}: each radius of training alone; best over network and checkpoint.",
            )
        every = [row for row in tables.models if row["data"] == data]
        models = _names(every, "model")
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
    for data, eps, curves, fit in _laws(rows):
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


def _laws(rows: Sequence[Row]) -> list[tuple[str, float, Any, Any]]:
    """(data, radius, curves, fit) where there are sizes enough."""
    best, found = best_over(rows), []
    for data in _names(rows, "data"):
        for eps in _names([row for row in best if row["data"] == data], "eps_test"):
            curves = curve_per_seed(best, data, eps)
            if len(next(iter(curves.values())).n) >= 3:
                found.append((data, eps, curves, fit_with_bands(curves, floor=False)))
    return found


# ---- tables


def accuracy_lines(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """A line for each data set and size, a column for each radius."""
    lines: dict[tuple[Any, Any], dict[str, Any]] = {}
    for (data, n, eps), estimate in over_seeds(best_over(rows), ("data", "n", "eps_test")).items():
        line = lines.setdefault((data, n), {"data": data, "N": n})
        line[_radius(eps)] = share(estimate)
    return filled(lines.values())


def needed_lines(rows: Sequence[Row], targets: Sequence[float]) -> list[dict[str, Any]]:
    """A line for each data set, radius and target: samples needed, and how many times those of standard accuracy."""
    best, lines = best_over(rows), []
    for data in _names(best, "data"):
        radii = _names([row for row in best if row["data"] == data], "eps_test")
        standard = curve_per_seed(best, data, 0) if 0 in radii else None
        for eps in radii:
            curves = curve_per_seed(best, data, eps)
            for target in targets:
                ratio = ratio_needed(standard, curves, target) if standard is not None and eps else ""
                lines.append(
                    {
                        "data": data,
                        "attack": _radius(eps),
                        "accuracy": PERCENT.tick(target),
                        "training images": str(needed_with_interval(curves, target)),
                        "times those of accuracy without an attack": str(ratio),
                    }
                )
    return lines


def law_lines(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """A line for each data set and radius."""
    lines = []
    for data, eps, _, fit in _laws(rows):
        low, high = fit.exponent()
        exponent = f"{fit.law.b:.2f} [{low:.2f}, {high:.2f}]"
        lines.append({"data": data, "attack": _radius(eps), "a": f"{fit.law.a:.3g}", "exponent b": exponent})
    return lines


def checkpoint_lines(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """How much better the checkpoint that was best on validation images is than the last one, by radius of training."""
    tested = [row for row in rows if row["split"] == "test" and row["eps_test"] == row["eps_train"]]
    gains: dict[tuple[Any, Any, Any], list[float]] = {}
    last = {_model(row): float(str(row["value"])) for row in tested if row["checkpoint"] == "last"}
    for row in tested:
        if row["checkpoint"] == "best":
            gain = float(str(row["value"])) - last[_model(row)]
            gains.setdefault((row["data"], row["n"], row["eps_train"]), []).append(gain)
    lines: dict[tuple[Any, Any], dict[str, Any]] = {}
    for (data, n, eps), values in gains.items():
        line = lines.setdefault((data, n), {"data": data, "N": n})
        line[f"trained and attacked at {eps:g}"] = POINTS.text(sum(values) / len(values))
    return filled(lines.values())


def _model(row: Row) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("data", "n", "eps_train", "model", "seed"))


def masking_lines(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """A line for each model, a column for each attack."""
    lines: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        place = tuple(row[name] for name in ("data", "model", "eps_train", "eps_test"))
        names = ("data", "network", "trained at", "attacked at")
        line = lines.setdefault(place, dict(zip(names, place, strict=True)))
        line[str(row["attack"]) if row["metric"] == "accuracy" else "PGD too optimistic by"] = _estimate(row).text()
    return filled(lines.values())


def masking_verdict(rows: Sequence[Row]) -> str:
    """For which models white-box PGD was too optimistic, for which it was not, and for which that cannot be told.

    By the interval of the share of images that withstand PGD alone: above `MISLED`, below it, or on both sides.
    """
    asked = [row for row in rows if row["metric"] == "too optimistic by"]
    wrong = [row for row in asked if float(str(row["low"])) > MISLED]
    open_ = [row for row in asked if float(str(row["low"])) <= MISLED < float(str(row["high"]))]
    limit = POINTS.text(MISLED)
    text = f"White-box PGD is too optimistic by at most {limit} for {len(asked) - len(wrong) - len(open_)} models"
    if open_:
        count = min(int(str(row["count"])) for row in open_)
        text += f"; whether it is cannot be told on {count} images for {_told(open_)}"
    if wrong:
        names = ", ".join(f"{model} on {data}" for data, model in sorted(misled(rows), key=str))
        text += (
            f"; it is by more for {_told(wrong)}. Their robust accuracy is at most that of the column of all attacks. "
            f"So {names} took no part in the claims and in the curves of the best, where there was another network"
        )
    return text + "."


def _told(rows: Sequence[Row]) -> str:
    return ", ".join(
        f"{row['model']} on {row['data']} trained at {row['eps_train']:g} ({_estimate(row).text(POINTS)})"
        for row in rows
    )


def _estimate(row: Row) -> Estimate:
    value, low, high = (float(str(row[name])) for name in ("value", "low", "high"))
    return Estimate(value, low, high, int(str(row["count"])))


def _radius(eps: Any) -> str:
    return f"radius {PLAIN.tick(eps)}" if eps else "no attack"


def _names(rows: Sequence[Row], column: str) -> list[Any]:
    return list(dict.fromkeys(row[column] for row in rows))
