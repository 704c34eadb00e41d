"""The normal distribution function against scipy, in both tails."""

import torch
from scipy.stats import norm

from lightning_robust_studies.schmidt2018.theory._normal import normal_cdf


def test_it_keeps_its_digits_in_both_tails():
    x = torch.linspace(-37, 9, 200, dtype=torch.float64)
    assert torch.allclose(normal_cdf(x), torch.from_numpy(norm.cdf(x.numpy())), rtol=1e-11, atol=0)
