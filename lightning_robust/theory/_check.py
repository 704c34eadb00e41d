"""Checks of arguments, shared by the files of this package."""

import math

import torch
from torch import Tensor

Real = float | Tensor


def require(holds: bool | Tensor, name: str, expectation: str, value: object) -> None:
    """Refuse `value` unless `holds` (everywhere, for a tensor); the error names argument, expectation and value."""
    if not bool(torch.as_tensor(holds).all()):
        raise ValueError(f"Expected argument `{name}` to be {expectation}, but got {value}.")


def real(name: str, value: Real) -> Tensor:
    """Take a number or a tensor as a float64 tensor; NaN is refused."""
    if isinstance(value, bool) or not isinstance(value, int | float | Tensor):
        raise TypeError(f"Expected argument `{name}` to be a number or a tensor, but got {value!r}.")
    result = torch.as_tensor(value, dtype=torch.float64)
    require(~result.isnan(), name, "free of NaN", value)
    return result


def positive(name: str, value: Real) -> Tensor:
    """Take a positive finite number (or a tensor of them) as a float64 tensor."""
    result = real(name, value)
    require((result > 0) & result.isfinite(), name, "positive and finite", value)
    return result


def non_negative(name: str, value: Real) -> Tensor:
    """Take a finite number that is not negative (or a tensor of them) as a float64 tensor."""
    result = real(name, value)
    require((result >= 0) & result.isfinite(), name, "finite and not negative", value)
    return result


def probability(name: str, value: float) -> None:
    """Refuse a probability that is not strictly between 0 and 1."""
    require(0 < value < 1, name, "strictly between 0 and 1", value)


def count(name: str, value: int, least: int = 1) -> None:
    """Refuse what is not a whole number of at least `least`."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    require(whole and value >= least, name, f"a whole number of at least {least}", value)


def vector(name: str, value: Tensor) -> Tensor:
    """Take a finite tensor (..., d) as float64."""
    if not isinstance(value, Tensor):
        raise TypeError(f"Expected argument `{name}` to be a tensor of shape (..., d), but got {value!r}.")
    require(value.ndim >= 1 and value.shape[-1] >= 1, name, "a tensor of shape (..., d)", f"shape {tuple(value.shape)}")
    require(value.isfinite(), name, "finite", "NaN or infinity in it")
    return value.to(torch.float64)


def same_size(name: str, value: Tensor, like: Tensor) -> None:
    """Refuse a tensor whose last axis differs from that of `like`."""
    d = like.shape[-1]
    require(value.shape[-1] == d, name, f"of shape (..., {d})", f"shape {tuple(value.shape)}")


def signs(name: str, value: Tensor) -> Tensor:
    """Take a tensor of +1 and -1 as float64."""
    result = vector(name, value)
    require(result.abs() == 1, name, "made of +1 and -1 only", value)
    return result


def bernoulli_rate(tau: float, most: float = 0.5) -> None:
    """Refuse a `tau` outside (0, `most`]."""
    require(0 < tau <= most, "tau", f"in (0, {most}]", tau)


def norm_order(p: float) -> None:
    """Refuse an order of a norm below 1."""
    require(not math.isnan(p) and p >= 1, "p", "at least 1 (`math.inf` for the largest coordinate)", p)
