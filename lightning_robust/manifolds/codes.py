"""Latent codes drawn at random."""

import math

import torch
from torch import Tensor

from lightning_robust import _checks
from lightning_robust._checks import count, number


def truncated_normal(n: int, latent: int, *, bound: float = 2.0, seed: int = 0) -> Tensor:
    r"""Codes from the standard normal distribution on :math:`[-bound, bound]^Z`, by inversion.

    Args:
        n: N, how many.
        latent: Z, their dimension.
        bound: beyond which there are none.
        seed: of the draw. The first codes of a longer draw with the same seed are the same.

    Returns:
        (N, Z) float32 on the CPU.

    Raises:
        ValueError: if `bound` is not positive.

    Example:
        >>> truncated_normal(2, 3).shape, bool(truncated_normal(1000, 3).abs().max() <= 2)
        (torch.Size([2, 3]), True)

    References:
        Stutz, Hein, Schiele, CVPR 2019 (arXiv 1812.00740), draw their samples so, with bound 2.
    """
    size = count("n", n, 0), count("latent", latent)
    bound, seed = number("bound", bound, 0, above=True), _checks.seed("seed", seed)
    tail = 0.5 * math.erfc(bound / math.sqrt(2))
    uniform = torch.rand(size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return torch.special.ndtri(tail + (1 - 2 * tail) * uniform).clamp(-bound, bound).float()
