"""Latent codes drawn at random."""

import torch
from torch import Tensor

from lightning_robust import _checks
from lightning_robust._checks import count, number
from lightning_robust._noise import normal_within


def truncated_normal(n: int, latent: int, *, bound: float = 2.0, seed: int = 0) -> Tensor:
    r"""Codes from the standard normal distribution on :math:`[-bound, bound]^Z`, by inversion.

    Args:
        n: N, the number of codes.
        latent: Z, their dimension.
        bound: the largest absolute value of an entry.
        seed: of the draw. The first codes of a longer draw with the same seed are the same.

    Returns:
        (N, Z) float32 on the CPU.

    Raises:
        ValueError: if `bound` is not positive.

    Example:
        >>> truncated_normal(2, 3).shape, bool(truncated_normal(1000, 3).abs().max() <= 2)
        (torch.Size([2, 3]), True)

    References:
        Stutz, Hein, Schiele, CVPR 2019 (arXiv 1812.00740), draw their samples like this, with bound 2.
    """
    size = count("n", n, 0), count("latent", latent)
    bound, seed = number("bound", bound, 0, above=True), _checks.seed("seed", seed)
    uniform = torch.rand(size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return normal_within(uniform, bound).float()
