import math

import numpy as np
import pytest
from scipy import stats

from lightning_robust.learning_curves.contrasts import contrast, rises_more, still_rising
from lightning_robust.learning_curves.per_seed import Curve
from lightning_robust.metrics import wilson_interval


def _curve(*accuracy, n=(500, 1000, 2000), count=1000):
    return Curve(n=n[: len(accuracy)], accuracy=accuracy, count=(count,) * len(accuracy))


def test_the_rise_is_paired_by_seed():
    before, after = np.array([0.5, 0.6, 0.4]), np.array([0.55, 0.66, 0.44])
    curves = {seed: _curve(0.1, *pair) for seed, pair in enumerate(zip(before, after, strict=True))}
    found = still_rising(curves)
    low, high = stats.t.interval(0.95, 2, loc=np.mean(after - before), scale=stats.sem(after - before))
    assert (found.value, found.low, found.high, found.n) == pytest.approx((0.05, low, high, 3000))
    assert still_rising(curves, since=500).value == pytest.approx(np.mean(after) - 0.1)


def test_the_rise_of_one_seed_has_the_interval_of_two_draws():
    found = still_rising({0: _curve(0.4, 0.7, count=50)})
    (a, b), (c, d) = ([float(end) for end in wilson_interval(right, 50)] for right in (20, 35))
    expected = (0.3, 0.3 - math.hypot(0.7 - c, b - 0.4), 0.3 + math.hypot(d - 0.7, 0.4 - a))
    assert (found.value, found.low, found.high) == pytest.approx(expected)


def test_rises_are_compared_seed_by_seed_whatever_their_order():
    standard = {seed: _curve(0.9, 0.9 + 0.01 * seed) for seed in (0, 1, 2)}
    robust = {seed: _curve(0.4, 0.5 + 0.01 * seed) for seed in (2, 0, 1)}
    found = rises_more(robust, standard)
    assert (found.value, found.low, found.high) == pytest.approx((0.1, 0.1, 0.1))


def test_the_interval_of_one_seeds_contrast_covers():
    generator, truth, hits = np.random.default_rng(0), (0.55, 0.6), 0
    for _ in range(400):
        right = generator.binomial(500, truth) / 500
        found = still_rising({0: _curve(*right.tolist(), count=500)})
        hits += found.low <= 0.05 <= found.high
    assert 0.92 <= hits / 400 <= 0.98


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ([], "signs 1 and -1, but got"),
        ([(2, {0: _curve(0.5)}, 500)], r"signs 1 and -1, but got \[2\]"),
        (
            [(1, {0: _curve(0.5)}, 500), (-1, {1: _curve(0.5)}, 500)],
            r"same seeds, at least one, but got \[\[0\], \[1\]\]",
        ),
        ([(1, {}, 500)], "same seeds, at least one"),
        ([(1, {0: _curve(0.5)}, 700)], "Expected argument `n` to be one of the sizes"),
    ],
)
def test_a_contrast_is_checked(terms, message):
    with pytest.raises(ValueError, match=message):
        contrast(terms)


def test_a_rise_takes_two_sizes():
    with pytest.raises(ValueError, match="at least two sizes"):
        still_rising({0: _curve(0.5)})
    with pytest.raises(ValueError, match=r"the smaller sizes \(500,\), but got 1000"):
        still_rising({0: _curve(0.5, 0.6)}, since=1000)
    with pytest.raises(ValueError, match="same sizes for every seed"):
        still_rising({0: _curve(0.5, 0.6), 1: _curve(0.5, 0.6, 0.7)})
