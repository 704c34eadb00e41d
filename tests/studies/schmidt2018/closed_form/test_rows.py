import math

import pandas as pd
import pytest
from scipy.stats import norm

from lightning_robust_studies.schmidt2018.closed_form.rows import (
    bernoulli_dimension,
    bernoulli_radius,
    bernoulli_samples,
    compare,
    error,
    expected_error_bound,
    gap,
    learners,
    self_training,
)
from lightning_robust_studies.schmidt2018.closed_form.settings import TheorySettings
from lightning_robust_studies.schmidt2018.theory import STATEMENTS, one_sample_error

TINY = TheorySettings(
    dimensions=(256, 1024), radii=(0.25, 0.5), repeats=2, d=256, samples=(1, 2, 4), draws=32, self_training_d=1024
)


def where(rows, **names):
    table = pd.DataFrame(rows)
    return table[(table[list(names)] == list(names.values())).all(axis=1)]


def values(rows, **names):
    return where(rows, **names)["value"].tolist()


def by(column, rows, **names):
    return where(rows, **names).set_index(column)["value"].to_dict()


def test_closed_form_exponents_are_misled_at_the_target_and_rise_to_one_half():
    rows = gap(TINY)
    for eps in TINY.radii:
        local = values(rows, metric="slope from d to 4 d", curve="n_robust_large_d", eps=eps)
        assert local == sorted(local)
        assert local[0] < 0.25
        assert local[-1] == pytest.approx(0.5, abs=1e-3)
    fitted = where(rows, metric="slope", curve="n_robust", eps=0.5).iloc[0]
    assert fitted["high"] < 0.4
    assert fitted["draws"] == TINY.repeats


def test_closed_forms_do_not_depend_on_the_seed_and_draws_do():
    first, second = (error(TheorySettings(d=64, draws=4, seed=seed)) for seed in (0, 1))
    same = [a["value"] == b["value"] for a, b in zip(first, second, strict=True)]
    assert all(kept for kept, row in zip(same, first, strict=True) if row["draws"] == 0)
    drawn = [row for kept, row in zip(same, first, strict=True) if not kept]
    assert {row["curve"] for row in drawn} == {"mean, no attack", "mean, attacked", "bayes"}
    assert error(TheorySettings(d=64, draws=4)) == first


def test_theorem_21_inverts_its_radius():
    n, d, sigma = 400.0, 1024, 2.0
    bound = expected_error_bound(n, d, sigma, 0.5)
    missed = 2 * math.exp(-d / (8 * (sigma**2 + 1)))
    assert STATEMENTS["Theorem 21"].limit("eps", n=n, d=d, sigma=sigma, beta=bound - missed) == pytest.approx(0.5)
    assert math.isnan(expected_error_bound(1.0, d, sigma, 0.5))


def test_the_mean_is_below_theorem_21_and_close_to_its_large_d_curve():
    rows = error(TINY)
    mean = by("n", rows, model="Gaussian, flat theta", curve="mean, attacked")
    bounds = by("n", rows, curve="theorem_21")
    assert bounds
    assert all(mean[n] <= bound for n, bound in bounds.items())
    assert by("n", rows, curve="mean, attacked, large d") == pytest.approx(mean, abs=0.06)


def test_learners_see_the_same_draws_and_adversarial_training_is_better_than_standard_training():
    rows = compare(TINY)
    for n in TINY.samples:
        errors, excess = by("curve", rows, metric="error", n=n), by("curve", rows, metric="excess over bayes", n=n)
        assert set(excess) == set(learners(1.0, 0.5))
        for name in excess:
            assert errors[name] - errors["bayes"] == pytest.approx(excess[name], abs=1e-12)
        assert errors["adversarial logistic"] < errors["logistic"]
        assert errors["soft threshold"] < errors["mean"]
    one = by("curve", rows, metric="error", n=1)
    assert one["logistic"] == pytest.approx(one["mean"], abs=1e-6)  # from one sample the directions are the same


def test_behind_the_threshold_the_attack_changes_nothing():
    rows = bernoulli_samples(TINY)
    behind, linear = (values(rows, curve=curve) for curve in ("threshold, attacked", "linear, no attack"))
    assert behind == linear
    attacked = values(rows, curve="linear, attacked")
    assert all(a > 5 * b for a, b in zip(attacked, behind, strict=True))
    exact = one_sample_error(256, 0.8 * 256**-0.25).item()
    first = where(rows, curve="threshold, attacked", n=1).iloc[0]
    half = (first["high"] - first["low"]) / 2
    assert abs(first["value"] - exact) < 2 * half


def test_over_the_radius_linear_classifiers_fail_from_2_tau_on_and_the_threshold_from_1_on():
    rows = bernoulli_radius(TINY)
    tau = 0.8 * 256**-0.25
    floor = by("eps", rows, curve="linear, floor")
    assert min(floor) == pytest.approx(2 * tau)
    for curve in ("linear, attacked", "linear, theta known, attacked"):
        errors = by("eps", rows, curve=curve)
        assert all(errors[eps] >= least for eps, least in floor.items())
        assert errors[0.0] < 0.01
    behind = by("eps", rows, curve="threshold, attacked")
    assert {value for eps, value in behind.items() if eps < 1} == {behind[0.0]}
    assert {value for eps, value in behind.items() if eps > 1} == {1.0}
    assert 0.999 in behind


def test_from_one_sample_the_threshold_is_as_good_in_every_dimension_and_linear_is_ever_worse():
    rows = bernoulli_dimension(TheorySettings())
    behind = values(rows, curve="threshold, attacked")
    assert behind == pytest.approx([norm.cdf(-4 * 0.8**2)] * len(behind), abs=3e-4)
    linear = values(rows, curve="linear, attacked")
    assert linear == sorted(linear)
    assert linear[-1] > 0.99
    needed = values(rows, curve="n_half_large_d")
    assert math.log(needed[-1] / needed[-3], 4) == pytest.approx(0.5, abs=0.02)


def test_unlabeled_points_lower_the_error_but_less_than_labeled_ones():
    rows = self_training(TINY)
    trained = values(rows, curve="self-trained")
    assert trained[0] > 0.3
    assert trained[-1] < 1e-3
    assert all(a >= b for a, b in zip(trained, values(rows, curve="all labeled"), strict=True))
    assert all(a >= b for a, b in zip(trained, values(rows, curve="self-trained, no attack"), strict=True))
    assert len(set(values(rows, curve="labels only"))) == 1
    assert where(rows, curve="labels of proposition 1")["n"].iloc[0] == pytest.approx(4 * 0.25**2 * 32)
