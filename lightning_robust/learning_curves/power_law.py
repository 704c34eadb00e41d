"""Power laws of learning curves: how the error falls with the number of samples."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lightning_robust import _checks
from lightning_robust.learning_curves.curves import Curves
from lightning_robust.learning_curves.seeds import half_width
from lightning_robust.plots import Estimate

_LOG_B = math.log(1e-3), math.log(10.0), 81
"""The exponents that are tried: the ends and the number of points of a grid."""
_NORMAL = 1.959964


@dataclass(frozen=True)
class PowerLaw:
    r"""An error that falls as :math:`\text{error}(n) = a\, n^{-b} + c` with a, c >= 0 and b > 0.

    Example:
        >>> law = PowerLaw(a=2.0, b=0.5, c=0.1)
        >>> round(law.predict(100.0), 6), round(law.samples(0.3), 6), law.samples(0.1)
        (0.3, 100.0, inf)
    """

    a: float
    b: float
    c: float = 0.0

    def __post_init__(self) -> None:
        for name in ("a", "b", "c"):
            _checks.number(name, getattr(self, name), 0, above=name == "b")

    def predict(self, n: float) -> float:
        """The error at n samples."""
        return self.a * n**-self.b + self.c

    def samples(self, error: float) -> float:
        r"""The n with an error, :math:`(a / (\text{error} - c))^{1/b}`; infinite at the floor c or below."""
        return math.inf if error <= self.c else (self.a / (error - self.c)) ** (1 / self.b)


@dataclass(frozen=True, eq=False)
class PowerLawFit:
    """The power law of the mean curve, and what its intervals are made of.

    Args:
        law: The law of the mean curve over seeds.
        laws: The law of each seed.
        covariance: Of a n0^-b, b and c from the draw of the test samples, with n0 the geometric mean of the sizes.
        middle: n0.
        count: The number of test samples behind the fit.
    """

    law: PowerLaw
    laws: Sequence[PowerLaw]
    covariance: Any
    middle: float
    count: int

    def exponent(self) -> Estimate:
        """The exponent b with its interval: Student's t over seeds; with one seed that of the draw of the samples."""
        return self._estimate(self.law.b, [law.b for law in self.laws], (0.0, 1.0, 0.0))

    def error(self, n: float) -> Estimate:
        """The error at n samples with its interval, as for `exponent`. That it is a power law is assumed."""
        slope, amplitude = (n / self.middle) ** -self.law.b, self.law.a * n**-self.law.b
        gradient = slope, -amplitude * math.log(n / self.middle), 1.0
        return self._estimate(self.law.predict(n), [law.predict(n) for law in self.laws], gradient)

    def _estimate(self, value: float, values: Sequence[float], gradient: Sequence[float]) -> Estimate:
        g = np.array(gradient[: len(self.covariance)])
        half = half_width(values) if len(values) > 1 else _NORMAL * math.sqrt(g @ self.covariance @ g)
        return Estimate(value, max(0.0, value - half), value + half, self.count)


def fit_power_law(
    n: Sequence[float], error: Sequence[float], weights: Sequence[float] | None = None, *, floor: bool = True
) -> PowerLaw:
    r"""The power law nearest to measured errors in weighted squares (Hestness et al., arXiv:1712.00409).

    .. math:: \min_{a \ge 0,\; 0 < b \le 10,\; c \ge 0} \; \sum_i w_i \left(a\, n_i^{-b} + c - \text{error}_i\right)^2

    For a given b this is linear, in closed form; a grid finds the valley of b and `minimize_scalar` its bottom.
    Where the errors do not fall, a = 0 and b means nothing.

    Args:
        n: The sizes, positive and different, (M,).
        error: The errors, at least 0, (M,).
        weights: Positive, (M,), best in proportion to one over the variance (`binomial_weights`); None: equal.
        floor: Is c fitted? If not, it is 0.

    Raises:
        ValueError: An argument is not as described, or there are fewer than 3 sizes, with a floor 4.

    Example:
        >>> sizes = [500, 1000, 2000, 4000, 8000]
        >>> law = fit_power_law(sizes, [3 * n**-0.4 + 0.02 for n in sizes])
        >>> f"{law.a:.4f} {law.b:.4f} {law.c:.4f}"
        '3.0000 0.4000 0.0200'
    """
    return _fit(n, error, [1.0] * len(n) if weights is None else weights, floor)[0]


def fit_with_bands(curves: Curves, *, floor: bool = True) -> PowerLawFit:
    """The power law of the error 1 - accuracy: of the mean curve over seeds, and of each seed for the intervals.

    Example:
        >>> sizes = (500, 1000, 2000, 4000)
        >>> curves = Curves(n=sizes, accuracy={0: [1 - 3 * n**-0.4 for n in sizes]}, count=(100_000,) * 4)
        >>> fit_with_bands(curves, floor=False).error(8000).text()
        '8.2 % [8.1, 8.4]'
    """
    errors = 1 - np.array(list(curves.accuracy.values()))
    weights = binomial_weights(errors.mean(0), curves.count)
    law, covariance, middle = _fit(curves.n, errors.mean(0), weights, floor)
    laws = [_fit(curves.n, row, weights, floor)[0] for row in errors]
    return PowerLawFit(law, laws, covariance, middle, min(curves.count) * len(errors))


def binomial_weights(error: Any, count: Any) -> Any:
    r"""One over the variance of errors, :math:`\text{count} / (q (1 - q))` with q = (wrong + 1/2) / (count + 1)."""
    samples = np.asarray(count, float)
    q = (np.asarray(error) * samples + 0.5) / (samples + 1)
    return samples / (q * (1 - q))


def _fit(n: Any, error: Any, weights: Any, floor: bool) -> tuple[PowerLaw, Any, float]:
    """The law, the covariance of (a middle^-b, b, c), and the geometric mean `middle` of the sizes."""
    from scipy.optimize import minimize_scalar

    sizes, errors = np.array(_checks.values("n", n, 0, above=True)), np.array(_checks.values("error", error, 0))
    by = np.array(_checks.values("weights", weights, 0, above=True))
    if len(set(sizes)) < len(sizes) or len(sizes) < 3 + floor or not len(sizes) == len(errors) == len(by):
        kind = "with a floor" if floor else "without a floor"
        raise ValueError(
            f"Expected arguments `n`, `error` and `weights` to be of one length, and `n` to have at least {3 + floor} "
            f"different sizes for a power law {kind}, but got n={sizes.tolist()} and error={errors.tolist()}."
        )
    middle, root = float(np.exp(np.log(sizes).mean())), by**0.5
    x = sizes / middle

    def nearest(log_b: float) -> tuple[Any, float]:
        columns = np.stack([x ** -np.exp(log_b), np.ones(len(x))][: 1 + floor], axis=1)
        return _least_squares(columns * root[:, None], errors * root)

    grid = np.linspace(*_LOG_B)
    at = int(np.argmin([nearest(log_b)[1] for log_b in grid]))
    valley = grid[max(at - 1, 0)], grid[min(at + 1, len(grid) - 1)]
    log_b = minimize_scalar(lambda log_b: nearest(log_b)[1] ** 2, bounds=valley, options={"xatol": 1e-10}).x
    b, (a, *c) = float(np.exp(log_b)), nearest(log_b)[0].tolist()
    jacobian = np.stack([x**-b, -a * x**-b * np.log(x), np.ones(len(x))][: 2 + floor], axis=1) * root[:, None]
    return PowerLaw(a * middle**b, b, *c), np.linalg.pinv(jacobian.T @ jacobian), middle


def _least_squares(columns: Any, values: Any) -> tuple[Any, float]:
    """The coefficients at least 0 of one or two columns, and the norm of what they leave: all of them, or one alone.

    As `scipy.optimize.nnls`, which fails on exact data in scipy 1.12.
    """
    columns, norms = columns / np.linalg.norm(columns, axis=0), np.linalg.norm(columns, axis=0)
    alone = np.diag((values @ columns).clip(0))
    fits = [np.linalg.lstsq(columns, values, rcond=None)[0], *alone]
    left = [math.inf if (fit < 0).any() else float(np.linalg.norm(values - columns @ fit)) for fit in fits]
    best = int(np.argmin(left))
    return fits[best] / norms, left[best]
