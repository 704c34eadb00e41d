"""The figures of the study of sample complexity."""

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from lightning_robust.learning_curves import LearningCurves, means
from lightning_robust.plots import curve_panel
from lightning_robust_studies.schmidt2018.experiments.tables import Curves, RowsOf, frame, laws, radius

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

Figures = dict[str, tuple["Figure", str]]

_LEAST_ERROR = 1e-4  # what is drawn of an error of 0 on a logarithmic axis
_NETWORKS = (
    "{}: each network alone, best over radius and checkpoint. Networks with threshold filters are attacked through "
    "them too; what that leaves out is in the table of attacks."
)
_LIMITS = (
    " Dashed: what no classifier can exceed on a sample of the test images, at the largest radius, since images of "
    "different classes are closer than two radii."
)
_GAP = (
    "{}: robust accuracy over the training of the network {} at radius {:g}, first seed. The distance of the lines is "
    "the robust generalization gap."
)


def figures_of(curves: Curves, least: RowsOf = MappingProxyType({})) -> Figures:
    """Figures and captions, by the name of the file.

    Args:
        curves: the learning curves by data set.
        least: the least errors of any classifier by data set.
    """
    from pandas import concat

    trusted = {data: each.trusted() for data, each in curves.items()}
    points = concat(means(each.best(), ["n", "eps_test"]).assign(data=data) for data, each in trusted.items())
    points["attack"] = points["eps_test"].map(radius)
    text = "Test accuracy over the number of training images, a line for each radius of the attack."
    limits, dashed = _limits(points, least)
    text += _LIMITS * bool(dashed)
    figures: Figures = {"accuracy": (_accuracies(limits, group="attack", panel="data", dashed=dashed), text)}
    law = _law_figure(trusted)
    if law is not None:
        figures["power_law"] = (law, "Test error with fitted power laws (dashed) and their 95 % bands.")
    for data, each in curves.items():
        radii = sorted({row["eps_train"] for row in trusted[data].rows})  # type: ignore[type-var]
        if len(radii) > 1:
            alone = {f"trained at {eps:g}": trusted[data].best(eps_train=eps) for eps in radii}
            text = f"{data}: each radius of training alone; best over network and checkpoint."
            figures[f"radii_{data}"] = (_parts(alone, "trained", group="attack", panel="trained"), text)
        models = dict.fromkeys(str(row["model"]) for row in each.rows)
        if len(models) > 1:
            networks = {model: each.best(model=model) for model in models}
            picture = _parts(networks, "network", group="network", panel="attack")
            figures[f"networks_{data}"] = (picture, _NETWORKS.format(data))
        if each.gaps:
            figures[f"gap_{data}"] = _gap_figure(data, each)
    return figures


def _parts(tables: "dict[str, DataFrame]", name: str, *, group: str, panel: str) -> "Figure":
    """A figure of several tables of the best, which a column tells apart."""
    from pandas import concat

    points = concat(means(table, ["n", "eps_test"]).assign(**{name: key}) for key, table in tables.items())
    return _accuracies(points.assign(attack=points["eps_test"].map(radius)), group=group, panel=panel)


def _limits(points: "DataFrame", least: RowsOf) -> tuple["DataFrame", dict[str, str]]:
    """The points and, at the largest radius of each data set, what no classifier can beat: a dashed line."""
    from pandas import concat

    lines, dashed = [points], {}
    for data, rows in least.items():
        shown = points[points["data"] == data]
        eps = shown["eps_test"].max()
        (row,) = [row for row in rows if row["eps_test"] == eps]
        value, name = 1 - float(str(row["value"])), f"{radius(eps)}, no classifier above on {row['count']} images"
        dashed[name] = radius(eps)
        line = shown[shown["eps_test"] == eps].assign(attack=name, value=value, low=value, high=value)
        lines.append(line)
    return concat(lines), dashed


def _accuracies(points: "DataFrame", *, group: str, panel: str, **look: Any) -> "Figure":
    labels: dict[str, Any] = {"xlabel": "training images", "ylabel": "test accuracy", **look}
    return curve_panel(points, "n", "value", low="low", high="high", group=group, panel=panel, xscale="log", **labels)


def _gap_figure(data: str, curves: LearningCurves) -> tuple["Figure", str]:
    """Robust accuracy over the steps of training, of one network at the largest radius, smallest and largest size."""
    gaps = frame(curves.gaps)
    eps, model = gaps["eps_train"].max(), gaps["model"].iloc[0]
    shown = gaps[(gaps["eps_train"] == eps) & (gaps["model"] == model) & (gaps["seed"] == 0)]
    shown = shown[shown["n"].isin([gaps["n"].min(), gaps["n"].max()])].sort_values("n", kind="stable")
    part = shown["split"].map({"train": "training images", "val": "validation images"})
    shown = shown.assign(part=part, size=shown["n"].astype(str) + " training images")
    labels: dict[str, Any] = {"xlabel": "step", "ylabel": "robust accuracy"}
    return curve_panel(shown, "step", "value", group="part", panel="size", **labels), _GAP.format(data, model, eps)


def _law_figure(curves: Curves) -> "Figure | None":
    rows: list[dict[str, Any]] = []
    dashed: dict[str, str] = {}
    for data, each in curves.items():
        for eps, fit in laws(each).items():
            name, measured = radius(eps), each.curves(eps)
            sizes = measured.n
            dashed[f"{name}, fit"] = name
            for n in sizes:
                errors = [1 - accuracy for accuracy, *_ in measured.at(n).values()]
                mean = max(sum(errors) / len(errors), _LEAST_ERROR)
                rows.append({"data": data, "curve": name, "n": n, "error": mean, "low": mean, "high": mean})
            for i in range(21):
                n = sizes[0] * (sizes[-1] / sizes[0]) ** (i / 20)
                law = fit.error(n)
                ends = {"error": law.value, "low": law.low, "high": min(law.high, 1.0)}
                ends = {name: max(end, _LEAST_ERROR) for name, end in ends.items()}
                rows.append({"data": data, "curve": f"{name}, fit", "n": n, **ends})
    if not rows:
        return None
    return curve_panel(
        rows,
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
