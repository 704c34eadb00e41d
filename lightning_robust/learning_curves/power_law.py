"""Power laws of learning curves: how the error falls with the number of samples, with bands over seeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lightning_robust.learning_curves.draws import Floats, central, draws_of_mean, mean_curve, seed_weights
from lightning_robust.learning_curves.per_seed import Curves

FLATTEST, STEEPEST = 1e-3, 10.0
"""The exponents b that are looked at."""
_GRID, _STEPS = 161, 60


@dataclass(frozen=True)
class PowerLaw:
    r"""An error that falls as :math:`\text{error}(n) = a\, n^{-b} + c`.

    Args:
        a: the error above the floor at one sample, at least 0.
        b: the exponent, positive.
        c: the floor that no number of samples gets below, at least 0.

    Raises:
        ValueError: if one is out of its range.

    Example:
        >>> law = PowerLaw(a=2.0, b=0.5, c=0.1)
        >>> round(law.predict(100.0), 6), round(law.samples(0.3), 6), law.samples(0.1)
        (0.3, 100.0, inf)
    """

    a: float
    b: float
    c: float = 0.0

    def __post_init__(self) -> None:
        for name, value, fits in (("a", self.a, self.a >= 0), ("b", self.b, self.b > 0), ("c", self.c, self.c >= 0)):
            if not (fits and math.isfinite(value)):
                least = "positive" if name == "b" else "at least 0"
                raise ValueError(f"Expected argument `{name}` to be finite and {least}, but got {value}.")

    def predict(self, n: float) -> float:
        """The error at n samples."""
        return self.a * n**-self.b + self.c

    def samples(self, error: float) -> float:
        r"""The n at which the error is so much, :math:`(a / (\text{error} - c))^{1/b}`; infinite at the floor or below.

        Beyond the largest size that the law was fitted to this is an extrapolation.
        """
        if error <= self.c:
            return math.inf
        return (self.a / (error - self.c)) ** (1 / self.b)


@dataclass(frozen=True, eq=False)
class PowerLawFit:
    """A power law with those of its resamples.

    Args:
        law: of the mean curve over seeds.
        draws: (R, 3), a, b and c of each resample.
    """

    law: PowerLaw
    draws: Floats

    def bands(self, n: Sequence[float], confidence: float = 0.95) -> tuple[list[float], list[float]]:
        r"""The ends of the pointwise percentile intervals of the error at the sizes `n`, (P,) each.

        They are those of the law's own uncertainty. That errors follow a power law at all is assumed, which matters
        most beyond the largest size.
        """
        a, b, c = (self.draws[:, i, None] for i in range(3))
        errors = a * np.asarray(n, dtype=float)[None, :] ** -b + c
        low, high = central(errors, errors, confidence)
        return low.tolist(), high.tolist()

    def exponent(self, confidence: float = 0.95) -> tuple[float, float]:
        """The ends of the percentile interval of b."""
        low, high = central(self.draws[:, 1], self.draws[:, 1], confidence)
        return float(low), float(high)


def fit_power_law(
    n: Sequence[float], error: Sequence[float], weights: Sequence[float] | None = None, *, floor: bool = True
) -> PowerLaw:
    r"""The power law nearest to measured errors in weighted squares (Hestness et al., 2017).

    .. math:: \min_{a \ge 0,\; b > 0,\; c \ge 0} \; \sum_i w_i \left(a\, n_i^{-b} + c - \text{error}_i\right)^2

    For a given b this is linear in a and c, and solved in closed form, bounds included. What is left is one variable:
    a grid of b from 0.001 to 10, even in log b, finds the valley of the global minimum, and golden sections its bottom.
    There are no starting values to choose, and nothing can fail to converge. Sizes are divided by their geometric mean
    on the way, which separates a from b.

    An exponent at an end of that range says that the sizes do not determine it. Where the errors do not fall, a = 0 and
    b means nothing.

    Args:
        n: the sizes, positive and different, (M,).
        error: the errors, finite and at least 0, (M,).
        weights: positive, (M,), best in proportion to one over the variance (`binomial_weights`); None is equal ones.
        floor: whether c is fitted; if not, it is 0.

    Raises:
        ValueError: if an argument is not as said, or there are fewer than 3 sizes, with a floor 4.

    Example:
        >>> sizes = [500, 1000, 2000, 4000, 8000]
        >>> law = fit_power_law(sizes, [3 * n**-0.4 + 0.02 for n in sizes])
        >>> f"{law.a:.4f} {law.b:.4f} {law.c:.4f}"
        '3.0000 0.4000 0.0200'

    References:
        J. Hestness et al., Deep learning scaling is predictable, empirically, arXiv:1712.00409; its laws have the floor
        where the error of the best possible model is not 0. G. H. Golub, V. Pereyra, The differentiation of
        pseudo-inverses and nonlinear least squares problems whose variables separate, SIAM J. Numer. Anal. 10 (1973).
    """
    sizes, errors = np.asarray(n, dtype=float), np.asarray(error, dtype=float)
    by = np.ones(len(sizes)) if weights is None else np.asarray(weights, dtype=float)
    _check_sizes(sizes, floor)
    if errors.shape != sizes.shape or not (np.isfinite(errors) & (errors >= 0)).all():
        raise ValueError(
            f"Expected argument `error` to be {len(sizes)} finite numbers of at least 0, but got {list(error)}."
        )
    if by.shape != sizes.shape or not (np.isfinite(by) & (by > 0)).all():
        raise ValueError(f"Expected argument `weights` to be {len(sizes)} positive numbers, but got {weights}.")
    return PowerLaw(*(float(each) for each in _fits(sizes, errors[None], by, floor)[0]))


def fit_with_bands(curves: Curves, *, floor: bool = True, resamples: int = 2000, seed: int = 0) -> PowerLawFit:
    r"""The power law of the error 1 - accuracy of the mean curve over seeds, with resamples for its bands.

    The mean curve is fitted with `binomial_weights`, then, with the same weights, each of its draws: of other seeds by
    Student's t (with one seed this part is missing), then of other test images (`draws_of_mean`).

    Args:
        curves: the curve of each seed, with the same sizes.
        floor: whether c is fitted; if not, it is 0.
        resamples: how many, at least 100.
        seed: of the random numbers.

    Raises:
        ValueError: if an argument is not as said, or there are fewer than 3 sizes, with a floor 4.

    Example:
        >>> from lightning_robust.learning_curves.per_seed import Curve
        >>> sizes = (500, 1000, 2000, 4000)
        >>> accuracy = tuple(1 - 3 * n**-0.4 for n in sizes)
        >>> curves = {0: Curve(n=sizes, accuracy=accuracy, count=(100_000,) * 4)}
        >>> fit = fit_with_bands(curves, floor=False)
        >>> low, high = fit.bands([8000])
        >>> f"{fit.law.predict(8000):.3f} [{low[0]:.2f}, {high[0]:.2f}]"
        '0.082 [0.08, 0.08]'
    """
    if resamples < 100:
        raise ValueError(f"Expected argument `resamples` to be at least 100, but got {resamples}.")
    generator = np.random.default_rng(seed)
    sizes, mean, count = mean_curve(curves)
    _check_sizes(sizes, floor)
    by = binomial_weights(1 - mean, count)
    drawn = draws_of_mean(curves, seed_weights(len(curves), resamples, generator), generator)
    found = _fits(sizes, 1 - np.concatenate([mean[None], drawn]), by, floor)
    return PowerLawFit(PowerLaw(*(float(each) for each in found[0])), found[1:])


def binomial_weights(error: Sequence[float] | Floats, count: Sequence[float] | Floats) -> Floats:
    r"""One over the variance of errors on `count` images, :math:`\text{count} / (q (1 - q))`.

    Here :math:`q = (k + \tfrac12) / (\text{count} + 1)` with k wrong images, so it is finite for errors of 0 and 1.

    Example:
        >>> binomial_weights([0.5, 0.0], [99, 99]).round().tolist()
        [396.0, 19899.0]
    """
    images = np.asarray(count, dtype=float)
    q = (np.asarray(error, dtype=float) * images + 0.5) / (images + 1)
    return images / (q * (1 - q))


def _check_sizes(sizes: Floats, floor: bool) -> None:
    if sizes.ndim != 1 or not (np.isfinite(sizes) & (sizes > 0)).all() or len(np.unique(sizes)) < len(sizes):
        raise ValueError(f"Expected argument `n` to be positive, finite and different, but got {sizes.tolist()}.")
    least = 4 if floor else 3
    if len(sizes) < least:
        kind = "with a floor" if floor else "without a floor"
        raise ValueError(f"Expected at least {least} sizes for a power law {kind}, but got {len(sizes)}.")


def _fits(sizes: Floats, errors: Floats, weights: Floats, floor: bool) -> Floats:
    """(R, 3): a, b and c of each row of `errors` (R, M)."""
    middle = float(np.exp(np.log(sizes).mean()))
    relative, by = sizes / middle, weights / weights.sum()

    def cost(log_b: Floats) -> Floats:
        return _linear(relative, errors, by, np.exp(log_b), floor)[2]

    grid = np.linspace(math.log(FLATTEST), math.log(STEEPEST), _GRID)
    best = np.stack([cost(np.full(len(errors), each)) for each in grid]).argmin(0)
    low, high = grid[np.maximum(best - 1, 0)], grid[np.minimum(best + 1, _GRID - 1)]
    golden = (math.sqrt(5) - 1) / 2
    for _ in range(_STEPS):
        left, right = high - golden * (high - low), low + golden * (high - low)
        rises = cost(left) < cost(right)
        low, high = np.where(rises, low, left), np.where(rises, right, high)
    b = np.exp((low + high) / 2)
    a, c, _ = _linear(relative, errors, by, b, floor)
    return np.stack([a * middle**b, b, c], axis=1)


def _linear(n: Floats, errors: Floats, weights: Floats, b: Floats, floor: bool) -> tuple[Floats, Floats, Floats]:
    """The best a, c >= 0 for a given b and their cost, (R,) each: of a convex problem, so bounds are met one by one."""
    x = n[None, :] ** -b[:, None]
    a_alone = (x * errors) @ weights / (x * x @ weights)
    if not floor:
        return a_alone, np.zeros_like(b), (a_alone[:, None] * x - errors) ** 2 @ weights
    centre_x, centre = x @ weights, errors @ weights
    apart = x - centre_x[:, None]
    a = (apart * (errors - centre[:, None])) @ weights / (apart * apart @ weights)
    c = centre - a * centre_x
    a, c = np.where(a < 0, 0.0, a), np.where(a < 0, centre, c)
    a, c = np.where(c < 0, a_alone, a), np.where(c < 0, 0.0, c)
    return a, c, (a[:, None] * x + c[:, None] - errors) ** 2 @ weights
