"""The claims of "Adversarially Robust Generalization Requires More Data" (Schmidt et al., 2018) against a study."""

from collections.abc import Callable, Mapping, Sequence
from operator import ge, gt, lt
from typing import Any, TypeAlias

from lightning_robust.learning_curves.contrasts import contrast, last_step, rises_more, still_rising
from lightning_robust.learning_curves.per_seed import (
    Curves,
    best_over,
    curve_per_seed,
    shared_sizes,
)

from lightning_robust._command import SettingsError
from lightning_robust.cells import Scalar
from lightning_robust.learning_curves.samples_needed import ratio_needed
from lightning_robust.metrics import wilson_interval
from lightning_robust.plots import PERCENT, POINTS, Estimate
from lightning_robust_studies.claims import Claim, Verdict, all_of, any_of, judged

TARGETS = (0.3, 0.5, 0.7, 0.9)
"""The accuracies at which claim 1 compares numbers of samples."""
ALMOST_ALL = 0.9
"""Claim 3 asks for such a share of the cases."""

Rows: TypeAlias = Sequence[Mapping[str, Any]]
Finding: TypeAlias = tuple[Verdict, str]
Pair: TypeAlias = tuple[Curves, Curves] | None
"""The standard and the robust curves."""


def claims(
    rows: Sequence[Mapping[str, Scalar]], *, targets: Sequence[float] = TARGETS, resamples: int = 2000
) -> list[Claim]:
    """The paper's claims, each with its numbers and the criterion it is held to, over all data sets of the study.

    Robust accuracy is that under the attack of the largest radius that a data set was tested at; accuracies are those
    of the best candidate for each size, seed and radius, picked on validation images (`best_over`). A claim holds if
    it holds on every data set on which it was measured, and does not if it does not on one.

    Args:
        rows: the study's, with the columns data, n, model, eps_train, seed, checkpoint, split, eps_test, value, low,
            high and count. Rows of the training set (split "train") serve claim 4 and may be missing.
        targets: the accuracies of claim 1, strictly between 0 and 1.
        resamples: of the intervals of claim 1.

    Raises:
        SettingsError: rows of the validation or the test set are missing, or there are none.
    """
    best = best_over(rows)
    if not best:
        raise SettingsError("Expected argument `rows` to hold at least one row, but got none.")
    radius: dict[str, float] = {}
    for row in best:
        radius[row["data"]] = max(radius.get(row["data"], 0.0), row["eps_test"])
    attacked = {data: eps for data, eps in radius.items() if eps > 0}

    def over_data(finding: Callable[[str, float], Finding]) -> Finding:
        found = [(data, *finding(data, eps)) for data, eps in attacked.items()]
        text = " ".join(
            f"{data}, radius {attacked[data]:g} ({verdict.value}): {words}." for data, verdict, words in found
        )
        return all_of(verdict for _, verdict, _ in found), text or "No data set was tested under attack."

    more, more_text = over_data(lambda data, eps: _more_samples(_pair(best, data, eps), targets, resamples))
    rising, rising_text = over_data(lambda data, eps: _rising(_pair(best, data, eps)))
    radii, radii_text = over_data(lambda data, _: _radii([row for row in rows if row["data"] == data]))
    shrinks, shrinks_text = over_data(lambda data, eps: _gap(rows, best, data, eps))
    return [
        Claim(
            "1. The same accuracy takes more samples when it is to be robust.",
            more,
            f"Samples for robust accuracy over samples for standard accuracy, at the same target. {more_text} "
            "Criterion: on each data set the interval lies above 1 for at least one target, and below 1 for none.",
        ),
        Claim(
            "2. Robust accuracy still rises where standard accuracy has flattened.",
            rising,
            f"{rising_text} Criterion: a difference of the two rises above 0.",
        ),
        Claim(
            "3. Training with the largest radius gives the best robust accuracy, natural training the best standard.",
            radii,
            "Cases are sizes, seeds and all radii of the attack, judged on validation images; ties count; intervals "
            f"take the cases as independent. {radii_text} "
            f"Criterion: at least {PERCENT.tick(ALMOST_ALL)} of the cases, for both.",
        ),
        Claim(
            "4. The gap between robust accuracy on training and on test images shrinks with more samples.",
            shrinks,
            f"{shrinks_text} Criterion: a change from the smallest to the largest size below 0.",
        ),
    ]


def _pair(best: Rows, data: str, eps: float) -> Pair:
    """The standard and the robust curves, over the sizes and seeds that have both; None where there are none."""
    both = _shared([row for row in best if row["data"] == data and row["eps_test"] in (0, eps)], "eps_test")
    if not both:
        return None
    return curve_per_seed(both, data, 0), curve_per_seed(both, data, eps)


def _shared(rows: Rows, column: str) -> list[Mapping[str, Any]]:
    """The rows whose size and seed are there for both of two values of a column."""
    places: dict[Any, set[Any]] = {}
    for row in rows:
        places.setdefault(row[column], set()).add((row["n"], row["seed"]))
    shared = set.intersection(*places.values()) if len(places) == 2 else set()
    return [row for row in rows if (row["n"], row["seed"]) in shared]


def _more_samples(pair: Pair, targets: Sequence[float], resamples: int) -> Finding:
    if pair is None:
        return Verdict.UNKNOWN, "standard accuracy was not measured"
    standard, robust = pair
    if len(shared_sizes(standard)) < 2:
        return Verdict.UNKNOWN, "there is but one size"
    found = {target: ratio_needed(standard, robust, target, resamples=resamples) for target in targets}
    known = {target: ratio for target, ratio in found.items() if str(ratio.amount) != "unknown"}
    if not known:
        return Verdict.UNKNOWN, f"neither accuracy reaches a target within the sizes, {_sizes(standard)}"
    each = [judged((ratio.low, ratio.high), gt, 1) for ratio in known.values()]
    verdict = Verdict.FAILS if any(ratio.high < 1 for ratio in known.values()) else any_of(each)
    words = ", ".join(f"{ratio} times at {PERCENT.tick(target)}" for target, ratio in known.items())
    return verdict, f"{words} ({_sizes(standard)})"


def _rising(pair: Pair) -> Finding:
    if pair is None:
        return Verdict.UNKNOWN, "standard accuracy was not measured"
    standard, robust = pair
    if len(shared_sizes(standard)) < 2:
        return Verdict.UNKNOWN, "there is but one size"
    last, before = last_step(standard)
    more = rises_more(robust, standard)
    return judged(more, gt, 0), (
        f"from N = {before:,g} to {last:,g} robust accuracy rises by {still_rising(robust).text(POINTS)}, standard "
        f"accuracy by {still_rising(standard).text(POINTS)}, a difference of {more.text(POINTS)}"
    )


def _radii(rows: Rows) -> Finding:
    trained = {row["eps_train"] for row in rows}
    if len(trained) < 2 or 0 not in trained:
        return Verdict.UNKNOWN, "it takes natural training and training with another radius"
    largest = max(trained)
    robust = _wins(rows, largest, lambda eps: eps > 0)
    natural = _wins(rows, 0, lambda eps: eps == 0)
    if not (robust[1] and natural[1]):
        return Verdict.UNKNOWN, "not all of it was measured"
    shares = [_share(*each) for each in (robust, natural)]
    words = (
        f"the largest training radius, {largest:g}, is best for {robust[0]} of {robust[1]} cases under attack, "
        f"{shares[0].text()}, natural training for {natural[0]} of {natural[1]} cases without, {shares[1].text()}"
    )
    return all_of(judged(share, ge, ALMOST_ALL) for share in shares), words


def _share(wins: int, cases: int) -> Estimate:
    low, high = wilson_interval(wins, cases)
    return Estimate(wins / cases, float(low), float(high), cases)


def _wins(rows: Rows, eps_train: float, tested: Callable[[float], bool]) -> tuple[int, int]:
    """In how many cases no candidate beats those of a training radius on validation images, and of how many."""
    part = [row for row in rows if tested(row["eps_test"])]
    if not any(row["eps_train"] == eps_train for row in part):
        return 0, 0
    best = {(row["n"], row["seed"], row["eps_test"]): row["val"] for row in best_over(part)}
    alone = best_over(part, only={"eps_train": eps_train})
    return sum(row["val"] == best[row["n"], row["seed"], row["eps_test"]] for row in alone), len(alone)


def _gap(rows: Rows, best: Rows, data: str, eps: float) -> Finding:
    """Train less test accuracy under attack, of the candidates picked, at the smallest and at the largest size."""
    names = ("n", "seed", "model", "eps_train", "checkpoint")
    picked = [row for row in best if row["data"] == data and row["eps_test"] == eps]
    places = {tuple(row[name] for name in names) for row in picked}
    trained = [
        row
        for row in rows
        if (row["data"], row["eps_test"], row["split"]) == (data, eps, "train")
        and tuple(row[name] for name in names) in places
    ]
    both = _shared([*picked, *trained], "split")
    if not both:
        return Verdict.UNKNOWN, "accuracy on training images was not measured"
    train = curve_per_seed([row for row in both if row["split"] == "train"], data, eps)
    test = curve_per_seed([row for row in both if row["split"] == "test"], data, eps)
    sizes = shared_sizes(train)
    if len(sizes) < 2:
        return Verdict.UNKNOWN, "there is but one size"
    first, last = sizes[0], sizes[-1]
    at_first, at_last = (contrast([(1, train, n), (-1, test, n)]) for n in (first, last))
    change = contrast([(1, train, last), (-1, test, last), (-1, train, first), (1, test, first)])
    return judged(change, lt, 0), (
        f"the gap is {at_first.text(POINTS)} at N = {first:,g} and {at_last.text(POINTS)} at N = {last:,g}, a change "
        f"of {change.text(POINTS)}"
    )


def _sizes(curves: Curves) -> str:
    sizes = shared_sizes(curves)
    return f"N from {sizes[0]:,g} to {sizes[-1]:,g}, {len(curves)} seed{'s' if len(curves) > 1 else ''}"
