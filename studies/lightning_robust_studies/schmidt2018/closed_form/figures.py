"""The figures of the theory study: for each a function from its rows and settings to the figure and its caption."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from lightning_robust.plots import PERCENT, PLAIN, curve_panel
from lightning_robust_studies.schmidt2018.closed_form.claims import plural
from lightning_robust_studies.schmidt2018.closed_form.rows import BERNOULLI, carmon_needs
from lightning_robust_studies.schmidt2018.closed_form.settings import TheorySettings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LEAST_SHOWN = 1e-8
_LEARNERS = (
    "Robust error of learners, theta ~ N(0, I), d = {d:,}, sigma = {sigma:.3g}, eps = {eps:g}. The thresholds cut at "
    "eps; the Bayes learner first shrinks the mean, and then cuts at eps. Logistic learners have a penalty of 0.01. "
    "Errors below {least:g} are not shown."
)


def _lines(rows: pd.DataFrame, names: Mapping[str, str]) -> pd.DataFrame:
    """The rows of the curves in `names`, with their names in the column line."""
    return rows[rows["curve"].isin(list(names))].assign(line=lambda shown: shown["curve"].map(names))


def _dashes(rows: pd.DataFrame, dashes: Mapping[str, str]) -> dict[str, str]:
    """Of the dashed lines those that are there."""
    return {name: like for name, like in dashes.items() if name in set(rows["line"])}


def _gap(rows: pd.DataFrame, o: TheorySettings) -> tuple["Figure", str]:
    target = PERCENT.tick(o.target)
    names = {
        "n_standard": f"standard, {target}",
        "n_half": "robust, 50 %",
        "n_robust": f"robust, {target}",
        "corollary_23": "any learner, lower bound (Corollary 23)",
        "n_standard_large_d": f"standard, {target}, large d",
        "n_half_large_d": "robust, 50 %, large d",
        "n_robust_large_d": f"robust, {target}, large d",
    }
    shown = _lines(rows.query("question == 'gap' and metric == 'samples'"), names)
    shown = shown.assign(radius=[f"eps = {eps:g}" for eps in shown["eps"]])
    dashed = {names[f"{name}_large_d"]: names[name] for name in ("n_standard", "n_half", "n_robust")}
    bound = names["corollary_23"]
    figure = curve_panel(
        shown,
        "d",
        "value",
        low="low",
        high="high",
        group="line",
        panel="radius",
        xscale="log",
        yscale="log",
        xticks=o.dimensions[:: max(1, len(o.dimensions) // 4)],
        dashed={**dashed, bound: bound},
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
    names = {
        "mean, no attack": "mean, no attack",
        "mean, attacked": "mean, attacked",
        "bayes": "Bayes-optimal, attacked",
        "mean, attacked, large d": "mean, attacked, large d",
        "theorem_21": "mean, upper bound (Theorem 21)",
        "theorem_11": "any learner, lower bound (Theorem 11)",
    }
    shown = _lines(rows.query("question == 'error'"), names)
    dashed = {
        names["mean, attacked, large d"]: names["mean, attacked"],
        names["theorem_21"]: names["theorem_21"],
        names["theorem_11"]: names["theorem_11"],
    }
    figure = curve_panel(
        shown,
        "n",
        "value",
        low="low",
        high="high",
        group="line",
        panel="model",
        xscale="log",
        xticks=(0.1, 1, 10, 100),
        dashed=_dashes(shown, dashed),
        xlabel="samples n",
        ylabel="error",
    )
    return figure, (
        f"Error over the number of samples, d = {o.d:,}, sigma = {o.sigma_scale * o.d**0.25:.3g}, eps = {o.eps:g}. "
        "Left: theta is all ones. Right: theta is drawn, and no learner is below the Bayes-optimal curve. Means over "
        f"{o.draws} training sets."
    )


def _learners(rows: pd.DataFrame, o: TheorySettings) -> tuple["Figure", str]:
    errors = rows.query("question == 'learners' and metric == 'error'")
    names = {curve: curve for curve in errors["curve"].unique() if curve != "theorem_11"}
    names["bayes"] = bound = "least for any learner"
    shown = _lines(errors, names)
    figure = curve_panel(
        shown,
        "n",
        "value",
        low="low",
        high="high",
        group="line",
        xscale="log",
        yscale="log",
        ylim=(_LEAST_SHOWN, 1.5),
        dashed=_dashes(shown, {bound: bound}),
        unit=PLAIN,
        xlabel="samples n",
        ylabel="robust error, as a fraction",
    )
    caption = _LEARNERS.format(d=o.d, sigma=o.sigma_scale * o.d**0.25, eps=o.eps, least=_LEAST_SHOWN)
    return figure, caption


def _bernoulli_samples(rows: pd.DataFrame, o: TheorySettings) -> tuple["Figure", str]:
    names = {
        "linear, no attack": "linear, no attack",
        "linear, attacked": "linear, attacked",
        "threshold, attacked": "behind the threshold, attacked",
        "linear, attacked, large d": "linear, attacked, many samples",
        "linear, theta known, attacked": "linear, theta known, attacked",
    }
    shown = _lines(rows.query("question == 'bernoulli samples'"), names)
    dashed = {
        names["linear, no attack"]: names["linear, no attack"],
        names["linear, attacked, large d"]: names["linear, attacked"],
        names["linear, theta known, attacked"]: names["linear, theta known, attacked"],
    }
    figure = curve_panel(
        shown,
        "n",
        "value",
        low="low",
        high="high",
        group="line",
        xscale="log",
        yscale="log",
        ylim=(_LEAST_SHOWN, 1.5),
        dashed=_dashes(shown, dashed),
        unit=PLAIN,
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
    n, tau = max(o.samples), o.tau_scale * o.d**-0.25
    names = {
        "linear, attacked": f"linear, n = {n}",
        "threshold, attacked": "behind the threshold, n = 1",
        "linear, theta known, attacked": "linear, theta known",
        "linear, floor": "no linear classifier is below this",
    }
    shown = _lines(rows.query("question == 'bernoulli radius'"), names)
    figure = curve_panel(
        shown,
        "eps",
        "value",
        low="low",
        high="high",
        group="line",
        dashed=_dashes(shown, {names["linear, floor"]: names["linear, floor"]}),
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
    n, eps = o.labels, o.self_training_eps
    names = {
        "labels only": f"{plural(n)} only, attacked",
        "self-trained": "self-trained, attacked",
        "self-trained, no attack": "self-trained, no attack",
        "all labeled": "if all had labels, attacked",
        "self-trained, large d": "self-trained, attacked, large d",
    }
    shown = _lines(rows.query("question == 'self-training'"), names)
    need, enough = carmon_needs(o)
    figure = curve_panel(
        shown,
        "unlabeled",
        "value",
        low="low",
        high="high",
        group="line",
        xscale="log",
        xticks=[4**k for k in range(8) if 4**k <= 2 * enough] or [1],
        dashed={names["self-trained, large d"]: names["self-trained"]},
        marks={f"Proposition 1: {need:,.3g} labels": need, f"Theorem 2: {enough:,} unlabeled": enough},
        xlabel="unlabeled points",
        ylabel="error",
    )
    return figure, (
        f"Self-training with {plural(n)}, d = {o.self_training_d:,}, sigma = (d n0)^(1/4), eps = {eps:g}. The marks "
        "are the labels (Proposition 1) or unlabeled points (Theorem 2) that Carmon et al. prove to suffice for a "
        f"robust error of 0.001 at large d. Means over {o.draws} training sets."
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
