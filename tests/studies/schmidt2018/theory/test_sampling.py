"""The samplers have the moments of their model, and leave the global random state alone."""

import pytest
import torch
from torch import Generator

from lightning_robust_studies.schmidt2018.theory import sample_bernoulli, sample_gaussian


def test_gaussian_samples_have_the_means_and_covariance_of_the_model():
    theta = torch.tensor([1.0, -2.0, 0.0], dtype=torch.float64)
    x, y = sample_gaussian(200_000, theta, 1.5, generator=Generator().manual_seed(0))
    assert set(y.tolist()) == {-1.0, 1.0}
    assert abs(y.mean()) < 4 / 200_000**0.5
    for label in (-1, 1):
        points = x[y == label]
        assert torch.allclose(points.mean(0), label * theta, atol=4 * 1.5 / len(points) ** 0.5)
        assert torch.allclose(points.T.cov(), 1.5**2 * torch.eye(3, dtype=torch.float64), atol=0.05)


def test_bernoulli_coordinates_are_right_with_probability_half_plus_tau_and_independent_given_the_label():
    theta = torch.tensor([1.0, -1.0, -1.0])
    x, y = sample_bernoulli(100_000, theta, 0.2, generator=Generator().manual_seed(0))
    assert set(x.unique().tolist()) == {-1.0, 1.0}
    right = (x * y[:, None] * theta > 0).double()
    assert torch.allclose(right.mean(0), torch.full((3,), 0.7, dtype=torch.float64), atol=4 * 0.46 / 100_000**0.5)
    covariance = right.T.cov()
    assert (covariance - covariance.diag().diag()).abs().max() < 4 * 0.21 / 100_000**0.5


@pytest.mark.parametrize("sample", [sample_gaussian, sample_bernoulli])
def test_a_sample_depends_on_its_generator_only(sample):
    state = torch.get_rng_state()
    first, again, other = (sample(5, torch.ones(4), 0.3, generator=Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])
    assert first[0].dtype == first[1].dtype == torch.float64


def test_no_samples_is_an_empty_sample():
    x, y = sample_gaussian(0, torch.ones(4), 1.0, generator=Generator())
    assert x.shape == (0, 4)
    assert y.shape == (0,)
