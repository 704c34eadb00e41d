"""Random codes against scipy's truncated normal distribution."""

import pytest
import scipy.stats
import torch

from lightning_robust.manifolds.codes import truncated_normal


@pytest.mark.parametrize("bound", [0.5, 2.0])
def test_distribution(bound):
    z = truncated_normal(4000, 5, bound=bound, seed=3)
    assert z.abs().max() <= bound
    assert scipy.stats.kstest(z.flatten().numpy(), scipy.stats.truncnorm(-bound, bound).cdf).pvalue > 0.01


def test_draws_are_reproducible_and_leave_the_global_generator_alone():
    state = torch.random.get_rng_state()
    assert torch.equal(truncated_normal(5, 2, seed=1), truncated_normal(9, 2, seed=1)[:5])
    assert not torch.equal(truncated_normal(5, 2, seed=1), truncated_normal(5, 2, seed=2))
    assert torch.equal(state, torch.random.get_rng_state())
