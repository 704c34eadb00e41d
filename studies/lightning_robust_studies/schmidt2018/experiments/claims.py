"""The claims of "Adversarially Robust Generalization Requires More Data" (Schmidt et al., 2018) against a study."""

from collections.abc import Callable, Mapping, Sequence
from operator import ge, gt, lt
from typing import TYPE_CHECKING, TypeAlias

from lightning_robust._command import SettingsError
from lightning_robust.learning_curves import Curves, LearningCurves, best_over, contrast, curves_of, ratio_needed
from lightning_robust.metrics import wilson_interval
from lightning_robust.plots import PERCENT, POINTS, Estimate
from lightning_robust_studies.claims import Claim, Verdict, all_of, any_of, judged

if TYPE_CHECKING:
    from pandas import DataFrame

TARGETS = (0.3, 0.5, 0.7, 0.9)
"""The accuracies at which claim 1 compares numbers of samples."""
ALMOST_ALL = 0.9
"""Claim 3 asks for this share of the cases."""

Finding: TypeAlias = tuple[Verdict, str]
Pair: TypeAlias = tuple[Curves, Curves] | None
"""The standard and the robust curves, or None if one was not measured."""


def claims(curves: Mapping[str, LearningCurves], *, targets: Sequence[float] = TARGETS) -> list[Claim]:
    """The paper's claims, each with its numbers and its criterion, over all data sets of the study.

    Robust accuracy is that under the attack of the largest radius of a data set. Accuracies are those of the best
    candidate for each size, seed and radius, chosen on validation images (`best_over`). A claim holds if it holds on
    every data set on which it was measured, and fails if it fails on one. Where the largest size has fewer seeds than
    the others, claim 1 takes the sizes that all seeds have, claims 2 and 4 the seeds that have the largest size.

    Args:
        curves: The learning curves by data set. Rows of the training set (split "train") serve claim 4 and may be
            missing.
        targets: The accuracies of claim 1, strictly between 0 and 1.

    Raises:
        SettingsError: There are no rows.
        ValueError: Rows of the validation or the test set are missing.
    """
    tables = {data: each.to_pandas() for data, each in curves.items() if each.rows}
    if not tables:
        raise SettingsError("Expected argument `curves` to hold at least one row, but got none.")
    radii = {data: float(table["eps_test"].max()) for data, table in tables.items()}
    attacked = {data: eps for data, eps in radii.items() if eps > 0}
    best = {data: best_over(tables[data]) for data in attacked}

    def over_data(finding: Callable[[str, float], Finding]) -> Finding:
        findings = [(data, *finding(data, eps)) for data, eps in attacked.items()]
        texts = [f"{data}, radius {attacked[data]:g} ({verdict.value}): {text}." for data, verdict, text in findings]
        return all_of(verdict for _, verdict, _ in findings), " ".join(texts) or "No data set was tested under attack."

    more, more_text = over_data(lambda data, eps: _more_samples(_pair(best[data], eps), targets))
    rising, rising_text = over_data(lambda data, eps: _rising(_pair(_to_the_largest(best[data]), eps)))
    radii_verdict, radii_text = over_data(lambda data, _: _radii(tables[data]))
    shrinks, shrinks_text = over_data(lambda data, eps: _gap(tables[data], _to_the_largest(best[data]), eps))
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
            radii_verdict,
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


def _pair(best: "DataFrame", eps: float) -> Pair:
    both = _with_both(best[best["eps_test"].isin([0, eps])], "eps_test")
    if both.empty:
        return None
    return curves_of(both[both["eps_test"] == 0]), curves_of(both[both["eps_test"] == eps])


def _to_the_largest(best: "DataFrame") -> "DataFrame":
    """The rows of the seeds that have the largest size."""
    return best[best["seed"].isin(best[best["n"] == best["n"].max()]["seed"])]


def _with_both(table: "DataFrame", column: str) -> "DataFrame":
    """The rows whose size and seed are there for both of two values of a column."""
    return table[table.groupby(["n", "seed"])[column].transform("nunique") == 2]


def _more_samples(pair: Pair, targets: Sequence[float]) -> Finding:
    if pair is None:
        return Verdict.UNKNOWN, "standard accuracy was not measured"
    standard, robust = pair
    if len(standard.n) < 2:
        return Verdict.UNKNOWN, "there is one size only"
    ratios = {target: ratio_needed(standard, robust, target) for target in targets}
    known = {target: ratio for target, ratio in ratios.items() if str(ratio.amount) != "unknown"}
    seeds = len(standard.accuracy)
    sizes = f"N from {standard.n[0]:,g} to {standard.n[-1]:,g}, {seeds} seed{'s' * (seeds > 1)}"
    if not known:
        return Verdict.UNKNOWN, f"neither accuracy reaches a target within the sizes, {sizes}"
    each = [judged((ratio.low, ratio.high), gt, 1) for ratio in known.values()]
    verdict = Verdict.FAILS if any(ratio.high < 1 for ratio in known.values()) else any_of(each)
    return verdict, "; ".join(f"{PERCENT.tick(target)}: {ratio}" for target, ratio in known.items()) + f" ({sizes})"


def _rising(pair: Pair) -> Finding:
    if pair is None:
        return Verdict.UNKNOWN, "standard accuracy was not measured"
    standard, robust = pair
    if len(standard.n) < 2:
        return Verdict.UNKNOWN, "there is one size only"
    before, last = standard.n[-2:]
    rises = [[(1, curves, last), (-1, curves, before)] for curves in (robust, standard)]
    difference = contrast([*rises[0], *((-sign, curves, n) for sign, curves, n in rises[1])])
    robust_rise, standard_rise = (contrast(rise).text(POINTS) for rise in rises)
    return judged(difference, gt, 0), (
        f"from N = {before:,g} to {last:,g} robust accuracy rises by {robust_rise}, standard accuracy by "
        f"{standard_rise}, a difference of {difference.text(POINTS)}"
    )


def _radii(table: "DataFrame") -> Finding:
    trained = set(table["eps_train"])
    if len(trained) < 2 or 0 not in trained:
        return Verdict.UNKNOWN, "it takes natural training and training with another radius"
    largest = max(trained)
    robust = _wins(table[table["eps_test"] > 0], largest)
    natural = _wins(table[table["eps_test"] == 0], 0)
    if robust is None or natural is None:
        return Verdict.UNKNOWN, "not all of it was measured"
    (robust_share, robust_text), (natural_share, natural_text) = robust, natural
    return all_of(judged(share, ge, ALMOST_ALL) for share in (robust_share, natural_share)), (
        f"the largest training radius, {largest:g}, is best for {robust_text.format('under attack')}, natural training "
        f"for {natural_text.format('without')}"
    )


def _wins(table: "DataFrame", eps_train: float) -> tuple[Estimate, str] | None:
    """The share of cases in which no candidate beats those of a training radius on validation images."""
    alone = table[table["eps_train"] == eps_train]
    if alone.empty:
        return None
    cell = ["n", "seed", "eps_test"]
    both = best_over(alone)[[*cell, "val"]].merge(best_over(table)[[*cell, "val"]], on=cell)
    wins, cases = int((both["val_x"] == both["val_y"]).sum()), len(both)
    low, high = map(float, wilson_interval(wins, cases))
    share = Estimate(wins / cases, low, high, cases)
    return share, f"{wins} of {cases} cases {{}}, {share.text()}"


def _gap(table: "DataFrame", best: "DataFrame", eps: float) -> Finding:
    """Train less test accuracy under attack, of the chosen candidates, at the smallest and at the largest size."""
    from pandas import concat

    names = ["n", "seed", "model", "eps_train", "checkpoint"]
    test = best[best["eps_test"] == eps]
    trained = table[(table["eps_test"] == eps) & (table["split"] == "train")].merge(test[names], on=names)
    both = _with_both(concat([test, trained]), "split")
    if both.empty:
        return Verdict.UNKNOWN, "accuracy on training images was not measured"
    train, test_curves = (curves_of(both[both["split"] == split]) for split in ("train", "test"))
    if len(train.n) < 2:
        return Verdict.UNKNOWN, "there is one size only"
    first, last = train.n[0], train.n[-1]
    gaps = {n: [(1, train, n), (-1, test_curves, n)] for n in (first, last)}
    change = contrast([*gaps[last], *((-sign, curves, n) for sign, curves, n in gaps[first])])
    at_first, at_last = (contrast(gaps[n]).text(POINTS) for n in (first, last))
    return judged(change, lt, 0), (
        f"the gap is {at_first} at N = {first:,g} and {at_last} at N = {last:,g}, a change of {change.text(POINTS)}"
    )
