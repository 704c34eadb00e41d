import math

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.isotonic import IsotonicRegression

from lightning_robust.learning_curves.amounts import Amount
from lightning_robust.learning_curves.per_seed import Curve
from lightning_robust.learning_curves.samples_needed import (
    isotonic,
    needed_with_interval,
    ratio_needed,
    samples_needed,
)

SIZES = (500.0, 1000.0, 2000.0, 4000.0, 8000.0, 16000.0)
STANDARD = np.array([0.5, 0.6, 0.68, 0.75, 0.8, 0.83])
ROBUST = np.array([0.2, 0.35, 0.5, 0.62, 0.72, 0.78])


def _curves(*rows, count=1000, sizes=SIZES):
    return {
        seed: Curve(n=sizes, accuracy=tuple(float(v) for v in row), count=(count,) * len(sizes))
        for seed, row in enumerate(rows)
    }


def _measured(truth, seeds, generator, spread, images=1000):
    """Curves of seeds that differ, on images that all share: an image is right where its ease exceeds a threshold."""
    ease = generator.normal(size=images)
    rows = []
    for _ in range(seeds):
        of_seed = np.clip(truth + generator.normal(0, spread) + generator.normal(0, spread, len(truth)), 0, 1)
        mixed = np.sqrt(0.7) * ease + np.sqrt(0.3) * generator.normal(size=(len(truth), images))
        rows.append((mixed < norm.ppf(of_seed)[:, None]).mean(1))
    return _curves(*rows, count=images)


@pytest.mark.parametrize("m", [1, 2, 5, 9])
def test_isotonic_is_that_of_scikit_learn(m):
    generator = np.random.default_rng(m)
    values, weights = generator.normal(size=(50, m)) + 0.1 * np.arange(m), generator.uniform(0.1, 5, m)
    expected = [IsotonicRegression().fit_transform(np.arange(m), row, sample_weight=weights) for row in values]
    np.testing.assert_allclose(isotonic(values, weights), expected, atol=1e-12)


def test_rising_curves_stay_as_they_are():
    np.testing.assert_allclose(isotonic(STANDARD[None], np.full(6, 1000.0))[0], STANDARD, atol=1e-14)


@pytest.mark.parametrize("n", [500.0, 731.0, 1000.0, 5000.0, 16000.0])
def test_the_crossing_of_a_line_in_log_n_is_exact(n):
    def line(size):
        return 0.1 + 0.08 * math.log(size)

    found = samples_needed(SIZES, [line(size) for size in SIZES], line(n))
    assert found.known
    assert found.value == pytest.approx(n)


def test_a_crossing_is_where_linear_interpolation_of_the_isotonic_curve_says():
    generator = np.random.default_rng(0)
    for _ in range(100):
        accuracy = np.clip(STANDARD + generator.normal(0, 0.05, 6), 0, 1)
        smooth = IsotonicRegression().fit_transform(np.log(SIZES), accuracy)
        found = samples_needed(SIZES, accuracy, 0.7)
        if found.known:
            assert np.interp(math.log(found.value), np.log(SIZES), smooth) == pytest.approx(0.7)
        else:
            assert smooth[-1] < 0.7 or smooth[0] > 0.7


def test_weights_weigh():
    light = samples_needed([500, 1000, 2000], [0.4, 0.8, 0.5], 0.55, weights=[1, 1, 9])
    heavy = samples_needed([500, 1000, 2000], [0.4, 0.8, 0.5], 0.55, weights=[1, 9, 1])
    assert str(light) == "> 2,000"  # pooled: (0.8 + 9 * 0.5) / 10 = 0.53
    assert heavy.value == pytest.approx(500 * 2 ** ((0.55 - 0.4) / (0.77 - 0.4)))  # pooled: (9 * 0.8 + 0.5) / 10 = 0.77


@pytest.mark.parametrize(
    ("target", "amount"), [(0.4, Amount(0, 500)), (0.5, Amount(500, 500)), (0.9, Amount(16000, math.inf))]
)
def test_nothing_is_extrapolated(target, amount):
    assert samples_needed(SIZES, STANDARD, target) == amount


def test_one_size_is_a_bound():
    found = [samples_needed([500], [0.5], target) for target in (0.4, 0.5, 0.6)]
    assert [str(amount) for amount in found] == ["< 500", "500", "> 500"]


def test_a_flat_stretch_at_the_target_counts_from_its_start():
    assert samples_needed([500, 1000, 2000, 4000], [0.4, 0.6, 0.6, 0.8], 0.6).value == pytest.approx(1000)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (([500, 1000], [0.5, 0.6], 0.0), "target"),
        (([500, 1000], [0.5, 0.6], 1.0), "target"),
        (([500, 1000], [0.5, 0.6], math.nan), "target"),
        (([], [], 0.5), "n"),
        (([1000, 500], [0.5, 0.6], 0.5), "n"),
        (([0, 500], [0.5, 0.6], 0.5), "n"),
        (([500, 1000], [0.5], 0.5), "accuracy"),
        (([500, 1000], [0.5, math.nan], 0.5), "accuracy"),
        (([500, 1000], [0.5, 0.6], 0.5, [1]), "weights"),
        (([500, 1000], [0.5, 0.6], 0.5, [1, 0]), "weights"),
    ],
)
def test_arguments_are_checked(arguments, name):
    with pytest.raises(ValueError, match=f"Expected argument `{name}`"):
        samples_needed(*arguments)


@pytest.mark.parametrize("call", [needed_with_interval, lambda c, t, **k: ratio_needed(c, c, t, **k)])
@pytest.mark.parametrize(
    ("target", "changes", "name"),
    [(1.5, {}, "target"), (0.7, {"resamples": 50}, "resamples"), (0.7, {"confidence": 1}, "confidence")],
)
def test_arguments_of_intervals_are_checked(call, target, changes, name):
    with pytest.raises(ValueError, match=f"Expected argument `{name}`"):
        call(_curves(STANDARD), target, **changes)


def test_many_images_and_one_seed_leave_no_doubt():
    found = needed_with_interval(_curves(STANDARD, count=10**9), 0.7, resamples=200)
    truth = samples_needed(SIZES, STANDARD, 0.7).value
    assert (found.amount.value, found.low, found.high) == pytest.approx((truth, truth, truth), rel=1e-3)


def test_equal_seeds_do_not_make_the_interval_collapse():
    one, three = (needed_with_interval(_curves(*[STANDARD] * seeds), 0.7) for seeds in (1, 3))
    assert three.high / three.low == pytest.approx(one.high / one.low, rel=0.1)
    assert three.high / three.low > 1.3


def test_the_same_seed_gives_the_same_interval():
    curves = _curves(STANDARD, STANDARD + 0.01)
    assert needed_with_interval(curves, 0.7, seed=1) == needed_with_interval(curves, 0.7, seed=1)
    assert needed_with_interval(curves, 0.7, seed=1) != needed_with_interval(curves, 0.7, seed=2)


def test_intervals_are_open_beyond_the_sizes():
    above, below = (needed_with_interval(_curves(STANDARD), target) for target in (0.835, 0.49))
    assert (str(above.amount), above.high) == ("> 16,000", math.inf)
    assert 8000 < above.low < 16000
    assert (str(below.amount), below.low) == ("< 500", 0)
    assert 500 < below.high < 1000
    assert needed_with_interval(_curves(STANDARD), 0.82).high == math.inf


@pytest.mark.parametrize(("seeds", "spread"), [(1, 0.0), (3, 0.015)])
def test_intervals_cover(seeds, spread):
    generator, runs = np.random.default_rng(1), 200
    needed = samples_needed(SIZES, STANDARD, 0.7).value
    ratio = samples_needed(SIZES, ROBUST, 0.7).value / needed
    hits = np.zeros(2)
    for _ in range(runs):
        standard, robust = (_measured(truth, seeds, generator, spread) for truth in (STANDARD, ROBUST))
        found = needed_with_interval(standard, 0.7, resamples=300)
        quotient = ratio_needed(standard, robust, 0.7, resamples=300)
        hits += found.low <= needed <= found.high, quotient.low <= ratio <= quotient.high
    assert (hits / runs >= 0.9).all(), hits / runs


def test_the_ratio_of_shifted_curves_is_the_shift():
    robust = _curves(STANDARD, sizes=tuple(8 * n for n in SIZES), count=10**8)
    found = ratio_needed(_curves(STANDARD, count=10**8), robust, 0.7, resamples=200)
    assert (found.amount.value, found.low, found.high) == pytest.approx((8, 8, 8), rel=5e-3)


def test_the_ratio_is_paired_by_seed():
    # Seeds differ by much, standard and robust in the same way: their ratio is sure, unless seeds are mixed up.
    shift, line = (-0.02, -0.01, 0.0, 0.01, 0.02), 0.1 * np.log(SIZES)
    standard, robust = (_curves(*(line - down + s for s in shift), count=10**8) for down in (0.15, 0.25))
    alone = needed_with_interval(standard, 0.6, resamples=500)
    assert alone.high / alone.low > 1.3
    found = ratio_needed(standard, dict(reversed(robust.items())), 0.6, resamples=500)
    assert (found.amount.value, found.low, found.high) == pytest.approx((math.e,) * 3, rel=0.02)
    mixed = ratio_needed(standard, dict(enumerate(reversed(robust.values()))), 0.6, resamples=500)
    assert mixed.high / mixed.low > 1.7


@pytest.mark.parametrize(
    ("standard", "robust", "words", "low", "high"),
    [
        ((0.5, 0.7), (0.2, 0.4), "> 1.41", 1.38, math.inf),  # robust never: > 1000 over 707
        ((0.7, 0.8), (0.5, 0.7), "> 1.41", 1.38, math.inf),  # standard at once: 707 over < 500
        ((0.7, 0.8), (0.2, 0.4), "> 2", 2.0, math.inf),  # both
        ((0.2, 0.4), (0.5, 0.7), "< 0.707", 0.0, 0.75),  # robust sooner than standard
        ((0.5, 0.7), (0.7, 0.8), "< 0.707", 0.0, 0.75),
        ((0.2, 0.4), (0.2, 0.4), "unknown", 0.0, math.inf),
        ((0.7, 0.8), (0.7, 0.8), "unknown", 0.0, math.inf),
    ],
)
def test_ends_beyond_the_sizes_bound_the_ratio(standard, robust, words, low, high):
    sizes = (500.0, 1000.0)
    found = ratio_needed(
        _curves(standard, sizes=sizes, count=10_000), _curves(robust, sizes=sizes, count=10_000), 0.6, resamples=500
    )
    assert str(found.amount) == words
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.05)


def test_ratios_are_of_the_same_seeds():
    with pytest.raises(ValueError, match=r"`robust` to have the seeds \[0, 1\], but got \[0\]"):
        ratio_needed(_curves(STANDARD, STANDARD), _curves(ROBUST), 0.7)
