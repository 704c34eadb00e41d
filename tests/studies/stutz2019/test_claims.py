import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lightning_robust_studies.claims import Verdict
from lightning_robust_studies.stutz2019.claims import claims, difference, fits, points
from lightning_robust_studies.stutz2019.counting import counting
from lightning_robust_studies.stutz2019.tables import Tables
from tests.studies.stutz2019.results import leaks_of

SCHEMES = ("normal", "adversarial", "on-true", "on-learned-class")


def _row(value, low=None, high=None, **names):
    low, high = value - 0.01 if low is None else low, value + 0.01 if high is None else high
    return {**names, "value": value, "low": low, "high": high, "count": 100}


def _models(error, on, off, worst=0.5):
    """Rows of three seeds, four schemes and two sizes; errors, on- and off-manifold success are functions."""
    rows = []
    for i, n in enumerate((500, 2500)):
        for scheme in SCHEMES:
            for seed in range(3):
                e = error(i, scheme) + 0.002 * seed
                cell = {"n": n, "scheme": scheme, "seed": seed}
                rows += [
                    _row(e, **cell, metric="test error"),
                    _row(on(e), **cell, metric="on-manifold success"),
                    _row(off(e, scheme), **cell, metric="off-manifold success"),
                    _row(worst, **cell, metric="on-manifold success, worst restart"),
                ]
    return pd.DataFrame(rows)


def _error(i, scheme):
    return {"normal": 0.4, "adversarial": 0.405, "on-true": 0.25, "on-learned-class": 0.35}[scheme] - 0.2 * i


def _as_in_the_paper(**changes):
    functions = {"error": _error, "on": lambda e: 2 * e, "off": lambda e, scheme: 0.3 + 0.4 * (scheme == "normal")}
    return _models(**{**functions, **changes})


def _distances(off=(2.0, 85.0), on=(0.05, 2.0)):
    return pd.DataFrame(
        [
            _row(
                value + 0.001 * seed, n=2500, scheme="normal", seed=seed, threat=threat, manifold="true", metric=metric
            )
            for threat, values in (("off", off), ("on", on))
            for metric, value in zip(("distance", "angle"), values, strict=True)
            for seed in range(3)
        ]
    )


def test_differences_are_taken_in_pairs():
    rows = [
        _row(base + shift, n=500, scheme=scheme, seed=seed, metric="test error")
        for seed, base in enumerate((0.2, 0.4, 0.6))
        for scheme, shift in (("normal", 0.0), ("on-true", -0.05))
    ]
    change = difference(pd.DataFrame(rows), 500, "on-true", "normal")
    # The seeds differ by much, the pairs do not: only pairs give an interval of no width.
    assert (change.value, change.low, change.high) == pytest.approx((-0.05, -0.05, -0.05))


def test_the_difference_of_one_pair_has_the_interval_of_two_draws():
    rows = [
        _row(0.3, 0.27, 0.34, n=500, scheme="normal", seed=0, metric="test error"),
        _row(0.2, 0.18, 0.24, n=500, scheme="on-true", seed=0, metric="test error"),
    ]
    change = difference(pd.DataFrame(rows), 500, "on-true", "normal")
    assert (change.value, change.low, change.high) == pytest.approx(
        (-0.1, -0.1 - np.hypot(0.02, 0.04), -0.1 + np.hypot(0.04, 0.03))
    )


def test_regressions_are_those_of_scipy():
    rows = _as_in_the_paper(on=lambda e: e**2)
    errors = rows[rows["metric"] == "test error"]["value"]
    expected = stats.linregress(errors, np.square(errors))
    lines = fits(rows)
    fit = lines["all", "on-manifold"]
    assert (fit.slope, fit.r, fit.p) == pytest.approx((expected.slope, expected.rvalue, expected.pvalue))
    assert [scheme for scheme, _ in lines] == [name for name in ("all", *SCHEMES) for _ in range(2)]


def test_all_claims_hold_where_the_numbers_are_those_of_the_paper():
    judgements = claims(_as_in_the_paper(), _distances())
    assert [claim.verdict for claim in judgements] == [Verdict.HOLDS] * 4
    assert "-15.0 points" in judgements[2].text
    assert "85.0 degrees" in judgements[0].text


def _scattered(e, by):
    """On-manifold success that follows the test error but for a shift that does not."""
    return 2 * e + by * (round(1e4 * e) // 20 % 3)


@pytest.mark.parametrize(
    ("claim", "verdict", "models", "distances"),
    [
        (1, Verdict.FAILS, {}, {"off": (2.0, 60.0)}),
        (1, Verdict.OPEN, {}, {"off": (2.0, 69.999)}),
        (1, Verdict.FAILS, {}, {"on": (0.5, 2.0)}),
        (1, Verdict.OPEN, {}, {"on": (0.4, 2.0)}),
        (1, Verdict.FAILS, {}, {"on": (0.05, 30.0)}),
        (1, Verdict.OPEN, {}, {"on": (0.05, 20.0)}),
        (2, Verdict.OPEN, {"worst": 0.01}, {}),
        (3, Verdict.FAILS, {"on": lambda e: 0.5 + 0.1 * (round(1000 * e) % 2)}, {}),
        (3, Verdict.OPEN, {"on": lambda e: _scattered(e, 0.2)}, {}),
        (3, Verdict.OPEN, {"on": lambda e: 1.0}, {}),
        (3, Verdict.FAILS, {"off": lambda e, scheme: 1.5 * e}, {}),
        (3, Verdict.OPEN, {"off": lambda e, scheme: _scattered(e, 0.2)}, {}),
        (3, Verdict.HOLDS, {"off": lambda e, scheme: 1.0}, {}),
        (3, Verdict.FAILS, {"error": lambda i, s: _error(i, s) + (0.2 if s == "on-true" and i == 0 else 0)}, {}),
        (4, Verdict.FAILS, {"error": lambda i, s: _error(i, s) + (0.05 if s == "adversarial" else 0)}, {}),
    ],
)
def test_each_claim_has_its_verdict(claim, verdict, models, distances):
    judgements = [each.verdict for each in claims(_as_in_the_paper(**models), _distances(**distances))]
    assert judgements == [verdict if i == claim else Verdict.HOLDS for i in range(1, 5)]


@pytest.mark.parametrize(
    ("scheme", "shift", "claim", "verdict"),
    [
        ("on-true", 0.15, 3, Verdict.OPEN),  # -0.1, 0.0 and 0.1
        ("on-true", 0.3, 3, Verdict.FAILS),
        ("adversarial", 0.0, 4, Verdict.OPEN),
        ("adversarial", 0.5, 4, Verdict.FAILS),
        ("adversarial", -0.3, 4, Verdict.HOLDS),
    ],
)
def test_differences_that_seeds_disagree_on_decide_nothing(scheme, shift, claim, verdict):
    rows = _as_in_the_paper()
    changed = (rows["n"] == 2500) & (rows["scheme"] == scheme) & (rows["metric"] == "test error")
    spread = 0.1 if shift in (0.0, 0.15) else 0.001
    rows.loc[changed, "value"] += shift + spread * (rows.loc[changed, "seed"] - 1)
    assert claims(rows, _distances())[claim - 1].verdict is verdict


def test_what_was_not_measured_is_not_claimed():
    rows = _as_in_the_paper()
    unknown = Verdict.UNKNOWN
    assert [claim.verdict for claim in claims(rows[rows["scheme"] == "on-true"], Tables(rows).distances)] == [
        unknown,
        Verdict.HOLDS,
        unknown,
        unknown,
    ]


def test_the_correlation_of_each_scheme_by_itself_is_told():
    rows = _as_in_the_paper()
    text, lines = claims(rows, _distances())[2].text, fits(rows)
    each = "; ".join(f"{scheme} {lines[scheme, 'on-manifold'].text()}" for scheme in SCHEMES)
    assert f"Each scheme by itself, as in the paper: {each}." in text


def _along(*names):
    """As in the paper, where the true manifold is not known: along learned manifolds instead."""
    rows = _as_in_the_paper()
    rows["scheme"] = rows["scheme"].replace({"on-true": "on-residual-class"})
    on = rows["metric"].str.startswith("on-manifold")
    parts = [rows[on].assign(metric=rows["metric"].str.replace("on-manifold", name)) for name in names]
    return pd.concat([rows[~on], *parts])


def test_without_a_true_manifold_the_claims_are_read_for_one_that_does_not_leak():
    rows = _along("on-learned-class", "on-residual-class")
    judgements = claims(rows, _distances(), leaks_of({"class": 1.0, "residual-class": 0.0}))
    assert [claim.verdict for claim in judgements] == [Verdict.HOLDS] * 4
    text = judgements[2].text
    assert "along the learned manifold of on-residual-class, which does not leak the label, r = 1.000" in text
    assert "Along other manifolds: on-learned-class (leaks the label) r = 1.000" in text
    assert "on-learned-class leaks the label for 1 of 1 models" in text
    assert "residual-class" in judgements[1].text


@pytest.mark.parametrize(
    ("told", "words", "reason"),
    [
        (leaks_of({"class": 1.0}), "which leaks the label", "All manifolds leak the label, so that"),
        (None, "whose leak was not measured", "Whether this manifold leaks the label is not known, so that"),
    ],
)
def test_a_claim_does_not_hold_by_a_leak_nor_where_that_was_not_asked(told, words, reason):
    third = claims(_along("on-learned-class"), _distances(), told)[2]
    assert third.verdict is Verdict.OPEN
    assert f"on-learned-class, {words}" in third.text
    assert f"{reason} this correlation decides nothing." in third.text
    assert ("`--leak_seeds 1`" in third.text) == (told is None)


def test_of_manifolds_that_do_not_leak_one_that_was_trained_along_is_taken():
    rows = _along("on-residual-pca", "on-residual-class")
    third = claims(rows, _distances(), leaks_of({"residual-pca": 0.0, "residual-class": 0.0}))[2]
    assert "along the learned manifold of on-residual-class, which does not leak" in third.text
    rest = rows[rows["scheme"] != "on-residual-class"]
    third = claims(rest, _distances(), leaks_of({"residual-pca": 0.0, "residual-class": 0.0}))[2]
    assert "along the learned manifold of on-residual-pca, which does not leak" in third.text


def test_an_error_that_is_not_lowered_along_an_unmeasured_manifold_decides_nothing():
    rows = _as_in_the_paper(error=lambda i, s: _error(i, s) + 0.1 * (s == "on-learned-class"))
    rows = rows[rows["scheme"] != "on-true"]
    third = _third(
        rows.assign(metric=rows["metric"].str.replace("on-manifold", "on-residual-class")), {"residual-class": 0.0}
    )
    assert third.verdict is Verdict.OPEN
    assert "on-learned-class may leak the label, so that an error that it does not lower decides nothing." in third.text


def test_what_counting_hides_of_the_correlation_is_told_and_decides_nothing():
    rows = _as_in_the_paper(on=lambda e: 0.2 + e / 2)
    few = rows.assign(count=10)
    third, fourth = claims(rows, _distances())[2], claims(few, _distances())[2]
    marks = points(rows)
    marks = marks[marks["threat"] == "on-manifold"]
    r = fits(rows)["all", "on-manifold"].r
    assert (
        f"Each success is over 100 to 100 images: {counting(marks['success'], marks['images'], r).text()}" in third.text
    )
    assert "over 10 to 10 images" in fourth.text
    assert third.verdict is fourth.verdict is Verdict.HOLDS


def _third(rows, told):
    return claims(rows, _distances(), leaks_of(told))[2]


def test_a_claim_does_not_fail_by_a_leak():
    rows = _along("on-learned-class")
    success = rows["metric"] == "on-learned-class success"
    rows.loc[success, "value"] = 0.5 - rows.loc[success, "value"] / 2
    assert _third(rows, {"class": 0.0}).verdict is Verdict.FAILS
    assert claims(rows, _distances())[2].verdict is Verdict.OPEN
    assert _third(rows, {"class": 1.0}).verdict is Verdict.OPEN
    assert _third(_along("on-learned-class"), {"class": 1.0}).verdict is Verdict.OPEN
    off = rows["metric"] == "off-manifold success"
    rows.loc[off, "value"] = 1.5 * rows.loc[rows["metric"] == "test error", "value"].to_numpy()
    assert _third(rows, {"class": 1.0}).verdict is Verdict.FAILS


@pytest.mark.parametrize(
    ("shift", "leaks", "verdict"),
    [(0.0, 0.0, Verdict.HOLDS), (0.0, 1.0, Verdict.HOLDS), (0.1, 0.0, Verdict.FAILS), (0.1, 1.0, Verdict.OPEN)],
)
def test_training_along_a_manifold_that_leaks_may_lower_the_error_but_need_not(shift, leaks, verdict):
    rows = _as_in_the_paper(error=lambda i, s: _error(i, s) + shift * (s == "on-learned-class"))
    rows["metric"] = rows["metric"].str.replace("on-manifold", "on-residual-class")
    third = _third(rows[rows["scheme"] != "on-true"], {"class": leaks, "residual-class": 0.0})
    assert "Training on-learned-class changes it" in third.text
    assert third.verdict is verdict
    assert ("an error that it does not lower decides nothing" in third.text) == (verdict is Verdict.OPEN)


@pytest.mark.parametrize(("shift", "verdict"), [(0.0, Verdict.HOLDS), (0.1, Verdict.FAILS)])
def test_one_network_that_keeps_its_accuracy_is_enough(shift, verdict):
    rows = _as_in_the_paper(error=lambda i, s: _error(i, s) + (0.05 if s == "adversarial" else 0))
    pair = rows[rows["scheme"].isin(("normal", "adversarial")) & (rows["n"] == 2500)].copy()
    errors = (pair["metric"] == "test error") & (pair["scheme"] == "adversarial")
    pair.loc[errors, ["value", "low", "high"]] += shift - 0.05
    pair["scheme"] += "-resnet"
    fourth = claims(pd.concat([rows, pair]), _distances())[3]
    assert fourth.verdict is verdict
    assert f"a residual network, four times the passes by {100 * (shift + 0.005):.1f} points" in fourth.text
