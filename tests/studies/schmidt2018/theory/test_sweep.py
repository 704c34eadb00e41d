"""The whole sweep: its laws and its speed."""

import time

import numpy as np
import pytest
import torch

from lightning_robust_studies.schmidt2018.theory import loglog_slope, sqrt_d_sweep
from lightning_robust_studies.schmidt2018.theory.sweep import DIMENSIONS, RADII


@pytest.fixture(scope="module")
def timed_sweep():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    start = time.process_time()
    rows = sqrt_d_sweep()
    seconds = time.process_time() - start
    torch.set_num_threads(threads)
    return rows, seconds


def column(rows, name, eps):
    return torch.tensor(rows.loc[rows["eps"] == eps, name].to_numpy(), dtype=torch.float64)


def test_it_takes_less_than_five_seconds_on_one_core(timed_sweep):
    rows, seconds = timed_sweep
    assert rows[["d", "eps"]].to_numpy().tolist() == [[d, eps] for d in DIMENSIONS for eps in RADII]
    assert seconds < 5


@pytest.mark.parametrize("eps", RADII)
def test_robust_need_grows_like_the_root_of_d_and_standard_need_not_at_all(timed_sweep, eps):
    rows, _ = timed_sweep
    d = torch.tensor(DIMENSIONS)
    assert abs(loglog_slope(d, column(rows, "n_half", eps)) - 0.5) < 0.02
    assert abs(loglog_slope(d, column(rows, "n_standard_large_d", eps))) < 0.02
    assert abs(loglog_slope(d[2:], column(rows, "n_standard", eps)[2:])) < 0.05
    assert torch.allclose(column(rows, "n_half", eps), column(rows, "n_half_large_d", eps), rtol=0.03)


@pytest.mark.parametrize(("eps", "low", "high"), [(0.1, 0.95, 1.05), (0.25, 0.95, 1.05), (0.5, 1.05, 1.13)])
def test_the_affine_law_of_the_root_of_n_in_the_fourth_root_of_d(timed_sweep, eps, low, high):
    rows, _ = timed_sweep
    slope, intercept = np.polyfit(torch.tensor(DIMENSIONS) ** 0.25, column(rows, "n_half", eps).sqrt(), 1)
    assert low < slope / (eps * 0.5 * (2 / torch.pi) ** 0.5) < high
    assert abs(intercept) < 0.01


@pytest.mark.parametrize(("eps", "naive"), [(0.1, 0.13), (0.25, 0.24), (0.5, 0.28)])
def test_at_one_percent_the_slope_is_far_below_a_half_at_these_dimensions(timed_sweep, eps, naive):
    rows, _ = timed_sweep
    assert loglog_slope(torch.tensor(DIMENSIONS), column(rows, "n_robust", eps)) == pytest.approx(naive, abs=0.03)


def test_the_exponent_in_eps_is_two(timed_sweep):
    rows, _ = timed_sweep
    needed = torch.stack([column(rows, "n_half", eps) for eps in (0.1, 0.25)])
    exponents = (needed[1] / needed[0]).log() / torch.tensor(2.5).log()
    assert ((exponents > 1.9) & (exponents < 2.2)).all()


def test_no_need_is_below_the_lower_bound_and_robust_is_above_standard(timed_sweep):
    rows, _ = timed_sweep
    assert (rows["n_lower"] < rows["n_half"]).all()
    assert (rows[["n_half", "n_standard"]].max(axis=1) < rows["n_robust"]).all()


def test_the_seed_decides():
    first, again, other = (sqrt_d_sweep((256,), (0.5,), numbers=2**12, seed=seed) for seed in (0, 0, 1))
    assert first.equals(again)
    assert not first.equals(other)
