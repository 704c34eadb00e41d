import math

import numpy as np
import pytest
from scipy.optimize import curve_fit

from lightning_robust.learning_curves.per_seed import Curve
from lightning_robust.learning_curves.power_law import PowerLaw, binomial_weights, fit_power_law, fit_with_bands

SIZES = (500.0, 1000.0, 2000.0, 5000.0, 10000.0, 20000.0, 60000.0)


def _curves(*errors, count=1000, sizes=SIZES):
    return {
        seed: Curve(n=sizes, accuracy=tuple(1 - float(e) for e in row), count=(count,) * len(sizes))
        for seed, row in enumerate(errors)
    }


@pytest.mark.parametrize("a", [0.3, 4.0])
@pytest.mark.parametrize("b", [0.07, 0.35, 1.0, 2.0])
@pytest.mark.parametrize("c", [0.0, 0.05])
def test_exact_errors_give_their_law(a, b, c):
    law = fit_power_law(SIZES, [a * n**-b + c for n in SIZES])
    assert (law.a, law.b, law.c) == pytest.approx((a, b, c), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("b", [0.07, 0.35, 2.0])
def test_exact_errors_without_a_floor_give_their_law(b):
    law = fit_power_law(SIZES[:3], [3 * n**-b for n in SIZES[:3]], floor=False)
    assert (law.a, law.b, law.c) == pytest.approx((3, b, 0), rel=1e-8)


@pytest.mark.parametrize("floor", [True, False])
def test_no_other_law_is_nearer(floor):
    generator = np.random.default_rng(0)
    n = np.array(SIZES)
    weights = generator.uniform(0.5, 2, len(n))
    for _ in range(20):
        error = np.abs(3 * n**-0.4 + 0.02 + generator.normal(0, 0.02, len(n)))
        law = fit_power_law(SIZES, error, weights, floor=floor)

        def cost(a, b, c, error=error):
            return float(weights @ (a * n**-b + c - error) ** 2)

        def model(n, a, b, c=0.0):
            return a * (n / 5000) ** -b + c

        start, high = (0.1, 0.4, 0.01)[: 2 + floor], (np.inf, 10, np.inf)[: 2 + floor]
        found, _ = curve_fit(
            model, n, error, p0=start, sigma=weights**-0.5, bounds=((0, 1e-3, 0)[: 2 + floor], high), max_nfev=10_000
        )
        a, b, *c = found
        assert cost(law.a, law.b, law.c) <= cost(a * 5000**b, b, *(c or [0.0])) * (1 + 1e-9)


def test_weights_weigh():
    errors = [3 * n**-0.4 for n in SIZES]
    errors[0] += 0.2
    law = fit_power_law(SIZES, errors, [1e-12, *[1.0] * 6])
    assert law.b == pytest.approx(0.4, rel=1e-4)
    assert abs(fit_power_law(SIZES, errors).b - 0.4) > 0.1


def test_the_order_and_the_unit_of_sizes_do_not_matter():
    errors = 0.1 + 3 * np.array(SIZES) ** -0.4 + np.random.default_rng(0).normal(0, 0.01, 7)
    law = fit_power_law(SIZES, errors)
    turned = fit_power_law(SIZES[::-1], errors[::-1])
    thousands = fit_power_law([n / 1000 for n in SIZES], errors)
    assert (turned.b, turned.c) == pytest.approx((law.b, law.c), rel=1e-6)
    assert (thousands.b, thousands.c, thousands.a) == pytest.approx((law.b, law.c, law.a / 1000**law.b), rel=1e-6)


def test_errors_that_do_not_fall_have_no_law_but_their_mean():
    law = fit_power_law(SIZES, [0.1, 0.12, 0.11, 0.13, 0.15, 0.14, 0.16])
    assert (law.a, law.c) == (0, pytest.approx(0.13))
    nothing = fit_power_law(SIZES, [0.0] * 7)
    assert (nothing.a, nothing.c) == (0, 0)
    assert fit_power_law(SIZES, np.linspace(0.1, 0.2, 7), floor=False).b == pytest.approx(1e-3)


def test_a_law_and_its_inverse():
    law = PowerLaw(a=3.0, b=0.4, c=0.05)
    for n in (100.0, 12_345.0):
        assert law.samples(law.predict(n)) == pytest.approx(n)
    assert law.samples(0.05) == law.samples(0.01) == math.inf


@pytest.mark.parametrize("changes", [{"a": -1}, {"b": 0}, {"c": -0.1}, {"a": math.nan}, {"b": math.inf}])
def test_a_law_is_checked(changes):
    (name,) = changes
    with pytest.raises(ValueError, match=f"Expected argument `{name}` to be finite and"):
        PowerLaw(**{"a": 1.0, "b": 0.5, "c": 0.0, **changes})


@pytest.mark.parametrize(("m", "floor", "least"), [(2, False, 3), (3, True, 4)])
def test_sizes_must_suffice(m, floor, least):
    kind = "with a floor" if floor else "without a floor"
    errors = [0.5, 0.4, 0.3, 0.2]
    for call in (
        lambda m: fit_power_law(SIZES[:m], errors[:m], floor=floor),
        lambda m: fit_with_bands(_curves(errors[:m], sizes=SIZES[:m]), floor=floor, resamples=100),
    ):
        with pytest.raises(ValueError, match=f"at least {least} sizes for a power law {kind}, but got {m}"):
            call(m)
        call(m + 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n": [500, 500, 1000, 2000]}, "`n` to be positive, finite and different"),
        ({"n": [0, 500, 1000, 2000]}, "`n` to be positive"),
        ({"error": [0.3, 0.2, 0.1]}, "`error` to be 4 finite numbers"),
        ({"error": [0.3, 0.2, 0.1, -0.1]}, "`error` to be 4 finite numbers of at least 0"),
        ({"error": [0.3, 0.2, 0.1, math.nan]}, "`error` to be 4 finite"),
        ({"weights": [1, 1, 1]}, "`weights` to be 4 positive"),
        ({"weights": [1, 1, 1, 0]}, "`weights` to be 4 positive"),
    ],
)
def test_arguments_are_checked(changes, message):
    with pytest.raises(ValueError, match=message):
        fit_power_law(**{"n": [500, 1000, 2000, 4000], "error": [0.4, 0.3, 0.2, 0.1], **changes})


def test_bands_take_enough_resamples():
    with pytest.raises(ValueError, match="`resamples` to be at least 100, but got 10"):
        fit_with_bands(_curves([0.5, 0.4, 0.3, 0.2], sizes=SIZES[:4]), resamples=10)


def test_weights_are_one_over_the_variance():
    assert binomial_weights([0.2], [10**6])[0] == pytest.approx(10**6 / 0.16, rel=1e-4)
    assert np.isfinite(binomial_weights([0.0, 1.0], [100, 100])).all()


def test_the_law_of_curves_is_that_of_their_mean():
    errors = 0.02 + 3 * np.array(SIZES) ** -0.4
    fit = fit_with_bands(_curves(errors - 0.01, errors + 0.01), resamples=100)
    assert (fit.law.a, fit.law.b, fit.law.c) == pytest.approx((3, 0.4, 0.02), rel=1e-6)
    assert fit.draws.shape == (100, 3)


def test_many_images_and_one_seed_leave_no_doubt():
    errors = 0.02 + 3 * np.array(SIZES) ** -0.4
    fit = fit_with_bands(_curves(errors, count=10**10), resamples=100)
    low, high = fit.bands(SIZES)
    assert low == pytest.approx(errors.tolist(), rel=1e-3)
    assert high == pytest.approx(errors.tolist(), rel=1e-3)
    assert fit.exponent() == pytest.approx((0.4, 0.4), rel=0.02)


def test_bands_widen_beyond_the_sizes_and_with_confidence():
    generator = np.random.default_rng(0)
    curves = _curves(*(3 * np.array(SIZES) ** -0.3 + generator.normal(0, 0.01, (3, 7))), count=10_000)
    fit = fit_with_bands(curves, resamples=500)
    low, high = fit.bands([5000, 6_000_000])
    assert (high[1] - low[1]) / fit.law.predict(6_000_000) > 2 * (high[0] - low[0]) / fit.law.predict(5000)
    narrow_low, narrow_high = fit.bands([5000], confidence=0.5)
    assert low[0] < narrow_low[0] < narrow_high[0] < high[0]


@pytest.mark.parametrize(("floor", "c"), [(False, 0.0), (True, 0.05)])
def test_bands_and_exponents_cover(floor, c):
    generator, runs = np.random.default_rng(0), 120
    truth = PowerLaw(4.0, 0.35, c)
    sizes, asked = SIZES[:6], (500, 5000, 40_000)
    hits, exponents = np.zeros(3), 0
    for _ in range(runs):
        expected = np.array([truth.predict(n) for n in sizes])
        errors = expected + generator.normal(0, 0.01, (3, 1)) + generator.normal(0, 0.01, (3, 6))
        measured = generator.binomial(2000, np.clip(errors, 0, 1)) / 2000
        fit = fit_with_bands(_curves(*measured, count=2000, sizes=sizes), floor=floor, resamples=200)
        low, high = fit.bands(asked)
        hits += [a <= truth.predict(n) <= b for n, a, b in zip(asked, low, high, strict=True)]
        exponents += fit.exponent()[0] <= 0.35 <= fit.exponent()[1]
    assert (hits / runs >= 0.9).all(), hits / runs
    assert exponents / runs >= 0.9
