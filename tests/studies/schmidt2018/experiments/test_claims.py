import math

import pytest

from lightning_robust._command import SettingsError
from lightning_robust.learning_curves import LearningCurves
from lightning_robust_studies.claims import Verdict
from lightning_robust_studies.schmidt2018.experiments.claims import claims

SIZES = (500, 1000, 2000, 4000, 8000)
TRAIN_RADII = (0, 0.1, 0.3)
TEST_RADII = (0, 0.1, 0.3)


def _test_accuracy(n, eps_test, eps_train):
    """As in the paper: natural training is best without an attack, the largest radius under any."""
    doublings = math.log2(n / 500)
    if eps_test == 0:
        return 0.9 + 0.08 * (1 - 0.3**doublings) - 0.1 * eps_train
    return 0.3 + 0.1 * doublings - 0.5 * eps_test + 0.2 * eps_train


def _train_accuracy(n, eps_test, eps_train):
    return 0.95 - 0.01 * math.log2(n / 500)


def _study(test=_test_accuracy, train=_train_accuracy, *, seeds=3, sizes=SIZES, data=("mnist",), test_radii=TEST_RADII):
    """Rows of one model and checkpoint; seeds differ by up to 0.01."""
    rows = []
    for name in data:
        for n in sizes:
            for seed in range(seeds):
                for eps_train in TRAIN_RADII:
                    for eps_test in test_radii:
                        cell = {"data": name, "n": n, "model": "cnn", "eps_train": eps_train, "seed": seed}
                        cell |= {"checkpoint": "best", "eps_test": eps_test}
                        shift = 0.005 * (seed % 3 - 1) * (1 if n % 1000 else -1)
                        measured = test(n, eps_test, eps_train)
                        for split, value in (
                            ("train", train(n, eps_test, eps_train)),
                            ("val", measured),
                            ("test", measured + shift),
                        ):
                            value = min(max(value, 0), 1)
                            rows.append({**cell, "split": split, "value": value, "low": 0, "high": 1, "count": 2000})
    return rows


def _claims(rows, **options):
    names = dict.fromkeys(row["data"] for row in rows)
    return claims({data: LearningCurves([r for r in rows if r["data"] == data]) for data in names}, **options)


def _verdicts(judged):
    """The verdicts as letters: H holds, F does not, O not decided, U not measured."""
    return "".join({"FAILS": "F", "UNKNOWN": "U"}.get(claim.verdict.name, claim.verdict.name[0]) for claim in judged)


def test_all_claims_hold_where_the_numbers_are_those_of_the_paper():
    judged = _claims(_study(seeds=8))
    assert _verdicts(judged) == "HHHH"
    more, rising, radii, gap = (claim.text for claim in judged)
    assert "mnist, radius 0.3 (holds): " in more
    assert "N from 500 to 8,000, 8 seeds" in more
    assert "70 %: > 16 [" in more
    assert "∞), censored: seeds 0, 1, 2, 3, 4, 5, 6, 7" in more
    assert "from N = 4,000 to 8,000 robust accuracy rises by 10.0 points" in rising
    assert "the largest training radius, 0.3, is best for 80 of 80 cases under attack" in radii
    assert "natural training for 40 of 40 cases without, 100.0 % [91.2, 100.0]" in radii
    # Train less test: 0.95 - 0.21 at 500, 0.91 - 0.61 at 8000.
    assert "the gap is 74.1 points" in gap
    assert "a change of -44.1 points" in gap


def _robust_is_standard(n, eps_test, eps_train):
    return 0.2 + 0.1 * math.log2(n / 500) + 0.001 * (eps_train if eps_test else -eps_train)


def _robust_is_flat(n, eps_test, eps_train):
    return 0.5 + 0.1 * eps_train if eps_test else _test_accuracy(n, eps_test, eps_train)


def _natural_is_robust(n, eps_test, eps_train):
    return _test_accuracy(n, eps_test, eps_train) - (0.4 * eps_train if eps_test else 0)


def _robust_is_natural(n, eps_test, eps_train):
    return _test_accuracy(n, eps_test, eps_train) + (0 if eps_test else 0.2 * eps_train)


@pytest.mark.parametrize(
    ("changes", "verdicts"),
    [
        ({"test": _robust_is_standard}, "FFHH"),
        ({"test": _robust_is_flat, "train": lambda n, eps_test, eps_train: 0.9}, "HFHO"),
        ({"test": _natural_is_robust}, "HHFH"),
        ({"test": _robust_is_natural}, "HHFH"),
        ({"train": lambda n, *eps: 0.9 if n == 8000 else 0.5}, "HHHO"),
        ({"train": lambda n, *eps: 1.0 if n == 8000 else 0.5}, "HHHF"),
        ({"test": lambda n, eps, trained: _test_accuracy(n, 0.3 - eps, 0.3 - trained)}, "FFFU"),
    ],
)
def test_each_claim_can_fail(changes, verdicts):
    judged = _claims(_study(**changes, seeds=8))
    assert _verdicts(judged)[: len(verdicts.rstrip("U"))] == verdicts.rstrip("U")


def test_what_few_images_and_seeds_do_not_tell_is_not_decided():
    """With 50 images the intervals are 20 points wide: nothing can be read off, and nothing is refuted."""

    def test(n, eps_test, eps_train):
        return 0.6 + 0.01 * math.log2(n / 500) - 0.1 * eps_test + 0.001 * (eps_train if eps_test else -eps_train)

    rows = [{**row, "count": 50} for row in _study(test, lambda n, *eps: 0.62, seeds=1)]
    judged = _claims(rows, targets=[0.6])
    assert _verdicts(judged) == "OOOO"
    assert "mnist, radius 0.3 (not decided)" in judged[1].text


@pytest.mark.parametrize(("won", "verdict"), [(15, "O"), (13, "O"), (9, "F")])
def test_the_share_of_cases_has_an_interval(won, verdict):
    """15 of 15 are compatible with less than nine in ten, 9 are not with so many."""
    rows = _study()
    natural = [r for r in rows if (r["eps_test"], r["eps_train"], r["split"]) == (0, 0, "val")]
    for row in natural[won:]:
        row["value"] = 0.0
    assert _verdicts(_claims(rows))[2] == verdict
    assert f"natural training for {won} of 15 cases without" in _claims(rows)[2].text


def test_a_claim_holds_on_every_data_set_or_not_at_all():
    rows = [*_study(data=("mnist",), seeds=8), *_study(_natural_is_robust, data=("svhn",))]
    judged = _claims(rows)
    assert _verdicts(judged) == "HHFH"
    assert all("mnist, radius 0.3 (holds)" in claim.text and "svhn, radius 0.3 (" in claim.text for claim in judged)
    assert "svhn, radius 0.3 (does not hold here)" in judged[2].text


def test_a_claim_that_one_data_set_leaves_open_is_open():
    assert _verdicts(_claims([*_study(data=("mnist",), seeds=8), *_study(data=("svhn",), seeds=1)])) == "HHOH"


def test_candidates_are_picked_on_validation_images():
    rows = _study()
    for row in rows:
        if row["split"] == "test" and row["eps_train"] == 0.1:
            row["value"] = 1.0  # the best by far on test images, by no means on validation images
    assert [claim.text for claim in _claims(rows)] == [claim.text for claim in _claims(_study())]


def test_ties_count_for_both():
    judged = _claims(_study(lambda n, eps_test, eps_train: 0.5, seeds=8))
    assert judged[2].verdict is Verdict.HOLDS
    assert "0.3, is best for 80 of 80" in judged[2].text


def test_targets_are_an_argument():
    (more, *_) = _claims(_study(), targets=[0.4])
    # Robust accuracy 0.21 + 0.1 log2(n / 500) is 0.4 after 1.9 doublings, standard accuracy before the smallest size.
    assert "40 %: > 3.7" in more.text
    assert "50 %:" not in more.text


@pytest.mark.parametrize(
    ("rows", "verdicts"),
    [
        (_study(test_radii=(0,)), "UUUU"),
        (_study(test_radii=(0.1, 0.3)), "UUUH"),
        (_study(sizes=(500,)), "UUOU"),
        ([row for row in _study() if row["split"] != "train"], "HHOU"),
        ([row for row in _study() if row["eps_train"] == 0.1], "HHUH"),
        ([row for row in _study() if row["eps_train"] or not row["eps_test"]], "HHOH"),
    ],
)
def test_what_was_not_measured_is_not_claimed(rows, verdicts):
    assert _verdicts(_claims(rows)) == verdicts


def test_targets_that_neither_reaches_decide_nothing():
    judged = _claims(_study(), targets=[0.995])
    assert judged[0].verdict is Verdict.UNKNOWN
    assert "neither accuracy reaches a target within the sizes, N from 500 to 8,000, 3 seeds" in judged[0].text


def test_sizes_and_seeds_without_their_pair_are_left_out():
    rows = [r for r in _study() if not (r["eps_test"] == 0 and (r["seed"] == 2 or r["n"] == 8000))]
    more, rising, *_ = _claims(rows)
    assert "N from 500 to 4,000, 2 seeds" in more.text
    assert "from N = 2,000 to 4,000" in rising.text


def test_rows_must_be_there():
    with pytest.raises(SettingsError, match="`curves` to hold at least one row"):
        claims({"mnist": LearningCurves([])})
    with pytest.raises(ValueError, match="rows of the splits val and test for each candidate, but one is missing"):
        _claims([row for row in _study() if row["split"] != "val"])


def test_one_seed_at_the_largest_size_decides_the_claims_on_that_size():
    rows = [row for row in _study() if row["n"] != 8000 or row["seed"] == 0]
    more, rising, _, shrinks = _claims(rows)
    assert "N from 500 to 4,000, 3 seeds" in more.text
    assert "from N = 4,000 to 8,000" in rising.text
    assert "at N = 8,000" in shrinks.text
