"""The tables of the study of sample complexity."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_robust.cells import Row
from lightning_robust.learning_curves import LearningCurves, means
from lightning_robust.learning_curves.study import MISLED
from lightning_robust.plots import PERCENT, PLAIN, POINTS, Estimate

if TYPE_CHECKING:
    from pandas import DataFrame

Curves = Mapping[str, LearningCurves]
"""Learning curves by the name of the data set."""


RowsOf = Mapping[str, Sequence[Row]]
"""Rows by the name of the data set."""


def write_tables(curves: Curves, out: Path, *, verdicts: RowsOf, least: RowsOf) -> None:
    """Write `results`, `gaps`, `masking`, `verdicts` and `least_errors` as CSV and, with pyarrow, as Parquet."""
    parts: dict[str, Iterable[Sequence[Row]]] = {
        "results": [each.rows for each in curves.values()],
        "gaps": [each.gaps for each in curves.values()],
        "masking": [each.masking for each in curves.values()],
        "verdicts": verdicts.values(),
        "least_errors": least.values(),
    }
    for name, part in parts.items():
        table = frame(row for rows in part for row in rows)
        if table.empty:
            continue
        table.to_csv(out / f"{name}.csv", index=False)
        try:
            table.to_parquet(out / f"{name}.parquet", index=False)
        except ImportError:
            (out / f"{name}.parquet").unlink(missing_ok=True)  # an older one would be of other rows


def frame(rows: Any) -> "DataFrame":
    """Rows as a table."""
    from pandas import DataFrame

    return DataFrame(list(rows))


def accuracy_table(curves: Curves) -> "DataFrame":
    """A line for each data set and size, a column for each radius."""
    rows = []
    for data, each in curves.items():
        for (n,), group in means(each.best(), ["n", "eps_test"]).groupby(["n"]):
            rows.append({"data": data, "N": n} | {radius(row.eps_test): _estimate(row) for row in group.itertuples()})
    return frame(rows)


def needed_table(curves: Curves, targets: Sequence[float]) -> "DataFrame":
    """A line for each data set, radius and target: samples needed, and how many times those of standard accuracy."""
    rows = []
    for data, each in curves.items():
        radii = sorted(set(each.to_pandas()["eps_test"]))
        for eps in radii:
            for target in targets:
                needed, ratio = str(each.samples_needed(target, eps)), ""
                if eps and 0 in radii:
                    ratio = str(each.ratio_needed(target, eps))
                row = {"data": data, "attack": radius(eps), "accuracy": PERCENT.tick(target), "training images": needed}
                rows.append({**row, "times those of accuracy without an attack": ratio})
    return frame(rows)


def law_table(curves: Curves) -> "DataFrame":
    """A line for each data set and radius, where there are sizes enough."""
    rows = []
    for data, each in curves.items():
        for eps, fit in laws(each).items():
            b = fit.exponent()
            exponent = f"{b.value:.2f} [{b.low:.2f}, {b.high:.2f}]"
            rows.append({"data": data, "attack": radius(eps), "a": f"{fit.law.a:.3g}", "exponent b": exponent})
    return frame(rows)


def laws(curves: LearningCurves) -> dict[float, Any]:
    """The power law at each radius; empty where there are fewer than 3 sizes that all seeds have."""
    radii = sorted(set(curves.to_pandas()["eps_test"]))
    return {eps: curves.fit(eps) for eps in radii if len(curves.curves(eps).n) >= 3}


def checkpoint_table(curves: Curves) -> "DataFrame":
    """How much better the checkpoint that was best on validation images is than the last one, by radius of training."""
    table = frame(row for each in curves.values() for row in each.rows)
    table = table[(table["split"] == "test") & (table["eps_test"] == table["eps_train"])]
    by = ["data", "n", "eps_train", "model", "seed"]
    both = table.pivot(index=by, columns="checkpoint", values="value")
    gain = (both["best"] - both["last"]).groupby(level=by[:3], sort=False).mean().map(POINTS.text).unstack()
    gain.columns = [f"trained and attacked at {eps:g}" for eps in gain.columns]
    return gain.fillna("").rename_axis(["data", "N"]).reset_index()


def masking_table(curves: Curves) -> "DataFrame":
    """A line for each model, a column for each attack."""
    rows: dict[tuple[Any, ...], dict[str, str]] = {}
    for data, each in curves.items():
        for row in each.masking:
            key = (data, row["model"], row["eps_train"], row["eps_test"])
            column = str(row["attack"]) if row["metric"] == "accuracy" else "PGD too optimistic by"
            rows.setdefault(key, {})[column] = Estimate(row["value"], row["low"], row["high"], row["count"]).text()  # type: ignore[arg-type]
    names = ("data", "network", "trained at", "attacked at")
    return frame({**dict(zip(names, key, strict=True)), **texts} for key, texts in rows.items()).fillna("")


def masking_verdict(curves: Curves) -> str:
    """For which models white-box PGD was too optimistic, for which it was not, and for which that cannot be told.

    By the interval of the share of images that withstand PGD alone: above `MISLED`, below it, or on both sides.
    """
    table = frame({**row, "data": data} for data, each in curves.items() for row in each.masking)
    table = table[table["metric"] == "too optimistic by"]
    wrong = table[table["low"] > MISLED]
    open_ = table[(table["low"] <= MISLED) & (table["high"] > MISLED)]
    limit = POINTS.text(MISLED)
    text = f"White-box PGD is too optimistic by at most {limit} for {len(table) - len(wrong) - len(open_)} models"
    if len(open_):
        text += f"; whether it is cannot be told on {open_['count'].min()} images for {_models(open_)}"
    if len(wrong):
        names = ", ".join(f"{model} on {data}" for data, each in curves.items() for model in sorted(each.misled()))
        text += (
            f"; it is by more for {_models(wrong)}. Their robust accuracy is at most that under all attacks. "
            f"So {names} took no part in the claims and in the curves of the best, if there was another network"
        )
    return text + "."


def verdict_table(verdicts: RowsOf) -> "DataFrame":
    """A line for each seed and radius: the model that was chosen, and what it withstands."""
    rows: dict[tuple[Any, ...], dict[str, str]] = {}
    for data, each in verdicts.items():
        for row in each:
            key = (data, row["n"], radius(row["eps_test"]), row["seed"], row["model"], row["eps_train"], row["count"])
            texts = rows.setdefault(key, dict.fromkeys(("no attack", "PGD", "standard", "doubts"), ""))
            texts[str(row["attack"])] = Estimate(row["value"], row["low"], row["high"], row["count"]).text()  # type: ignore[arg-type]
            texts["doubts"] += str(row["doubts"])
    names = ("data", "N", "attack", "seed", "network", "trained at", "test images")
    return frame({**dict(zip(names, key, strict=True)), **texts} for key, texts in rows.items())


def least_table(least: RowsOf) -> "DataFrame":
    """A line for each data set and radius: conflicts among test images, and the least error of any classifier."""
    return frame(
        {
            "data": data,
            "attack": radius(row["eps_test"]),
            "test images": row["count"],
            "conflicts": row["pairs"],
            "images with a conflict": row["part"],
            "least error of any classifier": f"{100 * float(str(row['value'])):.2f} %",
        }
        for data, each in least.items()
        for row in each
    )


def _models(table: "DataFrame") -> str:
    return ", ".join(
        f"{row.model} on {row.data} trained at {row.eps_train:g} ({_estimate(row).text(POINTS)})"
        for row in table.itertuples()
    )


def _estimate(row: Any) -> Estimate:
    return Estimate(row.value, row.low, row.high, int(row.count))


def radius(eps: Any) -> str:
    """The name of a radius of the attack."""
    return f"radius {PLAIN.tick(eps)}" if eps else "no attack"
