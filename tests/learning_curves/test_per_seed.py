import itertools
import math

import numpy as np
import pytest

from lightning_robust.cells.errors import StudyArgumentError
from lightning_robust.learning_curves.per_seed import Curve, best_over, curve_per_seed, shared_sizes
from lightning_robust.metrics import wilson_interval

MODELS, RADII, CHECKPOINTS = ("narrow", "wide"), (0, 0.1, 0.3), ("best", "last")


def _row(value, **names):
    return {**names, "value": value, "low": max(0, value - 0.01), "high": min(1, value + 0.01), "count": 1000}


def _study(generator):
    """Rows of all candidates at all cells, with accuracies at random."""
    axes = itertools.product(("mnist", "svhn"), (500, 1000), (0, 1), (0, 0.1), MODELS, RADII, CHECKPOINTS)
    names = ("data", "n", "seed", "eps_test", "model", "eps_train", "checkpoint")
    return [
        _row(round(generator.random(), 3), **dict(zip(names, cell, strict=True)), split=split)
        for cell in axes
        for split in ("train", "val", "test")
    ]


def _curve(*accuracy, n=(500, 1000, 2000), count=1000):
    return Curve(n=n[: len(accuracy)], accuracy=accuracy, count=(count,) * len(accuracy))


def _by_hand(rows, cell, split, keep=lambda row: True):
    """The value of `split` of the candidate with the highest validation accuracy, by plain search."""
    here = [row for row in rows if all(row[name] == value for name, value in cell.items()) and keep(row)]
    top = max((row for row in here if row["split"] == "val"), key=lambda row: row["value"])
    names = ("model", "eps_train", "checkpoint")
    (found,) = [row for row in here if row["split"] == split and all(row[name] == top[name] for name in names)]
    return top["value"], found["value"]


@pytest.mark.parametrize("split", ["train", "val", "test"])
@pytest.mark.parametrize("only", [{}, {"eps_train": 0.1}, {"model": "wide", "checkpoint": "last"}])
def test_the_best_is_that_of_a_plain_search(split, only):
    rows = _study(np.random.default_rng(0))
    found = best_over(rows, split=split, only=only)
    assert len(found) == 16
    for row in found:
        cell = {name: row[name] for name in ("data", "n", "seed", "eps_test")}
        expected = _by_hand(rows, cell, split, lambda r: all(r[name] == value for name, value in only.items()))
        assert (row["val"], row["value"]) == expected
        assert row["split"] == split
        assert all(row[name] == value for name, value in only.items())


def test_the_test_set_chooses_nothing():
    rows = _study(np.random.default_rng(0))
    other = [{**row, "value": 1 - row["value"]} if row["split"] == "test" else row for row in rows]
    names = ("model", "eps_train", "checkpoint", "val")
    assert [[row[n] for n in names] for row in best_over(rows)] == [[row[n] for n in names] for row in best_over(other)]


def test_of_equals_it_is_the_first():
    cell = {"data": "mnist", "n": 500, "seed": 0, "eps_test": 0.1, "model": "wide", "checkpoint": "best"}
    for order in ((0.3, 0.1, 0), (0, 0.3, 0.1)):
        rows = [_row(0.5, **cell, eps_train=eps, split=split) for eps in order for split in ("test", "val")]
        (row,) = best_over(rows)
        assert row["eps_train"] == order[0]


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_missing_row_is_named(split):
    rows = _study(np.random.default_rng(0))
    gone = next(row for row in rows if row["split"] == split and (row["n"], row["eps_train"]) == (1000, 0.3))
    with pytest.raises(
        StudyArgumentError, match=rf"row of split {split} .*none at data=mnist n=1000 seed=0 eps_test=0 "
    ):
        best_over([row for row in rows if row is not gone])


def test_a_row_that_does_not_take_part_may_be_missing():
    rows = [row for row in _study(np.random.default_rng(0)) if row["eps_train"] != 0.3 or row["split"] != "val"]
    assert len(best_over(rows, only={"eps_train": 0.1})) == 16


def test_candidates_must_be_told_apart():
    rows = _study(np.random.default_rng(0))
    rates = [{**row, "rate": rate} for row in rows for rate in (0.1, 0.01)]
    with pytest.raises(StudyArgumentError, match=r"two for data=mnist .* Name what tells them apart in `candidate`"):
        best_over(rates)
    assert len(best_over(rates, candidate=("model", "eps_train", "checkpoint", "rate"))) == 16


def test_what_is_not_there_cannot_be_asked_for():
    with pytest.raises(StudyArgumentError, match=r"one of \[0, 0.1, 0.3\] for `eps_train`, but got 0.2"):
        best_over(_study(np.random.default_rng(0)), only={"eps_train": 0.2})


def _rows_of(sizes):
    return [
        _row(n / 10_000, data="mnist", eps_test=0.1, seed=seed, n=n)
        for seed, of_seed in sizes.items()
        for n in reversed(of_seed)
    ]


def test_curves_have_the_sizes_of_all_seeds_in_order():
    found = curve_per_seed(_rows_of({3: (500, 1000, 2000), 5: (1000, 2000)}), "mnist", 0.1)
    assert found == {seed: Curve(n=(1000, 2000), accuracy=(0.1, 0.2), count=(1000, 1000)) for seed in (3, 5)}


@pytest.mark.parametrize(
    ("sizes", "data", "message"),
    [
        ({0: (500,)}, "svhn", "rows for svhn at eps_test=0.1, but there are none"),
        ({0: (500,), 1: (1000,)}, "mnist", r"a size that all seeds .* got \{0: \[500\], 1: \[1000\]\}"),
        ({0: (500, 500)}, "mnist", "got two for mnist at eps_test=0.1: n=500 seed=0"),
    ],
)
def test_curves_that_cannot_be(sizes, data, message):
    with pytest.raises(StudyArgumentError, match=message):
        curve_per_seed(_rows_of(sizes), data, 0.1)


@pytest.mark.parametrize(
    ("changes", "argument"),
    [
        ({"n": ()}, "n"),
        ({"n": (0, 500)}, "n"),
        ({"n": (1000, 500)}, "n"),
        ({"n": (500, math.inf)}, "n"),
        ({"accuracy": (0.5,)}, "accuracy"),
        ({"accuracy": (0.5, 1.1)}, "accuracy"),
        ({"accuracy": (0.5, math.nan)}, "accuracy"),
        ({"count": (1000,)}, "count"),
        ({"count": (1000, 0)}, "count"),
    ],
)
def test_a_curve_is_checked(changes, argument):
    with pytest.raises(ValueError, match=f"Expected argument `{argument}`"):
        Curve(**{"n": (500, 1000), "accuracy": (0.5, 0.6), "count": (1000, 1000), **changes})


def test_the_ends_of_an_accuracy_are_wilsons():
    value, low, high = _curve(0.5, 0.7).at(1000)
    assert (value, low, high) == pytest.approx((0.7, *(float(end) for end in wilson_interval(700, 1000))))
    with pytest.raises(ValueError, match=r"one of the sizes \(500, 1000\), but got 700"):
        _curve(0.5, 0.7).at(700)


def test_sizes_are_shared_by_all_seeds():
    assert shared_sizes({0: _curve(0.5, 0.6), 1: _curve(0.4, 0.7)}) == (500, 1000)
    with pytest.raises(ValueError, match="same sizes for every seed"):
        shared_sizes({0: _curve(0.5, 0.6), 1: _curve(0.5, 0.6, 0.7)})
