r"""The square-root-of-d gap between standard and robust learning, in one sweep over dimensions and radii."""

from collections.abc import Sequence

import pandas as pd
import torch
from torch import Generator

from lightning_robust import _checks
from lightning_robust._checks import count, counts, number, values
from lightning_robust_studies.schmidt2018.grid import DIMENSIONS, RADII
from lightning_robust_studies.schmidt2018.theory._check import open_interval
from lightning_robust_studies.schmidt2018.theory.sample_size import n_robust, n_robust_large_d, n_standard_large_d
from lightning_robust_studies.schmidt2018.theory.statements import STATEMENTS


def sqrt_d_sweep(
    dimensions: Sequence[int] = DIMENSIONS,
    radii: Sequence[float] = RADII,
    *,
    sigma_scale: float = 0.5,
    target: float = 0.01,
    numbers: int = 2**18,
    seed: int = 0,
) -> pd.DataFrame:
    r"""Samples the mean estimator needs, standard and robust, at :math:`\sigma = c\, d^{1/4}` with a flat theta.

    The standard need is constant in d, the robust need grows like :math:`\epsilon^2 \sqrt d`: read the exponent off
    `n_half`, not off `n_robust` (see `affine_law`). Every error is exact given the weights; each dimension averages
    over 8 to 256 draws of them, in pairs g and -g: at the 50 % crossing, where the error is odd in the margin, the
    fluctuations of a pair cancel. The nine dimensions and three radii by default take about a second.

    Args:
        dimensions: the values of d, each at least 2.
        radii: the l_inf radii, not negative.
        sigma_scale: c in sigma = c d^(1/4), positive; 1 sample gives 1 % standard error for c below 0.6556.
        target: the error that `n_standard` and `n_robust` reach, strictly between 0 and 1/2.
        numbers: random numbers for a dimension, which sets the number of draws.
        seed: of the generator that draws them.

    Returns:
        A row for each dimension and radius, dimension by dimension, with the columns d, eps, sigma and these numbers of
        samples of the mean estimator: `n_standard` for a standard error of `target`, `n_robust` for a robust one
        (infinite where none suffice), `n_half` for a robust error of 1/2, whose slope in d is exactly 1/2;
        `n_standard_large_d` and `n_half_large_d` from the closed forms for large d; and `n_lower`, up to which no
        learner does better than (1 - 1/d) / 2 (Corollary 23).

    Example:
        >>> sqrt_d_sweep((2**10, 2**12), (0.5,))[["d", "n_standard", "n_robust", "n_half"]].round(1)
              d  n_standard  n_robust  n_half
        0  1024         0.4       4.9     1.5
        1  4096         0.4       6.9     3.0

    Source: Schmidt et al. 2018, Theorems 4, 5 and 6.
    """
    sigma_scale = number("sigma_scale", sigma_scale, 0, above=True)
    target, numbers = open_interval("target", target, 0.5), count("numbers", numbers)
    dimensions, radii = counts("dimensions", dimensions, 2), values("radii", radii, 0)
    generator = Generator().manual_seed(_checks.seed("seed", seed))
    rows = []
    for d in dimensions:
        pairs = min(max(numbers // (2 * d), 4), 128)
        noise = torch.randn(pairs, d, dtype=torch.float64, generator=generator)
        noise = torch.cat([noise, -noise])
        theta, sigma = torch.ones(d, dtype=torch.float64), sigma_scale * d**0.25
        standard = n_robust(target, theta, sigma, 0.0, noise)
        rows += [
            {
                "d": d,
                "eps": eps,
                "sigma": sigma,
                "n_standard": standard,
                "n_standard_large_d": n_standard_large_d(target, d, sigma),
                "n_robust": n_robust(target, theta, sigma, eps, noise),
                "n_half": n_robust(0.5, theta, sigma, eps, noise),
                "n_half_large_d": n_robust_large_d(0.5, d, sigma, eps),
                "n_lower": STATEMENTS["Corollary 23"].limit("n", d=d, sigma=sigma, eps=eps),
            }
            for eps in radii
        ]
    return pd.DataFrame(rows)
