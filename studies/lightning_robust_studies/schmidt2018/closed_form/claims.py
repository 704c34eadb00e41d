"""The claims of Schmidt et al. (2018) and Carmon et al. (2019) on the two models, against the theory study's rows."""

import math
from collections.abc import Mapping, Sequence
from operator import ge, le
from typing import Any

from lightning_robust.cells import Row
from lightning_robust.plots import PERCENT, PLAIN, Estimate
from lightning_robust_studies.claims import Claim, Verdict, all_of, judged
from lightning_robust_studies.schmidt2018.closed_form.rows import FLAT
from lightning_robust_studies.schmidt2018.closed_form.settings import TheorySettings
from lightning_robust_studies.schmidt2018.theory import carmon_unlabelled

FLAT_SLOPE = 0.05
"""Claim 1 asks that the exponent of d in the standard need be at most this,"""
HALF_SLOPE = 0.02
"""and that that in the robust need differ from 1/2 by at most this."""
STANDARD_ERRORS = 3.0
"""Claim 2 allows a learner to be so many standard errors below the Bayes-optimal curve, by chance."""
CARMON_ERROR = 1e-3
"""The robust error of Proposition 1 and Theorem 2 of Carmon et al."""


def select(rows: Sequence[Mapping[str, Any]], **where: object) -> list[Mapping[str, Any]]:
    """The rows that agree with all of `where`.

    Example:
        >>> select([{"n": 1, "value": 0.1}, {"n": 2, "value": 0.2}], n=2)
        [{'n': 2, 'value': 0.2}]
    """
    return [row for row in rows if all(row.get(name) == value for name, value in where.items())]


def estimate(row: Mapping[str, Any]) -> Estimate:
    """A row's value with its interval."""
    return Estimate(row["value"], row["low"], row["high"], max(1, row["draws"]))


def small(value: float) -> str:
    """An error in percent with two significant digits, however small.

    Example:
        >>> small(0.123), small(0.0000123), small(1.0)
        ('12 %', '0.0012 %', '100 %')
    """
    digits = 1 if value <= 0 else max(0, 1 - math.floor(math.log10(100 * value)))
    return f"{100 * value:.{min(digits, 12)}f} %"


def claims(rows: Sequence[Row], o: TheorySettings) -> list[Claim]:
    """The claims, each with its numbers and the criterion it is held to.

    Args:
        rows: of `run_theory`.
        o: the settings they were computed with.
    """
    return [_gap(rows, o), _lower_bounds(rows, o), _upper_bound(rows, o), _threshold(rows, o), _unlabelled(rows, o)]


def _gap(rows: Sequence[Row], o: TheorySettings) -> Claim:
    slopes = select(rows, question="gap", metric="slope")
    standard = estimate(select(slopes, curve="n_standard")[0])
    half = {row["eps"]: estimate(row) for row in select(slopes, curve="n_half")}
    listed = ", ".join(f"{each.text(PLAIN)} at eps = {eps:g}" for eps, each in half.items())
    return Claim(
        "1. The number of samples for a standard error does not grow with the dimension, that for a robust error grows "
        "like its square root.",
        all_of(
            (
                judged(standard, le, FLAT_SLOPE),
                *(judged(each, ge, 0.5 - HALF_SLOPE) for each in half.values()),
                *(judged(each, le, 0.5 + HALF_SLOPE) for each in half.values()),
            )
        ),
        f"Mean estimator at sigma = {o.scale:g} d^(1/4), exponent of d over d = {o.dimensions[0]:,} to "
        f"{o.dimensions[-1]:,}: {standard.text(PLAIN)} for a standard error of {PERCENT.tick(o.target)}; for a robust "
        f"error of 50 % {listed}. Criterion: at most {FLAT_SLOPE:g}, and within {HALF_SLOPE:g} of 1/2.",
    )


def _lower_bounds(rows: Sequence[Row], o: TheorySettings) -> Claim:
    from scipy.stats import t

    excess = select(rows, question="learners", metric="excess over bayes")
    quantile = float(t.ppf(0.975, o.draws - 1))
    errors = [(row["high"] - row["low"]) / (2 * quantile) for row in excess]
    units = [row["value"] / error if error > 0 else 0.0 for row, error in zip(excess, errors, strict=True)]
    least = min(range(len(excess)), key=units.__getitem__)
    bayes = {row["n"]: estimate(row) for row in select(rows, question="error", curve="bayes")}
    bounds = {row["n"]: row["value"] for row in select(rows, question="error", curve="theorem_11")}
    above = all_of(judged(bayes[n], ge, (1 - 1e-9) * bound) for n, bound in bounds.items())
    row, name = excess[least], excess[least]["curve"]
    return Claim(
        "2. No learner does better than the lower bounds.",
        all_of((above, Verdict.HOLDS if units[least] >= -STANDARD_ERRORS else Verdict.FAILS)),
        f"theta ~ N(0, I), d = {o.d:,}, eps = {o.eps:g}: of {len({r['curve'] for r in excess})} learners at n = "
        f"{', '.join(map(str, o.samples))}, the one furthest below the Bayes-optimal error of its samples ({name}, n = "
        f"{row['n']}) is {units[least]:+.1f} standard errors from it. That the Bayes-optimal curve lies above Theorem "
        f"11 at all {len(bounds)} numbers of samples: {above.value}. Criterion: not more than {STANDARD_ERRORS:g} "
        "standard errors below, which a learner that reaches the bound may be by chance, and above.",
    )


def _upper_bound(rows: Sequence[Row], o: TheorySettings) -> Claim:
    title = "3. What is proved to suffice suffices."
    bounds = {row["n"]: row["value"] for row in select(rows, question="error", curve="theorem_21")}
    mean = {row["n"]: estimate(row) for row in select(rows, question="error", model=FLAT, curve="mean, attacked")}
    proved = min((n for n, bound in bounds.items() if bound <= o.target), default=None)
    needed = min((n for n, error in mean.items() if error.value <= o.target), default=None)
    if proved is None or needed is None:
        return Claim(title, Verdict.UNKNOWN, f"Theorem 21 guarantees no {PERCENT.tick(o.target)} at these settings.")
    return Claim(
        title,
        all_of(judged(mean[n], le, bound) for n, bound in bounds.items()),
        f"d = {o.d:,}, eps = {o.eps:g}, flat theta: Theorem 21 guarantees an expected robust error of "
        f"{PERCENT.tick(o.target)} from n = {proved:.3g} on; the mean estimator has it from n = {needed:.3g} on "
        "(n by factors of 2^(1/4)). "
        f"Criterion: the error is below the bound at all {len(bounds)} numbers of samples where there is one.",
    )


def _threshold(rows: Sequence[Row], o: TheorySettings) -> Claim:
    found = select(rows, question="bernoulli dimension", metric="error")
    behind, linear = (
        [row["value"] for row in select(found, curve=f"{kind}, attacked")] for kind in ("threshold", "linear")
    )
    return Claim(
        "4. Behind a threshold the gap is gone (Bernoulli model).",
        Verdict.HOLDS if max(behind) <= o.target < min(linear) else Verdict.FAILS,
        f"tau = {o.tau_scale:g} d^(-1/4), eps = {o.tau_ratio:g} tau, expected error from one sample, exact: behind the "
        f"threshold {small(min(behind))} to {small(max(behind))} over d = {o.dimensions[0]:,} to {o.dimensions[-1]:,}; "
        f"of the linear classifier with the same weights {small(linear[0])} to {small(linear[-1])}. Criterion: at most "
        f"{PERCENT.tick(o.target)} behind the threshold and more without it, at every d.",
    )


def _unlabelled(rows: Sequence[Row], o: TheorySettings) -> Claim:
    found = select(rows, question="self-training")
    at = math.ceil(carmon_unlabelled(o.self_training_d, o.labels, o.self_training_eps))
    trained, only = (select(found, unlabelled=at, curve=each)[0] for each in ("self-trained", "labels only"))
    labelled = select(found, curve="labels of proposition 1")[0]
    return Claim(
        "5. Unlabelled data stand in for labels (Carmon et al. 2019).",
        judged(estimate(trained), le, CARMON_ERROR),
        f"d = {trained['d']:,}, sigma = {trained['noise']:g}, eps = {trained['eps']:g}: the robust error is "
        f"{estimate(only).text()} with {labels(o.labels)} alone, and {_fraction(trained)} with the {at:,} unlabelled "
        f"points of Theorem 2 besides. Criterion: at most {CARMON_ERROR:g}. With the "
        f"{labelled['n']:.3g} labels of Proposition 1 it is {_fraction(labelled)}: both statements hold from a size on "
        "that the paper does not give.",
    )


def labels(n: int) -> str:
    """In words.

    Example:
        >>> labels(1), labels(2)
        ('1 label', '2 labels')
    """
    return f"{n:,} label{'' if n == 1 else 's'}"


def _fraction(row: Mapping[str, Any]) -> str:
    return f"{row['value']:.2g} [{row['low']:.2g}, {row['high']:.2g}]"
