r"""Samples of the two models of Schmidt et al. (2018): the Gaussian and the Bernoulli mixture.

Every draw takes an explicit `torch.Generator`; the global random state is neither read nor changed.
"""

import torch
from torch import Generator, Tensor

from lightning_robust._checks import count
from lightning_robust_studies.schmidt2018.theory._check import Real, bernoulli_rate, positive, signs, source, vector


def _labels(n: int, generator: Generator) -> Tensor:
    bits = torch.randint(0, 2, (n,), generator=generator, device=generator.device)
    return 2.0 * bits.to(torch.float64) - 1.0


def sample_gaussian(n: int, theta: Tensor, sigma: Real, *, generator: Generator) -> tuple[Tensor, Tensor]:
    r"""Draw from the Gaussian model: y uniform on {-1, +1}, :math:`x \mid y \sim N(y \theta^*, \sigma^2 I_d)`.

    Args:
        n: how many samples, at least 0.
        theta: the mean of the class +1, shape (d,), on the device of `generator`.
        sigma: the standard deviation of every coordinate, positive.
        generator: the source of randomness.

    Returns:
        x of shape (n, d) and y of shape (n,), both float64.

    Example:
        >>> x, y = sample_gaussian(3, torch.ones(2), 0.1, generator=torch.Generator().manual_seed(0))
        >>> x.shape, bool((x.sign() == y[:, None]).all())
        (torch.Size([3, 2]), True)

    Source: Schmidt et al. 2018, Definition 1, p. 4.
    """
    n = count("n", n, 0)
    theta, spread = vector("theta", theta), positive("sigma", sigma)
    y = _labels(n, source(generator))
    noise = torch.randn(n, theta.shape[-1], dtype=torch.float64, generator=generator, device=generator.device)
    return y[:, None] * theta + spread * noise, y


def sample_bernoulli(n: int, theta: Tensor, tau: float, *, generator: Generator) -> tuple[Tensor, Tensor]:
    r"""Draw from the Bernoulli model: y uniform on {-1, +1}, and each :math:`x_i` is right more often than wrong.

    Independently given y, :math:`x_i = y \theta^*_i` with probability 1/2 + tau, else :math:`-y \theta^*_i`.

    Args:
        n: how many samples, at least 0.
        theta: the signs of the class +1, shape (d,), entries +1 and -1, on the device of `generator`.
        tau: the advantage of a coordinate, 0 < tau <= 1/2.
        generator: the source of randomness.

    Returns:
        x of shape (n, d), entries +1 and -1, and y of shape (n,), both float64.

    Example:
        >>> x, y = sample_bernoulli(3, torch.ones(2), 0.5, generator=torch.Generator().manual_seed(0))
        >>> bool((x == y[:, None]).all())
        True

    Source: Schmidt et al. 2018, Definition 7, pp. 6-7.
    """
    n = count("n", n, 0)
    theta = signs("theta", theta)
    tau = bernoulli_rate(tau)
    y = _labels(n, source(generator))
    uniform = torch.rand(n, theta.shape[-1], dtype=torch.float64, generator=generator, device=generator.device)
    right = torch.where(uniform < 0.5 + tau, 1.0, -1.0).to(torch.float64)
    return y[:, None] * theta * right, y
