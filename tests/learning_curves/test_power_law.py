import math

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import nnls

from lightning_robust.learning_curves import Curves, PowerLaw, fit_power_law, fit_with_bands
from lightning_robust.learning_curves.power_law import _least_squares, binomial_weights

SIZES = (500.0, 1000.0, 2000.0, 5000.0, 10000.0, 20000.0, 60000.0)


def _curves(*errors, count=1000, sizes=SIZES):
    return Curves(n=sizes, accuracy={s: 1 - np.array(row) for s, row in enumerate(errors)}, count=(count,) * len(sizes))


@pytest.mark.parametrize("a", [0.3, 4.0])
@pytest.mark.parametrize("b", [0.07, 0.35, 1.0, 2.0])
@pytest.mark.parametrize("c", [0.0, 0.05])
def test_exact_errors_give_their_law(a, b, c):
    law = fit_power_law(SIZES, [a * n**-b + c for n in SIZES])
    assert (law.a, law.b, law.c) == pytest.approx((a, b, c), rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("b", [0.07, 0.35, 2.0])
def test_exact_errors_without_a_floor_give_their_law(b):
    law = fit_power_law(SIZES[:3], [3 * n**-b for n in SIZES[:3]], floor=False)
    assert (law.a, law.b, law.c) == pytest.approx((3, b, 0), rel=1e-8)


@pytest.mark.parametrize("count", [1, 2])
def test_coefficients_are_those_of_scipy(count):
    generator = np.random.default_rng(0)
    zeros = 0
    for _ in range(50):
        columns, values = generator.normal(size=(7, count)), generator.normal(size=7)
        expected, left = nnls(columns, values)
        assert _least_squares(columns, values)[0] == pytest.approx(expected, rel=1e-9, abs=1e-12)
        assert _least_squares(columns, values)[1] == pytest.approx(left)
        zeros += int((expected == 0).sum())
    assert 10 < zeros < 50 * count


@pytest.mark.parametrize("floor", [True, False])
def test_no_other_law_is_nearer(floor):
    """Least squares with a, c >= 0 for each of many exponents find nothing better."""
    generator = np.random.default_rng(0)
    n = np.array(SIZES)
    weights = generator.uniform(0.5, 2, len(n))
    for _ in range(20):
        error = np.abs(3 * n**-0.4 + 0.02 + generator.normal(0, 0.02, len(n)))
        law = fit_power_law(SIZES, error, weights, floor=floor)
        cost = float(weights @ (law.a * n**-law.b + law.c - error) ** 2)
        for b in np.geomspace(1e-3, 10, 200):
            columns = np.stack([(n / 5000) ** -b, np.ones(len(n))][: 1 + floor], axis=1)
            _, root = nnls(columns * weights[:, None] ** 0.5, error * weights**0.5)
            assert cost <= root**2 * (1 + 1e-6)


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
    with pytest.raises(ValueError, match=f"Expected argument `{name}` to be "):
        PowerLaw(**{"a": 1.0, "b": 0.5, "c": 0.0, **changes})


@pytest.mark.parametrize(("m", "floor", "least"), [(2, False, 3), (3, True, 4)])
def test_sizes_must_suffice(m, floor, least):
    kind = "with a floor" if floor else "without a floor"
    errors = [0.5, 0.4, 0.3, 0.2]
    for call in (
        lambda m: fit_power_law(SIZES[:m], errors[:m], floor=floor),
        lambda m: fit_with_bands(_curves(errors[:m], sizes=SIZES[:m]), floor=floor),
    ):
        with pytest.raises(ValueError, match=f"at least {least} different sizes for a power law {kind}"):
            call(m)
        call(m + 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"n": [500, 500, 1000, 2000]},
        {"n": [0, 500, 1000, 2000]},
        {"error": [0.3, 0.2, 0.1]},
        {"error": [0.3, 0.2, 0.1, -0.1]},
        {"error": [0.3, 0.2, 0.1, math.nan]},
        {"weights": [1, 1, 1]},
        {"weights": [1, 1, 1, 0]},
    ],
)
def test_arguments_are_checked(changes):
    (name,) = changes
    with pytest.raises(ValueError, match=f"`{name}"):
        fit_power_law(**{"n": [500, 1000, 2000, 4000], "error": [0.4, 0.3, 0.2, 0.1], **changes})


def test_weights_are_one_over_the_variance():
    assert binomial_weights([0.2], [10**6])[0] == pytest.approx(10**6 / 0.16, rel=1e-4)
    assert np.isfinite(binomial_weights([0.0, 1.0], [100, 100])).all()


def test_the_law_of_curves_is_that_of_their_mean_and_seeds_spread_as_students_t():
    errors = 0.02 + 3 * np.array(SIZES) ** -0.4
    fit = fit_with_bands(_curves(errors - 0.01, errors + 0.01))
    assert (fit.law.a, fit.law.b, fit.law.c) == pytest.approx((3, 0.4, 0.02), rel=1e-5)
    exponents = [law.b for law in fit.laws]
    half = stats.t.ppf(0.975, 1) * stats.sem(exponents)
    assert (fit.exponent().value, fit.exponent().high) == pytest.approx((fit.law.b, fit.law.b + half))


def test_many_images_and_one_seed_leave_no_doubt():
    errors = 0.02 + 3 * np.array(SIZES) ** -0.4
    fit = fit_with_bands(_curves(errors, count=10**10))
    for n, error in zip(SIZES, errors, strict=True):
        band = fit.error(n)
        assert (band.low, band.value, band.high) == pytest.approx((error,) * 3, rel=1e-3)
    assert (fit.exponent().low, fit.exponent().high) == pytest.approx((0.4, 0.4), rel=0.02)


@pytest.mark.parametrize("seeds", [1, 3])
def test_bands_widen_beyond_the_sizes(seeds):
    generator = np.random.default_rng(0)
    fit = fit_with_bands(_curves(*(3 * np.array(SIZES) ** -0.3 + generator.normal(0, 0.01, (seeds, 7)))), floor=False)
    near, far = fit.error(5000), fit.error(6_000_000)
    assert (far.high - far.low) / far.value > 2 * (near.high - near.low) / near.value


@pytest.mark.parametrize("seeds", [1, 3])
def test_bands_and_exponents_cover(seeds):
    """Of one seed on other images; of three seeds that differ on so many images that their draw does not matter."""
    generator, runs = np.random.default_rng(0), 50
    truth, sizes, asked = PowerLaw(4.0, 0.35), SIZES[:6], (500, 5000, 40_000)
    hits, exponents, images = np.zeros(3), 0, 2000 if seeds == 1 else 10**6
    for _ in range(runs):
        expected = np.array([truth.predict(n) for n in sizes])
        errors = expected * (1 + generator.normal(0, 0.05, (seeds, 6)) * (seeds > 1))
        measured = generator.binomial(images, np.clip(errors, 0, 1)) / images
        fit = fit_with_bands(_curves(*measured, count=images, sizes=sizes), floor=False)
        hits += [fit.error(n).low <= truth.predict(n) <= fit.error(n).high for n in asked]
        exponents += fit.exponent().low <= 0.35 <= fit.exponent().high
    assert (hits / runs >= 0.88).all(), hits / runs
    assert exponents / runs >= 0.88
