"""The figures of the theory study: for each a function from its rows and settings to the figure and its caption."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from lightning_robust.plots import PERCENT, PLAIN, curve_panel
from lightning_robust_studies.schmidt2018.closed_form.claims import plural
from lightning_robust_studies.schmidt2018.closed_form.rows import BERNOULLI, carmon_needs
from lightning_robust_studies.schmidt2018.closed_form.settings import TheorySettings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LEAST_SHOWN = 1e-8
_FRACTIONS: dict[str, Any] = {"xscale": "log", "yscale": "log", "ylim": (_LEAST_SHOWN, 1.5), "unit": PLAIN}
"""Options of a figure of small errors."""


def _curves(
    rows: pd.DataFrame, query: str, x: str, names: Mapping[str, str], dashed: Mapping[str, str], **options: Any
) -> "Figure":
    """A figure of the rows that `query` selects.

    Args:
        rows: of `run_theory`.
        query: selects rows.
        x: the column of positions.
        names: the curves to draw, and how each is called.
        dashed: closed forms and bounds, and for each the curve whose color it takes, which may be itself.
        options: of `curve_panel`.
    """
    shown = rows.query(query)
    shown = shown[shown["curve"].isin(list(names))].assign(line=lambda each: each["curve"].map(names))
    there = set(shown["curve"])
    dashes = {names[curve]: names[like] for curve, like in dashed.items() if curve in there}
    return curve_panel(shown, x, "value", low="low", high="high", group="line", dashed=dashes, **options)


def _gap(rows: pd.DataFrame, o: TheorySettings) -> tuple["Figure", str]:
    target = PERCENT.tick(o.target)
    needs = {"n_standard": f"standard, {target}", "n_half": "robust, 50 %", "n_robust": f"robust, {target}"}
    figure = _curves(
        rows.assign(radius=rows["eps"].map("eps = {:g}".format)),
        "question == 'gap' and metric == 'samples'",
        "d",
        {
            **needs,
            "corollary_23": "any learner, lower bound (Corollary 23)",
            **{f"{curve}_large_d": f"{name}, large d" for curve, name in needs.items()},
        },
        {"corollary_23": "corollary_23", **{f"{curve}_large_d": curve for curve in needs}},
        panel="radius",
        xscale="log",
        yscale="log",
        xticks=o.dimensions[:: max(1, len(o.dimensions) // 4)],
        unit=PLAIN,
        xlabel="dimension d",
        ylabel="samples n",
    )
    return figure, (
        f"Samples that the mean estimator needs at sigma = {o.sigma_scale:g} d^(1/4): for a standard error of {target} "
        "as many in every dimension; for a robust error of 50 % in proportion to sqrt(d). Below the lower bound no "
        f"learner does better than (1 - 1/d) / 2. Mean of {o.repeats} sweeps."
    )


def _error(rows: pd.DataFrame, o: TheorySettings) -> tuple["Figure", str]:
    figure = _curves(
        rows,
        "question == 'error'",
        "n",
        {
            "mean, no attack": "mean, no attack",
            "mean, attacked": "mean, attacked",
            "bayes": "Bayes-optimal, attacked",
            "mean, attacked, large d": "mean, attacked, large d",
            "theorem_21": "mean, upper bound (Theorem 21)",
            "theorem_11": "any learner, lower bound (Theorem 11)",
        },
        {
            "mean, attacked, large d": "mean, attacked",
            "theorem_21": "theorem_21",
            "theorem_11": "theorem_11",
        },
        panel="model",
        xscale="log",
        xticks=(0.1, 1, 10, 100),
        xlabel="samples n",
        ylabel="error",
    )
    return figure, (
        f"Error over the number of samples, d = {o.d:,}, sigma = {o.sigma_scale * o.d**0.25:.3g}, eps = {o.eps:g}. "
        "Left: theta is all ones. Right: theta is drawn, and no learner is below the Bayes-optimal curve. Means over "
        f"{o.draws} training sets."
    )


def _learners(rows: pd.DataFrame, o: TheorySettings) -> tuple["Figure", str]:
    query = "question == 'learners' and metric == 'error' and curve != 'theorem_11'"
    names = {curve: curve for curve in rows.query(query)["curve"].unique()} | {"bayes": "least for any learner"}
    labels = {"xlabel": "samples n", "ylabel": "robust error, as a fraction"}
    figure = _curves(rows, query, "n", names, {"bayes": "bayes"}, **_FRACTIONS, **labels)
    return figure, (
        f"Robust error of learners, theta ~ N(0, I), d = {o.d:,}, sigma = {o.sigma_scale * o.d**0.25:.3g}, eps = "
        f"{o.eps:g}. The thresholds cut at eps; the Bayes learner first shrinks the mean, and then cuts at eps. "
        f"Logistic learners have a penalty of 0.01. Errors below {_LEAST_SHOWN:g} are not shown."
    )


def _bernoulli_samples(rows: pd.DataFrame, o: TheorySettings) -> tuple["Figure", str]:
    figure = _curves(
        rows,
        "question == 'bernoulli samples'",
        "n",
        {
            "linear, no attack": "linear, no attack",
            "linear, attacked": "linear, attacked",
            "threshold, attacked": "behind the threshold, attacked",
            "linear, attacked, large d": "linear, attacked, many samples",
            "linear, theta known, attacked": "linear, theta known, attacked",
        },
        {
            "linear, no attack": "linear, no attack",
            "linear, attacked, large d": "linear, attacked",
            "linear, theta known, attacked": "linear, theta known, attacked",
        },
        **_FRACTIONS,
        xlabel="samples n",
        ylabel="error, as a fraction",
    )
    tau = o.tau_scale * o.d**-0.25
    return figure, (
        f"{BERNOULLI} model, d = {o.d:,}, tau = {tau:.3g}, eps = {o.tau_ratio * tau:.3g}: the same weights as a linear "
        "classifier and behind the threshold, where the error under attack is that of the linear classifier without "
        f"attack. Means over {o.draws} training sets; errors below {_LEAST_SHOWN:g} are not shown."
    )


def _bernoulli_radius(rows: pd.DataFrame, o: TheorySettings) -> tuple["Figure", str]:
    tau = o.tau_scale * o.d**-0.25
    figure = _curves(
        rows,
        "question == 'bernoulli radius'",
        "eps",
        {
            "linear, attacked": f"linear, n = {max(o.samples)}",
            "threshold, attacked": "behind the threshold, n = 1",
            "linear, theta known, attacked": "linear, theta known",
            "linear, floor": "no linear classifier is below this",
        },
        {"linear, floor": "linear, floor"},
        marks={"2 tau": 2 * tau},
        xlabel="radius eps",
        ylabel="robust error",
    )
    return figure, (
        f"{BERNOULLI} model, d = {o.d:,}, tau = {tau:.3g}. From eps = 2 tau on no linear classifier is robust, even "
        "with theta known. The threshold stands every attack below eps = 1; from there on every coordinate can be "
        "flipped."
    )


def _self_training(rows: pd.DataFrame, o: TheorySettings) -> tuple["Figure", str]:
    need, enough = carmon_needs(o)
    figure = _curves(
        rows,
        "question == 'self-training'",
        "unlabeled",
        {
            "labels only": f"{plural(o.labels)} only, attacked",
            "self-trained": "self-trained, attacked",
            "self-trained, no attack": "self-trained, no attack",
            "all labeled": "if all had labels, attacked",
            "self-trained, large d": "self-trained, attacked, large d",
        },
        {"self-trained, large d": "self-trained"},
        xscale="log",
        xticks=[4**k for k in range(8) if 4**k <= 2 * enough] or [1],
        marks={f"Proposition 1: {need:,.3g} labels": need, f"Theorem 2: {enough:,} unlabeled": enough},
        xlabel="unlabeled points",
        ylabel="error",
    )
    return figure, (
        f"Self-training with {plural(o.labels)}, d = {o.self_training_d:,}, sigma = (d n0)^(1/4), eps = "
        f"{o.self_training_eps:g}. The marks are the labels (Proposition 1) or unlabeled points (Theorem 2) that "
        f"Carmon et al. prove to suffice for a robust error of 0.001 at large d. Means over {o.draws} training sets."
    )


FIGURES = {
    "gap": _gap,
    "error": _error,
    "learners": _learners,
    "bernoulli_samples": _bernoulli_samples,
    "bernoulli_radius": _bernoulli_radius,
    "self_training": _self_training,
}
"""By the name of the file, in the order of the page."""
