import pytest

from lightning_robust.studies.theory.claims import claims
from lightning_robust.studies.theory.settings import TheorySettings
from lightning_robust.studies.theory.study import QUESTIONS

SETTINGS = TheorySettings(
    dimensions=(256, 1024, 4096), radii=(0.5,), repeats=2, d=1024, samples=(1, 2), draws=8, self_training_d=4096
)


@pytest.fixture(scope="module")
def rows():
    return [row for question in QUESTIONS for row in question(SETTINGS)]


def verdicts(rows):
    return [claim.holds for claim in claims(rows, SETTINGS)]


def changed(rows, change, **where):
    """The rows, with `change` in those that agree with `where`; there is at least one."""
    hit = [all(row.get(name) == value for name, value in where.items()) for row in rows]
    assert any(hit)
    return [{**row, **change} if yes else row for row, yes in zip(rows, hit, strict=True)]


def test_all_hold(rows):
    assert verdicts(rows) == [True] * 5


@pytest.mark.parametrize(
    ("number", "change", "where"),
    [
        (1, {"value": 0.3, "low": 0.3, "high": 0.3}, {"metric": "slope", "curve": "n_half"}),
        (1, {"value": 0.2, "low": 0.2, "high": 0.2}, {"metric": "slope", "curve": "n_standard"}),
        (2, {"value": -0.1, "low": -0.11, "high": -0.09}, {"metric": "excess over bayes", "curve": "mean", "n": 2}),
        (2, {"value": 0.6}, {"question": "error", "curve": "theorem_11"}),
        (3, {"value": 0.0}, {"question": "error", "curve": "theorem_21"}),
        (4, {"value": 0.2}, {"question": "bernoulli dimension", "curve": "threshold, attacked", "d": 1024}),
        (4, {"value": 0.001}, {"question": "bernoulli dimension", "curve": "linear, attacked", "d": 1024}),
        (5, {"high": 0.002}, {"question": "self-training", "curve": "self-trained"}),
    ],
)
def test_a_claim_fails_by_its_own_numbers_alone(rows, number, change, where):
    assert [i + 1 for i, holds in enumerate(verdicts(changed(rows, change, **where))) if not holds] == [number]


def test_a_bound_that_says_nothing_is_not_measured(rows):
    without = [row for row in rows if row["curve"] != "theorem_21"]
    assert verdicts(without) == [True, True, None, True, True]


def test_a_claim_says_its_numbers(rows):
    first, *_, last = claims(rows, SETTINGS)
    assert "at eps = 0.5" in first.text
    assert "4,096" in last.text
    assert "1,152 unlabelled points" in last.text
