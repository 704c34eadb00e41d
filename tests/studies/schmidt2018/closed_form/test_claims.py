import pytest

from lightning_robust_studies.claims import Verdict
from lightning_robust_studies.schmidt2018.closed_form.claims import claims
from lightning_robust_studies.schmidt2018.closed_form.rows import compute
from lightning_robust_studies.schmidt2018.closed_form.settings import TheorySettings

SETTINGS = TheorySettings(
    dimensions=(256, 1024, 4096), radii=(0.5,), repeats=2, d=1024, samples=(1, 2), draws=8, self_training_d=4096
)


@pytest.fixture(scope="module")
def rows():
    return compute(SETTINGS)


def verdicts(rows):
    return [claim.verdict for claim in claims(rows, SETTINGS)]


def changed(rows, change, **where):
    """The rows, with `change` in those that agree with `where`; there is at least one."""
    hit = (rows[list(where)] == list(where.values())).all(axis=1)
    assert hit.any()
    return rows.assign(**{name: rows[name].mask(hit, value) for name, value in change.items()})


def test_all_hold(rows):
    assert verdicts(rows) == [Verdict.HOLDS] * 5


HALF, STANDARD = {"metric": "slope", "curve": "n_half"}, {"metric": "slope", "curve": "n_standard"}
EXCESS = {"metric": "excess over bayes", "curve": "mean", "n": 2}
BOUND_11, BOUND_21 = ({"question": "error", "curve": f"theorem_{i}"} for i in (11, 21))
BAYES = {"question": "error", "curve": "bayes"}
MEAN = {"question": "error", "model": "Gaussian, flat theta", "curve": "mean, attacked"}
ONE = {"question": "bernoulli dimension", "d": 1024}
TRAINED = {"question": "self-training", "curve": "self-trained"}


@pytest.mark.parametrize(
    ("number", "verdict", "value", "low", "high", "where"),
    [
        (1, Verdict.FAILS, 0.3, 0.3, 0.3, HALF),
        (1, Verdict.FAILS, 0.6, 0.53, 0.67, HALF),
        (1, Verdict.OPEN, 0.5, 0.45, 0.55, HALF),
        (1, Verdict.OPEN, 0.6, 0.51, 0.69, HALF),
        (1, Verdict.FAILS, 0.2, 0.2, 0.2, STANDARD),
        (1, Verdict.OPEN, 0.04, 0.0, 0.08, STANDARD),
        (1, Verdict.OPEN, 0.06, 0.04, 0.08, STANDARD),
        (2, Verdict.FAILS, -0.1, -0.11, -0.09, EXCESS),
        (2, Verdict.FAILS, 0.6, 0.6, 0.6, BOUND_11),
        (2, Verdict.OPEN, 0.5, 0.0, 0.5, BAYES),
        (3, Verdict.FAILS, 0.0, 0.0, 0.0, BOUND_21),
        (3, Verdict.OPEN, 0.0, 0.0, 1.0, MEAN),
        (4, Verdict.FAILS, 0.2, 0.2, 0.2, {**ONE, "curve": "threshold, attacked"}),
        (4, Verdict.FAILS, 0.001, 0.001, 0.001, {**ONE, "curve": "linear, attacked"}),
        (5, Verdict.FAILS, 0.003, 0.002, 0.004, TRAINED),
        (5, Verdict.OPEN, 0.0005, 0.0, 0.002, TRAINED),
        (5, Verdict.OPEN, 0.0015, 0.0005, 0.002, TRAINED),
    ],
)
def test_a_claim_is_judged_by_its_own_numbers_alone(rows, number, verdict, value, low, high, where):
    judged = verdicts(changed(rows, {"value": value, "low": low, "high": high}, **where))
    assert judged == [verdict if i == number else Verdict.HOLDS for i in range(1, 6)]


def test_a_bound_that_says_nothing_is_not_measured(rows):
    without = rows[rows["curve"] != "theorem_21"]
    assert verdicts(without) == [Verdict.UNKNOWN if i == 3 else Verdict.HOLDS for i in range(1, 6)]


def test_a_claim_says_its_numbers(rows):
    first, *_, last = claims(rows, SETTINGS)
    assert "at eps = 0.5" in first.text
    assert "4,096" in last.text
    assert "1,152 unlabeled points" in last.text
