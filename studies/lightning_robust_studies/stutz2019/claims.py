"""The four claims of Stutz et al. (CVPR 2019), set against what the manifold study measured."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from operator import ge, gt, le, lt

import pandas as pd

from lightning_robust.learning_curves import mean_over_seeds
from lightning_robust.plots import POINTS, Estimate
from lightning_robust_studies.claims import Claim, Verdict, all_of, any_of, judged
from lightning_robust_studies.stutz2019.counting import counting
from lightning_robust_studies.stutz2019.plots import LinearFit, linear_fit
from lightning_robust_studies.stutz2019.reading import ON, leaking, warnings
from lightning_robust_studies.stutz2019.tables import DEGREES, LEAK_COLUMNS, PIXELS, frame, largest, means

FAR = 5.0
"""Claim 1 asks that off-manifold examples lie at least this many times as far from the manifold as on-manifold ones,"""
STEEP = 70.0
"""and leave it at an angle of at least this, in degrees, and on-manifold ones at no more than 90 minus this."""
CLOSE_FIT = 0.9
"""Claim 3 asks for a correlation r of at least this."""
KEPT = 0.02
"""Claim 4 asks that adversarial training raise the test error by at most this much."""


def difference(models: pd.DataFrame, n: int, scheme: str, reference: str) -> Estimate:
    """By how much a scheme's test error exceeds the reference's at a size, models of one seed compared in pairs."""
    errors = models[(models["n"] == n) & (models["metric"] == "test error")].set_index("seed")
    of_scheme, of_reference = (errors[errors["scheme"] == name] for name in (scheme, reference))
    pairs = of_scheme.merge(of_reference, on="seed", suffixes=("", "_of"))
    values = (pairs["value"] - pairs["value_of"]).tolist()
    # Of a single pair: the interval for two independent draws of test images, which is too wide for the same images.
    a = pairs.iloc[0]
    down = math.hypot(a["value"] - a["low"], a["high_of"] - a["value_of"])
    up = math.hypot(a["high"] - a["value"], a["value_of"] - a["low_of"])
    return mean_over_seeds(values, [(values[0] - down, values[0] + up)], int(pairs["count"].sum()))


def differences(models: pd.DataFrame, scheme: str, reference: str = "normal") -> dict[int, Estimate]:
    """`difference` for each size that both schemes have."""
    of_scheme, of_reference = (set(models.loc[models["scheme"] == name, "n"]) for name in (scheme, reference))
    return {n: difference(models, n, scheme, reference) for n in sorted(of_scheme & of_reference)}


def points(models: pd.DataFrame) -> pd.DataFrame:
    """A row for each model and threat: n, scheme, seed, threat, test error, success and the images it is over."""
    names = ["n", "scheme", "seed"]
    errors = models[models["metric"] == "test error"].set_index(names)["value"].rename("test error")
    threats = ("off-manifold", *ON)
    success = models[models["metric"].isin([f"{threat} success" for threat in threats])]
    success = success.assign(threat=success["metric"].str.removesuffix(" success")).join(errors, on=names)
    success = success.rename(columns={"value": "success", "count": "images"})
    return success[[*names, "threat", "test error", "success", "images"]]


def fits(models: pd.DataFrame) -> dict[tuple[str, str], LinearFit | None]:
    """The regression of success on test error by scheme and threat: over all models, then for each scheme by itself.

    None where there are fewer than three models or all have the same error.
    """
    marks = points(models)
    groups = {"all": marks} | {scheme: marks[marks["scheme"] == scheme] for scheme in marks["scheme"].unique()}
    return {
        (name, threat): linear_fit(chosen["test error"], chosen["success"])
        for name, group in groups.items()
        for threat in dict.fromkeys(["off-manifold", *marks["threat"]])
        for chosen in (group[group["threat"] == threat],)
    }


@dataclass(frozen=True)
class Along:
    """The manifold that the claims are read for.

    Args:
        threat: what attacks along it are called, "on-manifold" for the true one.
        words: what it is, for people.
        leaks: does it hand the label to the classifier? None: that was not measured.
    """

    threat: str
    words: str
    leaks: bool | None


def manifold_of_claims(models: pd.DataFrame, leaks: pd.DataFrame) -> Along | None:
    """The true manifold, where it is known, else the first learned one that does not leak, else the first.

    Of those that do not leak, one that models were trained along comes first. None where no model was attacked along
    any.
    """
    told, threats = leaking(leaks), [threat for threat in points(models)["threat"].unique() if threat in ON]
    if not threats:
        return None
    if "on-manifold" in threats:
        return Along("on-manifold", "the true manifold", False)
    clean = [name for name in threats if told.get(name) is False]
    threat = next((name for name in clean if name in set(models["scheme"])), next(iter(clean), threats[0]))
    words = {True: "which leaks the label", False: "which does not leak the label", None: "whose leak was not measured"}
    return Along(threat, f"the learned manifold of {threat}, {words[told.get(threat)]}", told.get(threat))


def claims(models: pd.DataFrame, distances: pd.DataFrame, leaks: pd.DataFrame | None = None) -> list[Claim]:
    """The four claims, each with its numbers and the criterion it is held to.

    Args:
        models: with the columns n, scheme, seed, metric, value, low, high, count.
        distances: with n, scheme, seed, threat, manifold, metric, value, low, high, count.
        leaks: with n, scheme, seed, manifold, metric, value, low, high, count, sentence; None: not measured.
    """
    leaks = frame([], LEAK_COLUMNS) if leaks is None else leaks
    along = manifold_of_claims(models, leaks)
    return [_leave(distances), _exist(models, along), _errors(models, along, leaks), _compatible(models)]


_MANIFOLD = {"true": "true manifold", "tangent": "tangent spaces of neighbors"}


def _leave(distances: pd.DataFrame) -> Claim:
    title = "1. Regular adversarial examples leave the manifold, on-manifold ones do not."
    rows = largest(distances)
    measured = means(rows, "manifold", "threat", "metric")
    manifold = "true" if "true" in set(rows["manifold"]) else "tangent"
    keys = [(manifold, threat, metric) for threat in ("off", "on") for metric in ("distance", "angle")]
    if not all(key in measured for key in keys):
        return Claim(title, Verdict.UNKNOWN, "The study has no successful examples of both kinds.")
    off, off_angle, on, on_angle = (measured[key] for key in keys)
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
        f"Models of {rows['scheme'].iloc[0]} training on {rows['n'].iloc[0]} images, {_MANIFOLD[manifold]}: successful "
        f"off-manifold examples lie {off.text(PIXELS)} from it (L2) and leave it at {off_angle.text(DEGREES)}; "
        f"on-manifold ones lie {on.text(PIXELS)} from it, at {on_angle.text(DEGREES)}. Criterion: {FAR:g} times as "
        f"far, at {STEEP:g} degrees or more against {90 - STEEP:g} or less.",
    )


def _exist(models: pd.DataFrame, along: Along | None) -> Claim:
    title = "2. On-manifold adversarial examples exist, for every model."
    success = models[models["metric"] == f"{'' if along is None else along.threat} success, worst restart"]
    if along is None or success.empty:
        return Claim(title, Verdict.UNKNOWN, "No model reads an image correctly.")
    least = success.loc[success["low"].idxmin()]
    estimate = Estimate(least["value"], least["low"], least["high"], max(1, least["count"]))
    return Claim(
        title,
        judged(estimate, gt, 0),
        f"Along {along.words}: of {len(success)} models the one with the fewest ({least['scheme']}, {least['n']} "
        f"images, seed {least['seed']}) has them for {estimate.text()} of the images that it reads correctly. "
        "Criterion: more than none.",
    )


def _errors(models: pd.DataFrame, along: Along | None, leaks: pd.DataFrame) -> Claim:
    title = "3. On-manifold robustness is generalization; off-manifold robustness is not."
    lines, told = fits(models), leaking(leaks)
    on, off = None if along is None else lines["all", along.threat], lines["all", "off-manifold"]
    if along is None or on is None or off is None:
        return Claim(title, Verdict.UNKNOWN, "There are fewer than three models.")
    text = (
        f"Success over test error, all {on.n} models: along {along.words}, {on.text()}; off it {off.text()}."
        f"{_noise(models, along.threat, on)}{_each(lines, along.threat)}{_others(lines, along.threat, told)} "
        f"Criterion: r at least {CLOSE_FIT:g} on the manifold and less off it"
    )
    schemes = list(dict.fromkeys(models["scheme"]))
    own = "on-true" if along.threat == "on-manifold" else along.threat
    best = next((name for name in (own, "on-learned-class") if name in schemes), None)
    if best is None or "normal" not in schemes:
        text += ". Whether on-manifold training lowers the error was not measured."
        return Claim(title, Verdict.UNKNOWN, " ".join([text, *warnings(leaks)]))
    lowered = differences(models, best)
    text += (
        ", and a test error below that of normal training at every size. "
        f"Training {best} changes it by {_list(lowered)}."
    )
    rest = [name for name in schemes if name in ("on-true", *ON, *(f"{name}-both" for name in ON)) and name != best]
    if rest:
        changes = "; ".join(f"{name} {_list(differences(models, name))}" for name in rest)
        text += f" Not part of the criterion: {changes}."
    errors, correlated = all_of(judged(change, lt, 0) for change in lowered.values()), _correlated(on)
    if along.leaks is not False:
        correlated = Verdict.OPEN
        known = "All manifolds leak the label" if along.leaks else "Whether this manifold leaks the label is not known"
        text += f" {known}, so that this correlation decides nothing."
        text += "" if along.leaks else " Ask for it with `--leak_seeds 1`."
    if best != "on-true" and told.get(best) is not False and errors is Verdict.FAILS:
        errors = Verdict.OPEN
        text += f" {best} {'leaks' if told.get(best) else 'may leak'} the label, so that an error that it does not "
        text += "lower decides nothing."
    verdict = all_of((correlated, _uncorrelated(off), errors))
    return Claim(title, verdict, " ".join([text, *warnings(leaks)]))


def _noise(models: pd.DataFrame, threat: str, fit: LinearFit) -> str:
    """How much of the correlation is hidden by the counting of successes, as a sentence."""
    marks = points(models)
    marks = marks[marks["threat"] == threat]
    found = None if math.isnan(fit.r) else counting(marks["success"], marks["images"], fit.r)
    if found is None:
        return ""
    images = f"{marks['images'].min()} to {marks['images'].max()} images"
    return f" Each success is over {images}: {found.text()}, which is not part of the criterion."


def _correlated(fit: LinearFit) -> Verdict:
    """Whether success goes with the test error. It is not decided where all models have the same success."""
    return Verdict.OPEN if math.isnan(fit.r) else judged(fit.interval, ge, CLOSE_FIT)


def _uncorrelated(fit: LinearFit) -> Verdict:
    """Whether success does not go with the test error, as where all models have the same success."""
    if math.isnan(fit.r):
        return Verdict.HOLDS
    return all_of((judged(fit.interval, lt, CLOSE_FIT), judged(fit.interval, gt, -CLOSE_FIT)))


Lines = Mapping[tuple[str, str], LinearFit | None]


def _each(lines: Lines, threat: str) -> str:
    """The correlation of each scheme by itself, over its sizes and seeds, as the paper computes it."""
    each = {scheme: fit for (scheme, of), fit in lines.items() if scheme != "all" and of == threat and fit is not None}
    texts = [f"{scheme} {fit.text()}" for scheme, fit in each.items()]
    return f" Each scheme by itself, as in the paper: {'; '.join(texts)}." if texts else ""


def _others(lines: Lines, threat: str, told: Mapping[str, bool]) -> str:
    """The regression along the other manifolds."""
    leak = {True: " (leaks the label)", False: " (does not leak)", None: ""}
    texts = [
        f"{of}{leak[told.get(of)]} {fit.text()}"
        for (scheme, of), fit in lines.items()
        if scheme == "all" and of in ON and of != threat and fit is not None
    ]
    return f" Along other manifolds: {'; '.join(texts)}." if texts else ""


def _compatible(models: pd.DataFrame) -> Claim:
    title = "4. Regular robustness and generalization are not necessarily contradicting goals."
    schemes = set(models["scheme"])
    pairs = {
        words: differences(models, f"adversarial{ending}", f"normal{ending}")
        for ending, words in (("", "the standard network"), ("-resnet", "a residual network, four times the passes"))
        if {f"adversarial{ending}", f"normal{ending}"} <= schemes
    }
    if not pairs:
        return Claim(title, Verdict.UNKNOWN, "It takes the schemes normal and adversarial.")
    texts = [f"of {words} by {_list(changes)}" for words, changes in pairs.items()]
    return Claim(
        title,
        any_of(judged(changes[max(changes)], le, KEPT) for changes in pairs.values()),
        f"Adversarial training in pixels changes the test error {'; '.join(texts)}. Criterion: at the largest size by "
        f"at most {POINTS.text(KEPT)}, for one network at least.",
    )


def _list(changes: Mapping[int, Estimate]) -> str:
    return ", ".join(f"{change.text(POINTS)} at N = {n}" for n, change in changes.items())
