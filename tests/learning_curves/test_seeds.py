import numpy as np
import pytest
from scipy import stats

from lightning_robust.learning_curves.seeds import mean_over_seeds, over_seeds, share
from lightning_robust.plots import Estimate


def test_the_interval_is_that_of_scipy():
    values = [0.21, 0.25, 0.24, 0.19]
    found = mean_over_seeds(values, [(0, 1)] * 4, 400)
    low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert (found.value, found.low, found.high) == pytest.approx((np.mean(values), low, high))


def test_one_seed_has_its_own_interval():
    found = mean_over_seeds([0.2], [(0.1, 0.4)], 100)
    assert (found.value, found.low, found.high) == (0.2, 0.1, 0.4)


def test_rows_are_told_apart_by_all_names_but_the_seed():
    rows = [
        {"n": n, "seed": s, "value": v, "low": v, "high": v, "count": 10}
        for n in (1, 2)
        for s, v in enumerate((0.1 * n, 0.2 * n))
    ]
    found = over_seeds(rows, ("n",))
    assert {key: round(e.value, 6) for key, e in found.items()} == {(1,): 0.15, (2,): 0.3}


def test_shares_stay_between_nothing_and_all():
    found = share(Estimate(0.9, -0.2, 1.3, 10))
    assert (found.value, found.low, found.high) == (0.9, 0.0, 1.0)
