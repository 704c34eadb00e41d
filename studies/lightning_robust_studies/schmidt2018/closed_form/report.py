"""The page of the theory study."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from lightning_robust._versions import versions
from lightning_robust.plots import PERCENT, PLAIN, Facts, Heading, Page, Part, Table
from lightning_robust_studies.claims import claim_parts
from lightning_robust_studies.pictures import saved
from lightning_robust_studies.schmidt2018.closed_form.claims import claims
from lightning_robust_studies.schmidt2018.closed_form.figures import FIGURES
from lightning_robust_studies.schmidt2018.closed_form.rows import estimates
from lightning_robust_studies.schmidt2018.closed_form.settings import TheorySettings
from lightning_robust_studies.schmidt2018.closed_form.statements import notes, points_of, statement_table

_GAUSSIAN = (
    "Gaussian model: y is +1 or -1, x is y theta plus normal noise of standard deviation sigma = c d^(1/4) in every "
    "coordinate; flat theta: all ones, and else theta ~ N(0, I). An attack moves every coordinate by at most eps. The "
    "lower bounds are on the mean over theta ~ N(0, I): for one known theta a learner may lie below them. Errors are "
    "exact given the weights; no test point is drawn. The mean of n samples is one draw of d normals, so that n need "
    "not be whole, but for the learners."
)
_BERNOULLI = (
    "Bernoulli model: x has entries +1 and -1, each equal to y theta_i with probability 1/2 + tau, tau = c d^(-1/4). "
    "Weights are sums of n samples; their error is exact. The threshold rounds every coordinate to +1 or -1 before the "
    "weights; its gradient is zero, so attacks that follow gradients would see nothing, and its error is computed, not "
    "attacked."
)
_INTERVALS = (
    "Brackets and bands: 95 % intervals by Student's t over {repeats} sweeps (question 1, each with 8 to 256 training "
    "sets for a dimension) or {draws} training sets (all others; 16 at most over the radius of the Bernoulli model). "
    "Curves without a band are closed forms or bounds. Learners are compared on the same draws of theta and samples."
)
_WHY_HALF = (
    "Why the exponent is read off at 50 %: with sigma = c d^(1/4) the mean estimator needs n samples with sqrt(n) = "
    "eps c sqrt(2 / pi) d^(1/4) + q c^2 to leading order (affine law), q = Phi^-1(1 - target). At a target of {target} "
    "the second term does not grow but still rules at any d that can be run, and the slope of log n over log d is far "
    "from 1/2; at 50 % q is 0 and the exponent is 1/2 at every d. In closed form the exponent at {target} rises to 1/2 "
    "as well, later:"
)
_REFERENCES = (
    "Schmidt, Santurkar, Tsipras, Talwar, Madry, Adversarially Robust Generalization Requires More Data, NeurIPS 2018. "
    "Carmon, Raghunathan, Schmidt, Liang, Duchi, Unlabeled Data Improves Adversarial Robustness, NeurIPS 2019."
)


def write_report(rows: pd.DataFrame, out: Path, o: TheorySettings, seconds: float) -> Path:
    """Write `report.html` and each figure as a PNG.

    Args:
        rows: of `run_theory`.
        out: the folder.
        o: the settings they were computed with.
        seconds: the time that they took.

    Returns:
        the page.
    """
    shown = saved({name: draw(rows, o) for name, draw in FIGURES.items()}, out)
    target = PERCENT.tick(o.target)
    parts: list[Part] = [
        Heading("The claims"),
        *claim_parts(claims(rows, o)),
        Heading("1. The gap between standard and robust learning"),
        shown["gap"],
        Table(slope_table(rows, o), caption="Exponent of d", unit=PLAIN, digits=3),
        _WHY_HALF.format(target=target),
        Table(far_slope_table(rows), caption=f"Exponent at {target} between d and 4 d, closed form"),
        Table(need_table(rows, o), caption=f"Samples at eps = {max(o.radii):g}", unit=PLAIN, digits=3),
        Heading("2. The error over the number of samples, and what is proved"),
        shown["error"],
        Heading("3. Learners"),
        shown["learners"],
        Heading("4. The Bernoulli model: a threshold removes the gap"),
        shown["bernoulli_samples"],
        shown["bernoulli_radius"],
        Table(bernoulli_table(rows, o), caption="One sample, expected errors; and samples that are needed"),
        "The numbers of samples are closed forms for many samples: below about 10 they are rough.",
        Heading("5. Unlabeled data"),
        shown["self_training"],
        Heading("6. The statements at work"),
        *(f"{name.capitalize()}: {point}." for name, point in points_of(o).items()),
        Table(statement_table(o), caption="What each statement says, or why it refuses"),
        "Names and pages are those of arXiv 1804.11285v2. A proof assistant has checked some proofs elsewhere. Notes:",
        *notes(),
        Heading("What the numbers are"),
        _GAUSSIAN,
        _BERNOULLI,
        _INTERVALS.format(repeats=o.repeats, draws=o.draws),
        Heading("How it was made"),
        Facts({**{name: value for name, value in vars(o).items() if name != "out"}, "seconds": f"{seconds:.1f}"}),
        Facts(versions(), caption="Versions"),
        _REFERENCES,
    ]
    return Page("How many samples robustness takes: two models in closed form", _summary(rows, o), parts).write(
        out / "report.html"
    )


def _summary(rows: pd.DataFrame, o: TheorySettings) -> str:
    table, target = need_table(rows, o), PERCENT.tick(o.target)
    standard, robust = (
        [each.value for each in table[name].iloc[[0, -1]]] for name in (f"standard, {target}", "robust, 50 %")
    )
    return (
        f"From {o.dimensions[0]:,} to {o.dimensions[-1]:,} dimensions, the number of samples for a standard error of "
        f"{target} goes from {standard[0]:.2g} to {standard[1]:.2g}, and that for a robust error of 50 % at eps = "
        f"{max(o.radii):g} from {robust[0]:.2g} to {robust[1]:.2g}: like the square root of the dimension."
    )


# ---- tables


def _wide(rows: pd.DataFrame, index: str, names: Mapping[str, str]) -> pd.DataFrame:
    """A line for each `index` and a column for each curve in `names`, under its label; drawn means have intervals."""
    shown = [each if draws else each.value for each, draws in zip(estimates(rows), rows["draws"], strict=True)]
    table = rows.assign(shown=pd.Series(shown, index=rows.index, dtype=object))
    return table.pivot(index=index, columns="curve", values="shown")[list(names)].rename(columns=names).reset_index()


def slope_table(rows: pd.DataFrame, o: TheorySettings) -> pd.DataFrame:
    """The fitted exponents, a line for each radius."""
    target = PERCENT.tick(o.target)
    names = {
        "n_standard": f"standard, {target}",
        "n_half": "robust, 50 %",
        "n_robust": f"robust, {target}",
        "n_half_large_d": "50 %, large d",
        "n_robust_large_d": f"{target}, large d",
        "affine_law": f"{target}, affine law",
        "corollary_23": "Corollary 23",
    }
    return _wide(rows.query("question == 'gap' and metric == 'slope'"), "eps", names)


def far_slope_table(rows: pd.DataFrame) -> pd.DataFrame:
    """The closed-form exponents between d and 4 d, a line for each d."""
    slopes = rows.query("metric == 'slope from d to 4 d' and curve == 'n_robust_large_d'")
    slopes = slopes.assign(eps=[f"eps = {eps:g}" for eps in slopes["eps"]])
    table = slopes.pivot(index="d", columns="eps", values="value")[slopes["eps"].unique()].reset_index()
    return table.assign(d=[f"2^{int(d).bit_length() - 1}" for d in table["d"]])


def need_table(rows: pd.DataFrame, o: TheorySettings) -> pd.DataFrame:
    """Samples over dimensions at the largest radius."""
    target = PERCENT.tick(o.target)
    names = {
        "n_standard": f"standard, {target}",
        "n_half": "robust, 50 %",
        "n_robust": f"robust, {target}",
        "n_half_large_d": "50 %, large d",
        "corollary_23": "Corollary 23",
    }
    return _wide(rows.query(f"question == 'gap' and metric == 'samples' and eps == {max(o.radii)}"), "d", names)


def bernoulli_table(rows: pd.DataFrame, o: TheorySettings) -> pd.DataFrame:
    """Errors from one sample over dimensions, and the samples that linear classifiers need."""
    dimension = rows.query("question == 'bernoulli dimension'")
    wide = dimension.pivot(index=["d", "noise", "eps"], columns="curve", values="value").reset_index()
    return pd.DataFrame(
        {
            "d": wide["d"],
            "tau": wide["noise"],
            "eps": wide["eps"],
            "threshold, attacked (%)": 100 * wide["threshold, attacked"],
            "linear, attacked (%)": 100 * wide["linear, attacked"],
            "linear needs for 50 %": wide["n_half_large_d"],
            f"linear needs for {PERCENT.tick(o.target)}": wide["n_robust_large_d"],
        }
    )
