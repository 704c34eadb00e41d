"""Checks of arguments that may be tensors, beside those of `lightning_robust._checks`."""

import numbers

import numpy as np
import torch
from torch import Tensor

from lightning_robust._checks import instance, number

Real = float | Tensor


def require(holds: bool | Tensor, name: str, expectation: str, value: object) -> None:
    """Refuse `value` unless `holds` (everywhere, for a tensor); the error names argument, expectation and value."""
    if not bool(torch.as_tensor(holds).all()):
        raise ValueError(f"Expected argument `{name}` to be {expectation}, but got {value}.")


def real(name: str, value: Real) -> Tensor:
    """Take a number or a tensor as a float64 tensor; NaN is refused."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real | np.ndarray | Tensor):
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


def open_interval(name: str, value: float, high: float = 1.0) -> float:
    """Take a number strictly between 0 and `high`, such as a probability."""
    return number(name, value, 0, high, above=True, below=True)


def vector(name: str, value: Tensor) -> Tensor:
    """Take a finite tensor (..., d) as float64."""
    instance(name, value, Tensor, "a tensor of shape (..., d)")
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
