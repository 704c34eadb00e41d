import math

import numpy as np
import pytest
from scipy import stats
from sklearn.isotonic import IsotonicRegression

from lightning_robust.learning_curves import Amount, Curves, needed_with_interval, ratio_needed, samples_needed
from tests.learning_curves.helpers import SIZES, curves

STANDARD = np.array([0.5, 0.6, 0.68, 0.75, 0.8, 0.83])
ROBUST = np.array([0.2, 0.35, 0.5, 0.62, 0.72, 0.78])
LINE = 0.1 * np.log(SIZES)


@pytest.mark.parametrize("n", [500.0, 731.0, 1000.0, 5000.0, 16000.0])
def test_the_crossing_of_a_line_in_log_n_is_exact(n):
    def line(size):
        return 0.1 + 0.08 * math.log(size)

    amount = samples_needed(SIZES, [line(size) for size in SIZES], line(n))
    assert amount.known
    assert amount.value == pytest.approx(n)


def test_a_crossing_is_where_linear_interpolation_of_the_isotonic_curve_says():
    generator = np.random.default_rng(0)
    for _ in range(100):
        accuracy = np.clip(STANDARD + generator.normal(0, 0.05, 6), 0, 1)
        smooth = IsotonicRegression().fit_transform(np.log(SIZES), accuracy)
        amount = samples_needed(SIZES, accuracy, 0.7)
        if amount.known:
            assert np.interp(math.log(amount.value), np.log(SIZES), smooth) == pytest.approx(0.7)
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
    assert [str(samples_needed([500], [0.5], target)) for target in (0.4, 0.5, 0.6)] == ["< 500", "500", "> 500"]


def test_a_flat_stretch_at_the_target_counts_from_its_start():
    assert samples_needed([500, 1000, 2000, 4000], [0.4, 0.6, 0.6, 0.8], 0.6).value == pytest.approx(1000)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [(([500], [0.5], 0.0), "target"), (([500], [0.5], 1.0), "target"), (([500, 1000], [0.5], 0.5), "accuracy")],
)
def test_arguments_are_checked(arguments, name):
    with pytest.raises(ValueError, match=f"Expected argument `{name}`"):
        samples_needed(*arguments)


def test_seeds_have_one_number_each_and_the_interval_is_students_on_the_logarithm():
    rows = [LINE + shift for shift in (-0.02, 0.0, 0.03)]
    estimate = needed_with_interval(curves(*rows), 0.8)
    logs = [math.log(samples_needed(SIZES, row, 0.8).value) for row in rows]
    low, high = stats.t.interval(0.95, 2, loc=np.mean(logs), scale=stats.sem(logs))
    assert estimate.amount.value == pytest.approx(math.exp(np.mean(logs)))
    assert (estimate.low, estimate.high) == pytest.approx((math.exp(low), math.exp(high)))
    assert estimate.censored == ()


def test_a_censored_seed_bounds_the_mean_from_one_side_and_is_named():
    rows = [LINE, LINE + 0.02, LINE - 0.3]  # the last ends at 0.668
    estimate = needed_with_interval(curves(*rows), 0.7)
    lows = [math.log(samples_needed(SIZES, row, 0.7).low) for row in rows]
    low, _ = stats.t.interval(0.95, 2, loc=np.mean(lows), scale=stats.sem(lows))
    assert (estimate.amount.low, estimate.amount.high) == (pytest.approx(math.exp(np.mean(lows))), math.inf)
    assert (estimate.low, estimate.high, estimate.censored) == (pytest.approx(math.exp(low)), math.inf, (2,))
    early = needed_with_interval(curves(LINE, LINE + 0.03), 0.65)
    assert (early.low, early.amount.low, early.censored) == (0.0, 0.0, (1,))
    assert early.amount.high == pytest.approx(math.sqrt(500 * math.exp(6.5)))


def test_seeds_that_are_all_censored_have_the_widest_of_their_own_intervals():
    rows = [STANDARD, STANDARD + 0.01]
    alone = [needed_with_interval(curves(row), 0.85) for row in rows]
    both = needed_with_interval(curves(*rows), 0.85)
    assert (both.amount, both.censored) == (Amount(16000, math.inf), (0, 1))
    assert (both.low, both.high) == (min(each.low for each in alone), math.inf)
    assert both.low < 16000


def test_one_seed_has_the_crossings_of_the_ends_of_wilsons_intervals():
    estimate = needed_with_interval(curves(STANDARD), 0.7)
    _, low, high = zip(*(curves(STANDARD).at(n)[0] for n in SIZES), strict=True)
    ends = [samples_needed(SIZES, row, 0.7).value for row in (high, low)]
    assert [estimate.amount.value, estimate.low, estimate.high] == pytest.approx(
        [samples_needed(SIZES, STANDARD, 0.7).value, *ends]
    )
    sure = needed_with_interval(curves(STANDARD, count=10**9), 0.7)
    assert (sure.low, sure.high) == pytest.approx((sure.amount.value,) * 2, rel=1e-3)


def test_intervals_of_one_seed_are_open_beyond_the_sizes():
    above, below = (needed_with_interval(curves(STANDARD), target) for target in (0.835, 0.49))
    assert (str(above.amount), above.high) == ("> 16,000", math.inf)
    assert 8000 < above.low < 16000
    assert (str(below.amount), below.low) == ("< 500", 0)
    assert 500 < below.high < 1000
    assert needed_with_interval(curves(STANDARD), 0.82).high == math.inf


@pytest.mark.parametrize(("seeds", "spread"), [(1, 0.0), (3, 0.015)])
def test_intervals_cover(seeds, spread):
    """Of one seed on other images; of three seeds on the same images, whose draw is no part of the interval."""
    generator, runs = np.random.default_rng(1), 100
    needed = samples_needed(SIZES, STANDARD, 0.7).value
    ratio = samples_needed(SIZES, ROBUST, 0.7).value / needed
    hits, images = np.zeros(2), 1000 if seeds == 1 else 10**6
    for _ in range(runs):
        standard, robust = (
            curves(
                *generator.binomial(images, np.clip(truth + generator.normal(0, spread, (seeds, 6)), 0, 1)) / images,
                count=images,
            )
            for truth in (STANDARD, ROBUST)
        )
        estimate, quotient = needed_with_interval(standard, 0.7), ratio_needed(standard, robust, 0.7)
        hits += estimate.low <= needed <= estimate.high, quotient.low <= ratio <= quotient.high
    assert (hits / runs >= 0.9).all(), hits / runs


def test_the_ratio_of_shifted_curves_is_the_shift():
    robust = curves(STANDARD, n=tuple(8 * n for n in SIZES), count=10**8)
    ratio = ratio_needed(curves(STANDARD, count=10**8), robust, 0.7)
    assert (ratio.amount.value, ratio.low, ratio.high) == pytest.approx((8, 8, 8), rel=5e-3)


def test_the_ratio_is_paired_by_seed():
    # Seeds differ by much, standard and robust in the same way: their ratio is sure, unless seeds are mixed up.
    standard, robust = (curves(*(LINE - down + 0.01 * s for s in range(5))) for down in (0.15, 0.25))
    alone = needed_with_interval(standard, 0.6)
    assert alone.high / alone.low > 1.3
    turned = Curves(n=SIZES, accuracy=dict(reversed(robust.accuracy.items())), count=robust.count)
    ratio = ratio_needed(standard, turned, 0.6)
    assert (ratio.amount.value, ratio.low, ratio.high) == pytest.approx((math.e,) * 3)
    mixed = curves(*reversed(robust.accuracy.values()))
    assert ratio_needed(standard, mixed, 0.6).high / ratio_needed(standard, mixed, 0.6).low > 1.7


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
@pytest.mark.parametrize("seeds", [1, 3])
def test_ends_beyond_the_sizes_bound_the_ratio(standard, robust, words, low, high, seeds):
    ratio = ratio_needed(*(curves(*[row] * seeds, count=10_000) for row in (standard, robust)), 0.6)
    assert (str(ratio.amount), ratio.censored) == (words, tuple(range(seeds)))
    assert (ratio.low, ratio.high) == pytest.approx((low, high), abs=0.05)


def test_ratios_are_of_the_same_seeds():
    with pytest.raises(ValueError, match=r"`robust` to have the seeds \[0, 1\], but got \[0\]"):
        ratio_needed(curves(STANDARD, STANDARD), curves(ROBUST), 0.7)
