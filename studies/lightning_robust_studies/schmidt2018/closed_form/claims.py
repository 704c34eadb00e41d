"""The claims of Schmidt et al. (2018) and Carmon et al. (2019) on the two models, against the theory study's rows."""

import math
from operator import ge, le
from typing import Any

import pandas as pd

from lightning_robust.plots import PERCENT, PLAIN
from lightning_robust_studies.claims import Claim, Verdict, all_of, judged
from lightning_robust_studies.schmidt2018.closed_form.rows import FLAT, carmon_needs, estimates
from lightning_robust_studies.schmidt2018.closed_form.settings import TheorySettings

FLAT_SLOPE = 0.05
"""Claim 1 holds if the exponent of d in the standard need is at most this."""
HALF_SLOPE = 0.02
"""Claim 1 holds if the exponent of d in the robust need differs from 1/2 by at most this."""
STANDARD_ERRORS = 3.0
"""Claim 2 holds if no learner is more standard errors than this below the Bayes-optimal curve."""
CARMON_ERROR = 1e-3
"""The robust error of Proposition 1 and Theorem 2 of Carmon et al."""


def small(value: float) -> str:
    """An error in percent with two significant digits, however small.

    Example:
        >>> small(0.123), small(0.0000123), small(1.0)
        ('12 %', '0.0012 %', '100 %')
    """
    digits = 1 if value <= 0 else max(0, 1 - math.floor(math.log10(100 * value)))
    return f"{100 * value:.{min(digits, 12)}f} %"


def plural(n: int) -> str:
    """A number of labels in words.

    Example:
        >>> plural(1), plural(2)
        ('1 label', '2 labels')
    """
    return f"{n:,} label{'' if n == 1 else 's'}"


def claims(rows: pd.DataFrame, o: TheorySettings) -> list[Claim]:
    """The claims, each with its numbers and the criterion it is held to, from the rows of `run_theory`."""
    return [_gap(rows, o), _lower_bounds(rows, o), _upper_bound(rows, o), _threshold(rows, o), _unlabeled(rows, o)]


def _gap(rows: pd.DataFrame, o: TheorySettings) -> Claim:
    slopes = rows.query("question == 'gap' and metric == 'slope'")
    standard = estimates(slopes.query("curve == 'n_standard'"))[0]
    robust = slopes.query("curve == 'n_half'")
    half = estimates(robust)
    listed = ", ".join(f"{each.text(PLAIN)} at eps = {eps:g}" for eps, each in zip(robust["eps"], half, strict=True))
    return Claim(
        "1. The number of samples for a standard error does not grow with the dimension, that for a robust error grows "
        "like its square root.",
        all_of(
            (
                judged(standard, le, FLAT_SLOPE),
                *(judged(each, ge, 0.5 - HALF_SLOPE) for each in half),
                *(judged(each, le, 0.5 + HALF_SLOPE) for each in half),
            )
        ),
        f"Mean estimator at sigma = {o.sigma_scale:g} d^(1/4), exponent of d over d = {o.dimensions[0]:,} to "
        f"{o.dimensions[-1]:,}: {standard.text(PLAIN)} for a standard error of {PERCENT.tick(o.target)}; for a robust "
        f"error of 50 % {listed}. Criterion: at most {FLAT_SLOPE:g}, and within {HALF_SLOPE:g} of 1/2.",
    )


def _lower_bounds(rows: pd.DataFrame, o: TheorySettings) -> Claim:
    from scipy.stats import t

    excess = rows.query("question == 'learners' and metric == 'excess over bayes'")
    errors = (excess["high"] - excess["low"]) / (2 * float(t.ppf(0.975, o.draws - 1)))
    units = (excess["value"] / errors).where(errors > 0, 0.0)
    furthest, least = excess.loc[units.idxmin()], float(units.min())
    bayes = rows.query("question == 'error' and curve == 'bayes'").set_index("n")
    bounds = rows.query("question == 'error' and curve == 'theorem_11'").set_index("n")["value"]
    above = all_of(
        judged(each, ge, (1 - 1e-9) * bound)
        for each, bound in zip(estimates(bayes), bounds.reindex(bayes.index), strict=True)
    )
    return Claim(
        "2. No learner does better than the lower bounds.",
        all_of((above, Verdict.HOLDS if least >= -STANDARD_ERRORS else Verdict.FAILS)),
        f"theta ~ N(0, I), d = {o.d:,}, eps = {o.eps:g}: of {excess['curve'].nunique()} learners at n = "
        f"{', '.join(map(str, o.samples))}, the one furthest below the Bayes-optimal error of its samples "
        f"({furthest['curve']}, n = {furthest['n']:g}) is {least:+.1f} standard errors from it. That the Bayes-optimal "
        f"curve lies above Theorem 11 at all {len(bounds)} numbers of samples: {above.value}. Criterion: at most "
        f"{STANDARD_ERRORS:g} standard errors below, as a learner that reaches the bound may be by chance, and above.",
    )


def _upper_bound(rows: pd.DataFrame, o: TheorySettings) -> Claim:
    title = "3. What is proved to suffice suffices."
    bounds = rows.query("question == 'error' and curve == 'theorem_21'").set_index("n")["value"]
    mean = rows.query(f"question == 'error' and model == '{FLAT}' and curve == 'mean, attacked'").set_index("n")
    proved, needed = bounds[bounds <= o.target].index.min(), mean.index[mean["value"] <= o.target].min()
    if math.isnan(proved) or math.isnan(needed):
        return Claim(title, Verdict.UNKNOWN, f"Theorem 21 guarantees no {PERCENT.tick(o.target)} at these settings.")
    bounded = zip(estimates(mean.loc[bounds.index]), bounds, strict=True)
    return Claim(
        title,
        all_of(judged(each, le, bound) for each, bound in bounded),
        f"d = {o.d:,}, eps = {o.eps:g}, flat theta: Theorem 21 guarantees an expected robust error of "
        f"{PERCENT.tick(o.target)} from n = {proved:.3g} on; the mean estimator has it from n = {needed:.3g} on (n by "
        f"factors of 2^(1/4)). Criterion: the error is below the bound at all {len(bounds)} numbers of samples where "
        "there is one.",
    )


def _threshold(rows: pd.DataFrame, o: TheorySettings) -> Claim:
    errors = rows.query("question == 'bernoulli dimension' and metric == 'error'")
    errors = errors.pivot(index="d", columns="curve", values="value")
    behind, linear = errors["threshold, attacked"], errors["linear, attacked"]
    return Claim(
        "4. Behind a threshold the gap is gone (Bernoulli model).",
        Verdict.HOLDS if behind.max() <= o.target < linear.min() else Verdict.FAILS,
        f"tau = {o.tau_scale:g} d^(-1/4), eps = {o.tau_ratio:g} tau, expected error from one sample, exact: behind the "
        f"threshold {small(behind.min())} to {small(behind.max())} over d = {o.dimensions[0]:,} to "
        f"{o.dimensions[-1]:,}; of the linear classifier with the same weights {small(linear.iloc[0])} to "
        f"{small(linear.iloc[-1])}. Criterion: at most {PERCENT.tick(o.target)} behind the threshold and more without "
        "it, at every d.",
    )


def _unlabeled(rows: pd.DataFrame, o: TheorySettings) -> Claim:
    _, enough = carmon_needs(o)
    errors = rows.query("question == 'self-training'")
    at = errors[errors["unlabeled"] == enough]
    trained, only = (at[at["curve"] == name] for name in ("self-trained", "labels only"))
    labeled = errors.query("curve == 'labels of proposition 1'")
    return Claim(
        "5. Unlabeled data stand in for labels (Carmon et al. 2019).",
        judged(estimates(trained)[0], le, CARMON_ERROR),
        f"d = {o.self_training_d:,}, sigma = {trained['noise'].iloc[0]:g}, eps = {o.self_training_eps:g}: the robust "
        f"error is {estimates(only)[0].text()} with {plural(o.labels)} alone, and {_fraction(trained.iloc[0])} with "
        f"the {enough:,} unlabeled points of Theorem 2 besides. Criterion: at most {CARMON_ERROR:g}. With the "
        f"{labeled['n'].iloc[0]:.3g} labels of Proposition 1 it is {_fraction(labeled.iloc[0])}: both statements hold "
        "from a size on that the paper does not give.",
    )


def _fraction(row: Any) -> str:
    return f"{row['value']:.2g} [{row['low']:.2g}, {row['high']:.2g}]"
