"""The four claims of Stutz et al. (CVPR 2019), set against what the manifold study found."""

import math
from collections.abc import Mapping, Sequence
from operator import ge, gt, le, lt
from typing import Any

from lightning_robust.cells.cells import Row
from lightning_robust.learning_curves.seeds import mean_over_seeds, over_seeds
from lightning_robust.plots import POINTS, Estimate
from lightning_robust_studies.claims import Claim, Verdict, all_of, judged
from lightning_robust_studies.stutz2019.plots import LinearFit, linear_fit
from lightning_robust_studies.stutz2019.tables import DEGREES, PIXELS, sizes_of

FAR = 5.0
"""Claim 1 asks that off-manifold examples be so many times as far from the manifold as on-manifold ones,"""
STEEP = 70.0
"""and leave it at such an angle at least, in degrees, and on-manifold ones at less than 90 minus it."""
CLOSE_FIT = 0.9
"""Claim 3 asks for such a correlation r."""
KEPT = 0.02
"""Claim 4 asks that adversarial training raise the test error by at most this much."""


def difference(models: Sequence[Row], n: object, scheme: str, reference: str) -> Estimate:
    """By how much a scheme's test error exceeds the reference's at a size, models of one seed compared in pairs."""
    found: dict[str, dict[object, Mapping[str, Any]]] = {scheme: {}, reference: {}}
    for row in models:
        if row["n"] == n and row["metric"] == "test error" and row["scheme"] in found:
            found[str(row["scheme"])][row["seed"]] = row
    pairs = [(found[scheme][seed], found[reference][seed]) for seed in found[scheme]]
    values = [a["value"] - b["value"] for a, b in pairs]
    # Of a single pair: the interval for two independent draws of test images, which is too wide for the same images.
    a, b = pairs[0]
    down = ((a["value"] - a["low"]) ** 2 + (b["high"] - b["value"]) ** 2) ** 0.5
    up = ((a["high"] - a["value"]) ** 2 + (b["value"] - b["low"]) ** 2) ** 0.5
    return mean_over_seeds(values, [(values[0] - down, values[0] + up)], sum(pair[0]["count"] for pair in pairs))


def points(models: Sequence[Row]) -> list[dict[str, Any]]:
    """One row for each model and threat, with its test error and its success rate."""
    errors = {(row["n"], row["scheme"], row["seed"]): row["value"] for row in models if row["metric"] == "test error"}
    return [
        {
            "n": row["n"],
            "scheme": row["scheme"],
            "seed": row["seed"],
            "threat": str(row["metric"]).removesuffix(" success"),
            "test error": errors[row["n"], row["scheme"], row["seed"]],
            "success": row["value"],
        }
        for row in models
        if row["metric"] in ("off-manifold success", "on-manifold success")
    ]


def fits(models: Sequence[Row]) -> list[dict[str, Any]]:
    """The regression of success on test error: over all models, then for each scheme over its sizes and seeds.

    Rows have the columns schemes, threat and fit, which is None where there are fewer than three models or all have the
    same error.
    """
    marks = points(models)
    schemes = list(dict.fromkeys(mark["scheme"] for mark in marks))
    rows = []
    for name, members in (("all", schemes), *((scheme, [scheme]) for scheme in schemes)):
        for threat in ("off-manifold", "on-manifold"):
            chosen = [mark for mark in marks if mark["threat"] == threat and mark["scheme"] in members]
            errors = [mark["test error"] for mark in chosen]
            enough = len(chosen) >= 3 and min(errors) < max(errors)
            fit = linear_fit(errors, [mark["success"] for mark in chosen]) if enough else None
            rows.append({"schemes": name, "threat": threat, "fit": fit})
    return rows


def claims(models: Sequence[Row], distances: Sequence[Row]) -> list[Claim]:
    """The four claims, each with its numbers and the criterion it is held to.

    Args:
        models: rows with the columns n, scheme, seed, metric, value, low, high, count.
        distances: rows with n, scheme, seed, threat, manifold, metric, value, low, high, count.
    """
    return [_leave(distances), _exist(models), _errors(models), _compatible(models)]


_MANIFOLD = {"true": "true manifold", "tangent": "tangent spaces of neighbours"}


def _leave(distances: Sequence[Row]) -> Claim:
    title = "1. Regular adversarial examples leave the manifold, on-manifold ones do not."
    largest = max((float(str(row["n"])) for row in distances), default=0)
    found = over_seeds([row for row in distances if row["n"] == largest], ("manifold", "threat", "metric"))
    manifold = "true" if any(row["manifold"] == "true" for row in distances) else "tangent"
    keys = [(manifold, threat, metric) for threat in ("off", "on") for metric in ("distance", "angle")]
    if not all(key in found for key in keys):
        return Claim(title, Verdict.UNKNOWN, "The study found no successful examples of both kinds.")
    off, off_angle, on, on_angle = (found[key] for key in keys)
    verdict = all_of(
        (
            judged((off.low - FAR * on.high, off.high - FAR * on.low), ge, 0),
            judged(off_angle, ge, STEEP),
            judged(on_angle, le, 90 - STEEP),
        )
    )
    return Claim(
        title,
        verdict,
        f"Models of {distances[0]['scheme']} training on {largest:g} images, {_MANIFOLD[manifold]}: successful "
        f"off-manifold examples lie {off.text(PIXELS)} from it (L2) and leave it at {off_angle.text(DEGREES)}; "
        "on-manifold ones lie "
        f"{on.text(PIXELS)} from it, at {on_angle.text(DEGREES)}. Criterion: {FAR:g} times as far, at {STEEP:g} "
        f"degrees or more against {90 - STEEP:g} or less.",
    )


def _exist(models: Sequence[Row]) -> Claim:
    title, metric = "2. On-manifold adversarial examples exist, for every model.", "on-manifold success, worst attempt"
    found: list[Mapping[str, Any]] = [row for row in models if row["metric"] == metric]
    if not found:
        return Claim(title, Verdict.UNKNOWN, "No model reads an image correctly.")
    least = min(found, key=lambda row: row["low"])
    estimate = Estimate(least["value"], least["low"], least["high"], max(1, least["count"]))
    return Claim(
        title,
        judged(estimate, gt, 0),
        f"Of {len(found)} models the one with the fewest ({least['scheme']}, {least['n']} images, seed "
        f"{least['seed']}) has them for {estimate.text()} of the images that it reads correctly. Criterion: more than "
        "none.",
    )


def _errors(models: Sequence[Row]) -> Claim:
    title = "3. On-manifold robustness is generalization; off-manifold robustness is not."
    overall = {row["threat"]: row["fit"] for row in fits(models) if row["schemes"] == "all"}
    on, off = overall["on-manifold"], overall["off-manifold"]
    if on is None or off is None:
        return Claim(title, Verdict.UNKNOWN, "There are fewer than three models.")
    text = (
        f"Success over test error, all {on.n} models: on the manifold {on.text()}; off it {off.text()}."
        f"{_each(models)} "
        f"Criterion: r at least {CLOSE_FIT:g} on the manifold and less off it"
    )
    schemes = {row["scheme"] for row in models}
    best = next((name for name in ("on-true", "on-learned-class") if name in schemes), None)
    if best is None or "normal" not in schemes:
        return Claim(title, Verdict.UNKNOWN, text + ". Whether on-manifold training lowers the error was not measured.")
    lowered = {n: difference(models, n, best, "normal") for n in sizes_of(models)}
    text += (
        f", and a test error below that of normal training at every size. Training {best} changes it by "
        f"{_list(lowered)}."
    )
    if {"on-true", "on-learned-class"} <= schemes:
        learned = {n: difference(models, n, "on-learned-class", "normal") for n in sizes_of(models)}
        text += f" On-learned-manifold training, which is not part of the criterion: {_list(learned)}."
    errors = (judged(change, lt, 0) for change in lowered.values())
    return Claim(title, all_of((_correlated(on), _uncorrelated(off), *errors)), text)


def _correlated(fit: LinearFit) -> Verdict:
    """Does success go with the test error? Where all models have the same success, none or all, that cannot be told."""
    return Verdict.OPEN if math.isnan(fit.r) else judged(fit.interval, ge, CLOSE_FIT)


def _uncorrelated(fit: LinearFit) -> Verdict:
    """Does it not, neither way? It does not where all models have the same success at different errors."""
    if math.isnan(fit.r):
        return Verdict.HOLDS
    return all_of((judged(fit.interval, lt, CLOSE_FIT), judged(fit.interval, gt, -CLOSE_FIT)))


def _each(models: Sequence[Row]) -> str:
    """The least correlation of a scheme by itself, over its sizes and seeds, as the paper computes it."""
    found = {
        row["schemes"]: row["fit"].r
        for row in fits(models)
        if row["schemes"] != "all" and row["threat"] == "on-manifold" and row["fit"] is not None
    }
    if len(found) < 2 or any(math.isnan(r) for r in found.values()):
        return ""
    least = min(found, key=lambda name: found[name])
    return f" Of each scheme by itself, as in the paper, r is at least {found[least]:.3f} ({least})."


def _compatible(models: Sequence[Row]) -> Claim:
    title = "4. Robustness and generalization do not contradict each other: enough data keeps the accuracy."
    if not {"normal", "adversarial"} <= {row["scheme"] for row in models}:
        return Claim(title, Verdict.UNKNOWN, "It takes the schemes normal and adversarial.")
    changes = {n: difference(models, n, "adversarial", "normal") for n in sizes_of(models)}
    return Claim(
        title,
        judged(changes[max(changes)], le, KEPT),
        f"Adversarial training in pixels changes the test error by {_list(changes)}. Criterion: at the largest size "
        f"by at most {POINTS.text(KEPT)}.",
    )


def _list(changes: Mapping[int, Estimate]) -> str:
    return ", ".join(f"{change.text(POINTS)} at N = {n}" for n, change in changes.items())
