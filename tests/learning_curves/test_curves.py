import itertools
import math

import numpy as np
import pandas as pd
import pytest

from lightning_robust.learning_curves import Curves, best_over, curves_of
from lightning_robust.metrics import wilson_interval
from tests.learning_curves.helpers import curves

CANDIDATE = ["model", "eps_train", "checkpoint"]


@pytest.fixture
def table():
    """All candidates at all cells, with accuracies at random."""
    axes = {
        "n": (500, 1000),
        "seed": (0, 1),
        "eps_test": (0, 0.1),
        "model": ("narrow", "wide"),
        "eps_train": (0, 0.1, 0.3),
    }
    axes |= {"checkpoint": ("best", "last"), "split": ("train", "val", "test")}
    rows = pd.DataFrame(list(itertools.product(*axes.values())), columns=list(axes))
    return rows.assign(value=np.random.default_rng(0).random(len(rows)).round(3), count=1000)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_the_best_is_that_of_a_plain_search(table, split):
    best = best_over(table, split=split)
    assert len(best) == 8
    for row in best.to_dict("records"):
        here = table[(table.n == row["n"]) & (table.seed == row["seed"]) & (table.eps_test == row["eps_test"])]
        top = max((r for r in here.to_dict("records") if r["split"] == "val"), key=lambda r: r["value"])
        (expected,) = [
            r
            for r in here.to_dict("records")
            if r["split"] == split and all(r[name] == top[name] for name in CANDIDATE)
        ]
        assert (row["val"], row["value"], row["split"]) == (top["value"], expected["value"], split)


def test_the_test_set_chooses_nothing(table):
    names = [*CANDIDATE, "val"]
    other = table.assign(value=table["value"].where(table["split"] != "test", 1 - table["value"]))
    assert best_over(table)[names].equals(best_over(other)[names])


@pytest.mark.parametrize("order", [(0.3, 0.1, 0), (0, 0.3, 0.1)])
def test_among_equals_the_first_wins(order):
    rows = [
        {"n": 500, "seed": 0, "eps_test": 0.1, "eps_train": e, "split": s, "value": 0.5}
        for e in order
        for s in ("test", "val")
    ]
    assert best_over(pd.DataFrame(rows))["eps_train"].tolist() == [order[0]]


@pytest.mark.parametrize(("split", "at"), [("val", ""), ("test", " at {'n': 500, 'seed': 0, 'eps_test': 0.0, 'model'")])
def test_a_missing_or_repeated_row_is_refused(table, split, at):
    gone = table.index[table["split"] == split][0]
    with pytest.raises(ValueError, match=f"rows of the splits val and test for each candidate, but one is missing{at}"):
        best_over(table.drop(index=gone))
    with pytest.raises(ValueError, match=r"one row for each of \['n', .*, but got two at \{'n': 500"):
        best_over(pd.concat([table, table.loc[[gone]]]))


def test_curves_have_the_sizes_of_all_seeds_in_order():
    sizes = {3: (500, 1000, 2000), 5: (1000, 2000)}
    rows = [{"n": n, "seed": s, "value": n / 10_000, "count": 1000 - s} for s in sizes for n in reversed(sizes[s])]
    assert curves_of(pd.DataFrame(rows)) == Curves(
        n=(1000, 2000), accuracy={3: (0.1, 0.2), 5: (0.1, 0.2)}, count=(995, 995)
    )


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ([(500, 0), (1000, 1)], "a size that all seeds have"),
        ([(500, 0), (500, 0)], r"but got two at \{'n': 500, 'seed': 0\}"),
    ],
)
def test_curves_that_cannot_be(places, message):
    table = pd.DataFrame(places, columns=["n", "seed"]).assign(value=0.5, count=10)
    with pytest.raises(ValueError, match=message):
        curves_of(table)


@pytest.mark.parametrize(
    ("changes", "argument"),
    [
        ({"n": ()}, "n"),
        ({"n": (0, 500)}, "n"),
        ({"n": (1000, 500)}, "n"),
        ({"n": (500, math.inf)}, "n"),
        ({"accuracy": {}}, "accuracy"),
        ({"accuracy": {0: (0.5,)}}, "accuracy"),
        ({"accuracy": {0: (0.5, 1.1)}}, "accuracy"),
        ({"accuracy": {0: (0.5, math.nan)}}, "accuracy"),
        ({"count": (1000,)}, "count"),
        ({"count": (1000, 0)}, "count"),
    ],
)
def test_curves_are_checked(changes, argument):
    with pytest.raises(ValueError, match=f"`{argument}"):
        Curves(**{"n": (500, 1000), "accuracy": {0: (0.5, 0.6)}, "count": (1000, 1000), **changes})


def test_the_ends_of_an_accuracy_are_wilsons():
    ends = [float(end) for end in wilson_interval(700, 1000)]
    assert curves((0.5, 0.7)).at(1000)[0] == pytest.approx((0.7, *ends))
    with pytest.raises(ValueError, match=r"one of the sizes \(500.0, 1000.0\), but got 700"):
        curves((0.5, 0.7)).at(700)
