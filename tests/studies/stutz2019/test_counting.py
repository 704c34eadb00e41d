"""The correction for counting noise on simulated models whose true correlation is known."""

import math

import numpy as np
import pytest

from lightning_robust_studies.stutz2019.counting import Counting, counting


def test_by_hand():
    rates, images = [0.1, 0.5], [10, 25]
    found = counting(rates, images, 0.5)
    assert found.share == pytest.approx((0.1 * 0.9 / 10 + 0.5 * 0.5 / 25) / 2 / 0.08)
    assert found.r == pytest.approx(0.5 / math.sqrt(1 - found.share))
    assert counting(rates, images, -0.5).r == -found.r


@pytest.mark.parametrize(("true", "images"), [(0.9, 150), (0.6, 150), (0.95, 60)])
def test_the_correlation_without_noise_is_found_again(true, images):
    rng = np.random.default_rng(0)
    measured, corrected, shares = [], [], []
    for _ in range(200):
        error = rng.normal(size=200)
        rate = 0.2 + 0.05 * (true * error + math.sqrt(1 - true**2) * rng.normal(size=200))
        counted = rng.binomial(images, rate.clip(0, 1)) / images
        r = float(np.corrcoef(error, counted)[0, 1])
        found = counting(counted, [images] * 200, r)
        measured.append(r)
        corrected.append(found.r)
        shares.append(found.share)
    noise = 0.16 / images
    assert np.mean(shares) == pytest.approx(noise / (noise + 0.05**2), abs=0.02)
    assert np.mean(measured) < true - 0.08
    assert np.mean(corrected) == pytest.approx(true, abs=0.02)


def test_where_noise_may_be_all_nothing_is_estimated():
    found = counting([0.1, 0.11, 0.12], [10] * 3, 0.3)
    assert found.share > 1
    assert math.isnan(found.r)
    assert found.text().startswith("counting over few images makes 100.0 % of the variance of success, so that")
    assert counting([0.2, 0.2], [10, 10], 0.5) is None
    assert counting([0.2], [10], 0.5) is None


def test_an_estimate_beyond_one_is_cut():
    assert counting([0.1, 0.2, 0.3], [100] * 3, 0.99).r == 1.0
    assert counting([0.1, 0.2, 0.3], [100] * 3, -0.99).r == -1.0
    assert Counting(0.5, 1.0).text().endswith("estimated at 1.000")
