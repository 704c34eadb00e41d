import math

import numpy as np
import pytest
from scipy import stats

from lightning_robust.learning_curves import Curves, contrast, mean_over_seeds
from lightning_robust.metrics import wilson_interval
from tests.learning_curves.helpers import curves


def _rise(accuracies):
    return [(1, accuracies, 1000), (-1, accuracies, 500)]


def test_the_interval_is_that_of_scipy():
    values = [0.21, 0.25, 0.24, 0.19]
    estimate = mean_over_seeds(values, [(0, 1)] * 4, 400)
    low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((np.mean(values), low, high))


def test_one_seed_has_its_own_interval():
    estimate = mean_over_seeds([0.2], [(0.1, 0.4)], 100)
    assert (estimate.value, estimate.low, estimate.high) == (0.2, 0.1, 0.4)


def test_the_rise_is_paired_by_seed():
    before, after = np.array([0.5, 0.6, 0.4]), np.array([0.55, 0.66, 0.44])
    estimate = contrast(_rise(curves(*zip(before, after, strict=True))))
    low, high = stats.t.interval(0.95, 2, loc=np.mean(after - before), scale=stats.sem(after - before))
    assert (estimate.value, estimate.low, estimate.high, estimate.count) == pytest.approx((0.05, low, high, 3000))


def test_the_rise_of_one_seed_has_the_interval_of_two_draws():
    estimate = contrast(_rise(curves((0.4, 0.7), count=50)))
    (a, b), (c, d) = ([float(end) for end in wilson_interval(right, 50)] for right in (20, 35))
    expected = (0.3, 0.3 - math.hypot(0.7 - c, b - 0.4), 0.3 + math.hypot(d - 0.7, 0.4 - a))
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx(expected)


def test_rises_are_compared_seed_by_seed_whatever_their_order():
    standard = Curves(n=(500, 1000), accuracy={s: (0.9, 0.9 + 0.01 * s) for s in (0, 1, 2)}, count=(100, 100))
    robust = Curves(n=(500, 1000), accuracy={s: (0.4, 0.5 + 0.01 * s) for s in (2, 0, 1)}, count=(100, 100))
    estimate = contrast([*_rise(robust), *((-sign, each, n) for sign, each, n in _rise(standard))])
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((0.1, 0.1, 0.1))


def test_the_interval_of_one_seeds_contrast_covers():
    generator, truth, hits = np.random.default_rng(0), (0.55, 0.6), 0
    for _ in range(400):
        right = generator.binomial(500, truth) / 500
        estimate = contrast(_rise(curves(right.tolist(), count=500)))
        hits += estimate.low <= 0.05 <= estimate.high
    assert 0.92 <= hits / 400 <= 0.98


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ([], "signs 1 and -1, but got"),
        ([(2, curves((0.5,)), 500)], r"signs 1 and -1, but got \[2\]"),
        ([(1, curves((0.5,)), 500), (-1, curves((0.5,), (0.6,)), 500)], r"same seeds, but got \[\{0\}, \{0, 1\}\]"),
        ([(1, curves((0.5,)), 700)], "Expected argument `n` to be one of the sizes"),
    ],
)
def test_a_contrast_is_checked(terms, message):
    with pytest.raises(ValueError, match=message):
        contrast(terms)
