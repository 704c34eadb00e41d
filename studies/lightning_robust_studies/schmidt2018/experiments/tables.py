"""The tables of the study of sample complexity."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lightning_robust.cells import Row
from lightning_robust.learning_curves import (
    best_over,
    curve_per_seed,
    fit_with_bands,
    needed_with_interval,
    ratio_needed,
)
from lightning_robust.learning_curves.seeds import over_seeds, share
from lightning_robust.plots import PERCENT, PLAIN, POINTS, Estimate
from lightning_robust_studies.schmidt2018.experiments.masking import MISLED, misled
from lightning_robust_studies.stages import filled


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


def laws(rows: Sequence[Row]) -> list[tuple[str, float, Any, Any]]:
    """(data, radius, curves, fit) where there are sizes enough."""
    best, found = best_over(rows), []
    for data in names_of(rows, "data"):
        for eps in names_of([row for row in best if row["data"] == data], "eps_test"):
            curves = curve_per_seed(best, data, eps)
            if len(next(iter(curves.values())).n) >= 3:
                found.append((data, eps, curves, fit_with_bands(curves, floor=False)))
    return found


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
    for data in names_of(best, "data"):
        radii = names_of([row for row in best if row["data"] == data], "eps_test")
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
    for data, eps, _, fit in laws(rows):
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


def names_of(rows: Sequence[Row], column: str) -> list[Any]:
    """What a column holds, in order, once each."""
    return list(dict.fromkeys(row[column] for row in rows))
