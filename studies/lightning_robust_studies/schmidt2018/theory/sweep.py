r"""The square-root-of-d gap between standard and robust learning, in one sweep over dimensions and radii."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator

from lightning_robust import _checks
from lightning_robust._checks import count, counts, number, values
from lightning_robust_studies.schmidt2018.theory._check import open_interval
from lightning_robust_studies.schmidt2018.theory.sample_size import n_robust, n_robust_large_d, n_standard_large_d
from lightning_robust_studies.schmidt2018.theory.statements import STATEMENTS

DIMENSIONS = tuple(2**k for k in range(8, 17))
RADII = (0.1, 0.25, 0.5)


@dataclass(frozen=True, kw_only=True)
class SweepRow:
    """One point of the sweep: dimension, radius, and the numbers of samples that go with them.

    Args:
        d: the dimension.
        eps: the l_inf radius.
        sigma: the noise of a coordinate, sigma_scale * d^(1/4).
        n_standard: samples for a standard error of `target`, mean estimator.
        n_standard_large_d: the same from the closed form for large d.
        n_robust: samples for a robust error of `target`, mean estimator; infinite where none suffice.
        n_half: samples for a robust error of 1/2, mean estimator: the crossing with slope exactly 1/2 in d.
        n_half_large_d: the same from the closed form for large d.
        n_lower: up to here no learner does better than (1 - 1/d) / 2 (Corollary 23).
    """

    d: int
    eps: float
    sigma: float
    n_standard: float
    n_standard_large_d: float
    n_robust: float
    n_half: float
    n_half_large_d: float
    n_lower: float


def sqrt_d_sweep(
    dimensions: Sequence[int] = DIMENSIONS,
    radii: Sequence[float] = RADII,
    *,
    sigma_scale: float = 0.5,
    target: float = 0.01,
    numbers: int = 2**18,
    seed: int = 0,
) -> list[SweepRow]:
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
        One row for each dimension and radius, dimension by dimension.

    Example:
        >>> for row in sqrt_d_sweep((2**10, 2**12), (0.5,)):
        ...     print(row.d, f"{row.n_standard:.2f} {row.n_robust:.1f} {row.n_half:.1f} {row.n_half_large_d:.1f}")
        1024 0.39 4.9 1.5 1.5
        4096 0.37 6.9 3.0 3.0

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
            SweepRow(
                d=d,
                eps=eps,
                sigma=sigma,
                n_standard=standard,
                n_standard_large_d=n_standard_large_d(target, d, sigma),
                n_robust=n_robust(target, theta, sigma, eps, noise),
                n_half=n_robust(0.5, theta, sigma, eps, noise),
                n_half_large_d=n_robust_large_d(0.5, d, sigma, eps),
                n_lower=STATEMENTS["Corollary 23"].limit("n", d=d, sigma=sigma, eps=eps),
            )
            for eps in radii
        ]
    return rows
