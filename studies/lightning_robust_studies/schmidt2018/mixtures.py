r"""The two mixtures of Schmidt et al. (NeurIPS 2018) as data modules: virtual data sets of any size and dimension."""

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, final

import torch
from torch import Tensor

from lightning_robust._checks import count, number, seed, values
from lightning_robust._counter import bits
from lightning_robust.datamodules import Batches, ImageDataModule, Part

_LABEL, _COORDINATE, _THETA = 0, 1, 2  # what a random number is for
_STREAM: dict[Part, int] = {"train": 0, "val": 1, "test": 2}


class _Mixture(ImageDataModule):
    """Samples of two classes that are made when a batch is drawn, each from its own random numbers."""

    num_classes = 2

    def __init__(
        self,
        d: int,
        *,
        theta: Tensor | Sequence[float] | None = None,
        theta_seed: int | None = None,
        train_size: int = 1000,
        val_size: int = 1000,
        test_size: int = 10_000,
        data_seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.d = count("d", d)
        self.image_shape = (self.d,)
        self._sizes: dict[Part, int] = {
            "train": count("train_size", train_size),
            "val": count("val_size", val_size, 0),
            "test": count("test_size", test_size),
        }
        if theta is not None and theta_seed is not None:
            raise ValueError(
                f"Expected one of the arguments `theta` and `theta_seed`, but got theta_seed={theta_seed!r}."
            )
        self.data_seed = seed("data_seed", data_seed)
        if theta_seed is not None:
            words = torch.tensor(_THETA), torch.arange(self.d)
            self.theta = self._draw_theta(_uniform(seed("theta_seed", theta_seed), *words))
        elif theta is None:
            self.theta = torch.ones(d, dtype=torch.float64)
        else:
            if not isinstance(theta, Tensor):
                theta = torch.tensor(values("theta", theta), dtype=torch.float64)
            self.theta = theta.detach().cpu().to(torch.float64, copy=True)
        if self.theta.shape != (d,) or not bool(self.theta.isfinite().all()):
            raise ValueError(
                f"Expected argument `theta` to be a finite vector of shape ({d},), but got shape "
                f"{tuple(self.theta.shape)}."
            )

    @abstractmethod
    def _draw_theta(self, uniform: Tensor) -> Tensor:
        """A random theta (d,) from uniform numbers (d,)."""

    @abstractmethod
    def _signless(self, uniform: Tensor) -> Tensor:
        """Map uniform numbers (N, d) to y x, the samples without the sign of their label."""

    @final
    def dataset(self, part: Part) -> Batches:
        """One part of the data, made when it is asked for."""
        return _MixtureBatches(self._sizes[part], self.data_seed, _STREAM[part], self.d, self._signless)


class _MixtureBatches(Batches):
    """Rows 0 to `size` - 1 of a virtual data set: batches (x, y)."""

    def __init__(self, size: int, seed: int, stream: int, d: int, signless: Callable[[Tensor], Tensor]) -> None:
        super().__init__(torch.arange(size))
        self.seed, self.stream, self.d, self.signless = seed, torch.tensor(stream), d, signless

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        rows = super().__getitems__(indices)
        y = (_uniform(self.seed, torch.tensor(_LABEL), self.stream, rows) < 0.5).long()
        coordinates = torch.arange(self.d)
        uniform = _uniform(self.seed, torch.tensor(_COORDINATE), self.stream, rows[:, None], coordinates)
        return ((2.0 * y - 1)[:, None] * self.signless(uniform)).float(), y


def _uniform(seed: int, *words: Tensor) -> Tensor:
    """Uniform numbers in the open interval (0, 1), odd multiples of 2^-53, float64; arguments as in `bits`."""
    return ((bits(seed, *words) >> 12).double() + 0.5) * 2.0**-52 + 0.5


@final
class GaussianMixture(_Mixture):
    r"""The Gaussian model: y uniform on {-1, +1}, :math:`x \mid y \sim N(y \theta^*, \sigma^2 I_d)`.

    Batches are (x, y): x float32 of shape (N, d); y int64 of shape (N,), 0 for y = -1 and 1 for y = +1. The value range
    is the whole line and so is the adversary's: attack in `PixelSpace(-math.inf, math.inf)`.

    Nothing is stored. Each number belongs to (`data_seed`, part, sample, coordinate), so a larger training set contains
    a smaller one, samples in more dimensions continue those in fewer, and the noise is the same for every sigma and
    theta. As in the model, labels are drawn independently: classes are not exactly balanced. Validation and test
    samples are new draws, so they do not depend on `train_size`.

    Args:
        d: the number of dimensions, at least 1.
        sigma: the standard deviation of every coordinate, positive; None: d^(1/4) / 2, where one sample is enough for a
            standard error of 1 % while robustness needs of the order of eps^2 sqrt(d).
        theta: the mean of the class +1, shape (d,); None: all ones, of norm sqrt(d) as in the theorems.
        theta_seed: draw theta from the prior N(0, I) of the lower bound (Theorem 6) instead.
        train_size: the number n of training samples.
        val_size: how many further samples to validate on.
        test_size: how many further samples to test on.
        data_seed: which virtual data set.
        kwargs: as for `ImageDataModule`; `seed` is that of the training order.

    Raises:
        ValueError: if an argument is outside its range, or both `theta` and `theta_seed` are given.

    Example:
        >>> data = GaussianMixture(d=100, sigma=0.1, train_size=8, batch_size=4)
        >>> x, y = data.tensors("train")
        >>> x.shape, bool(((x.mean(1) > 0).long() == y).all())
        (torch.Size([8, 100]), True)

    References:
        Schmidt, Santurkar, Tsipras, Talwar, Madry, "Adversarially Robust Generalization Requires More Data", NeurIPS
        2018, Definition 1. The exact curves are in `lightning_robust_studies.schmidt2018.theory`.
    """

    value_range = (-math.inf, math.inf)

    def __init__(self, d: int, sigma: float | None = None, **kwargs: Any) -> None:
        self.sigma = 0.5 * count("d", d) ** 0.25 if sigma is None else number("sigma", sigma, 0, above=True)
        super().__init__(d, **kwargs)

    def _draw_theta(self, uniform: Tensor) -> Tensor:
        return torch.special.ndtri(uniform)

    def _signless(self, uniform: Tensor) -> Tensor:
        return self.theta + self.sigma * torch.special.ndtri(uniform)


@final
class BernoulliMixture(_Mixture):
    r"""The Bernoulli model: y uniform on {-1, +1}, each coordinate of x right a little more often than wrong.

    Independently given y, :math:`x_i = y \theta^*_i` with probability 1/2 + tau, else :math:`-y \theta^*_i`.

    Batches are (x, y): x float32 of shape (N, d), entries -1 and +1, the value range; y int64 of shape (N,), 0 for
    y = -1 and 1 for y = +1. The adversary of the paper may leave [-1, 1]: attack in `PixelSpace(-math.inf, math.inf)`.
    How the samples are made is as in `GaussianMixture`.

    Args:
        d: the number of dimensions, at least 1.
        tau: the advantage of a coordinate, 0 < tau <= 1/2; None: d^(-1/4), at most 1/2, where one sample is enough for
            a standard error of 1 %.
        theta: the signs of the class +1, shape (d,), entries -1 and +1; None: all +1.
        theta_seed: draw theta uniformly from {-1, +1}^d, as in Theorem 9, instead.
        train_size: the number n of training samples.
        val_size: how many further samples to validate on.
        test_size: how many further samples to test on.
        data_seed: which virtual data set.
        kwargs: as for `ImageDataModule`; `seed` is that of the training order.

    Raises:
        ValueError: if an argument is outside its range, or both `theta` and `theta_seed` are given.

    Example:
        >>> data = BernoulliMixture(d=4, tau=0.5, train_size=3)
        >>> x, y = data.tensors("train")
        >>> bool((x == 2 * y[:, None] - 1).all())
        True

    References:
        Schmidt et al., NeurIPS 2018, Definition 7; see `GaussianMixture`.
    """

    value_range = (-1.0, 1.0)

    def __init__(self, d: int, tau: float | None = None, **kwargs: Any) -> None:
        self.tau = min(0.5, count("d", d) ** -0.25) if tau is None else number("tau", tau, 0, 0.5, above=True)
        super().__init__(d, **kwargs)
        if not bool((self.theta.abs() == 1).all()):
            raise ValueError("Expected argument `theta` to have the entries -1 and +1 only, but got others.")

    def _draw_theta(self, uniform: Tensor) -> Tensor:
        return torch.where(uniform < 0.5, 1.0, -1.0).double()

    def _signless(self, uniform: Tensor) -> Tensor:
        return torch.where(uniform < 0.5 + self.tau, self.theta, -self.theta)
