# ruff: noqa: NPY002 - the legacy generator of numpy is what the other packages draw from
import random

import numpy as np
import pytest
import torch

from lightning_robust.interop._generators import mixed, own_global_streams


def draw() -> tuple[float, float]:
    return float(np.random.rand()), random.random()


def test_streams_go_on_as_if_nothing_had_been_drawn():
    np.random.seed(0), random.seed(0)
    expected = [draw() for _ in range(2)]
    np.random.seed(0), random.seed(0)
    first = draw()
    with own_global_streams(7):
        inside = draw()
    assert [first, draw()] == expected
    with own_global_streams(7):
        assert draw() == inside
    with own_global_streams(8):
        assert draw() != inside


def test_streams_go_on_after_an_exception():
    np.random.seed(0), random.seed(0)
    expected = draw()
    np.random.seed(0), random.seed(0)
    with pytest.raises(ZeroDivisionError), own_global_streams(7):
        assert draw()[0] / 0
    assert draw() == expected


def test_seeds_fit_every_generator_and_differ():
    seeds = {mixed(seed, key) for seed in range(-20, 20) for key in (0, 1, 2**40, -(2**70), *range(5, 25))}
    assert len(seeds) == 40 * 24
    assert min(seeds) >= 0
    assert max(seeds) < 2**31


@pytest.mark.gpu
def test_streams_of_all_devices_go_on():
    torch.cuda.init()
    before = torch.cuda.get_rng_state_all()
    with own_global_streams(7):
        torch.manual_seed(3)
    assert all(torch.equal(a, b) for a, b in zip(before, torch.cuda.get_rng_state_all(), strict=True))
