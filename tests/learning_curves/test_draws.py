import numpy as np
import pytest
from scipy import stats

from lightning_robust.learning_curves.draws import central, draws_of_mean, mean_curve, seed_weights
from lightning_robust.learning_curves.per_seed import Curve
from lightning_robust.learning_curves.seeds import mean_over_seeds


def _curves(*rows, count=1000):
    return {
        seed: Curve(n=(500, 1000)[: len(row)], accuracy=row, count=(count,) * len(row)) for seed, row in enumerate(rows)
    }


@pytest.mark.parametrize("seeds", [2, 3, 8])
def test_seeds_spread_as_students_t(seeds):
    values = np.random.default_rng(1).normal(size=seeds)
    weights = seed_weights(seeds, 4000, np.random.default_rng(0))
    statistic = weights @ (values - values.mean()) / stats.sem(values)
    assert stats.kstest(statistic, stats.t(seeds - 1).cdf).pvalue > 0.01


def test_one_seed_does_not_move():
    assert not seed_weights(1, 10, np.random.default_rng(0)).any()


def test_without_noise_of_images_the_percentiles_are_the_interval_of_means():
    rows = [(0.51, 0.6), (0.5, 0.62), (0.485, 0.61)]
    curves = _curves(*rows, count=10**9)
    generator = np.random.default_rng(0)
    draws = draws_of_mean(curves, seed_weights(3, 40_000, generator), generator)
    low, high = central(draws, draws, 0.95)
    for place in range(2):
        expected = mean_over_seeds([row[place] for row in rows], [(0, 1)] * 3, 1)
        assert (low[place], high[place]) == pytest.approx((expected.low, expected.high), abs=0.003)


@pytest.mark.parametrize("right", [0, 37, 100])
def test_one_seed_has_jeffreys_interval(right):
    generator = np.random.default_rng(0)
    draws = draws_of_mean(_curves((right / 100,), count=100), seed_weights(1, 20_000, generator), generator)
    low, high = central(draws, draws, 0.95)
    expected = stats.beta(right + 0.5, 100 - right + 0.5).interval(0.95)
    assert (low[0], high[0]) == pytest.approx(expected, abs=0.004)


def test_half_of_the_noise_of_images_is_common_to_all_sizes():
    generator = np.random.default_rng(0)
    draws = draws_of_mean(_curves((0.5, 0.5)), seed_weights(1, 20_000, generator), generator)
    assert np.corrcoef(draws.T)[0, 1] == pytest.approx(0.5, abs=0.02)


def test_draws_are_accuracies():
    generator = np.random.default_rng(0)
    draws = draws_of_mean(_curves((0.9, 1.0), (0.0, 0.2)), seed_weights(2, 1000, generator), generator)
    assert draws.min() >= 0
    assert draws.max() <= 1


def test_the_mean_counts_the_images_of_one_seed_only():
    curves = {0: Curve(n=(500,), accuracy=(0.4,), count=(300,)), 1: Curve(n=(500,), accuracy=(0.6,), count=(200,))}
    n, mean, count = mean_curve(curves)
    assert (n.tolist(), mean.tolist(), count.tolist()) == ([500.0], [0.5], [200.0])


def test_curves_must_agree_in_their_sizes():
    with pytest.raises(ValueError, match="same sizes for every seed"):
        mean_curve(_curves((0.5, 0.6), (0.5,)))


def test_ends_are_rounded_outwards_and_may_be_infinite():
    draws = np.array([np.inf, 5.0, 1.0, 2.0, 3.0, 4.0, np.inf, -np.inf])
    low, high = central(draws, draws, 0.5)
    assert (low, high) == (1.0, np.inf)
