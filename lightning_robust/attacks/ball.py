r"""Balls: how far a perturbation may go.

A ball :math:`B = \{\delta : \|\delta\| \le \epsilon\}` answers four questions, per sample, for every space it is used
in: `project` (the nearest point of B), `support` (the point of B that is furthest along a direction), `sample` (a
uniform point of B) and `norm`. The radius is one number or one per sample (N,), in the units of the space: pixels in
[0, 1], latent codes, angles. A new ball is one class, in another file or in your project. Every space, gain and attack
then has it, so it takes perturbations of any shape (N, ...): images, codes (N, Z), affine parameters (N, 6).
"""

import copy
from abc import ABC, abstractmethod
from dataclasses import fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from lightning_robust import _checks
from lightning_robust._noise import Noise
from lightning_robust.attacks._tensors import column, set_fields

Radius = float | Tensor
_B = TypeVar("_B", bound="Ball")
_S = TypeVar("_S", bound="Sized")


def per_sample(value: Radius, like: Tensor) -> Tensor | float:
    """Make a radius broadcast against `like` (N, ...): a float stays, a tensor (N,) becomes (N, 1, ...)."""
    if not isinstance(value, Tensor) or value.ndim == 0:
        return value
    if value.shape != like.shape[:1]:
        raise ValueError(
            f"Expected argument `eps` to be a number or one radius per sample, shape ({like.shape[0]},) for this "
            f"batch, but got shape {tuple(value.shape)}."
        )
    return column(value.to(like), like)


def radius_of(value: Any) -> Radius:
    """A radius: a number, or a float tensor (N,)."""
    if not isinstance(value, Tensor):
        return _checks.number("eps", value, 0)
    _shaped(value)
    if not bool(((value >= 0) & value.isfinite()).all()):
        raise ValueError(f"Expected argument `eps` to be finite and not negative, but got {value}.")
    return value


def _shaped(value: Tensor) -> Tensor:
    """The tensor, if it can be a radius by its shape and type. Looking at its values would wait for its device."""
    if value.ndim > 1 or not value.dtype.is_floating_point:
        got = f"a tensor of shape {tuple(value.shape)} and type {value.dtype}"
        raise ValueError(f"Expected argument `eps` to be a number or a float tensor of shape (N,), but got {got}.")
    return value


def times(value: Tensor | float, factor: Tensor | float) -> Tensor | float:
    """Value * factor, and the value itself where the factor is the number one."""
    return value if not isinstance(factor, Tensor) and factor == 1.0 else value * factor


class Ball(ABC):
    """A convex set of perturbations around zero that is symmetric in every coordinate.

    The symmetry matters: clipping a point of the ball towards zero, coordinate by coordinate, does not leave it. So a
    projection onto the ball followed by clipping to bounds that contain zero (the pixel range) is always feasible.
    """

    wants_room = True
    """Does `support` use `room`? A ball of independent coordinates need not: clipping afterwards is exact for it."""

    sparse = False
    """Does the steepest step move few coordinates only, chosen by the size of the gradient?"""

    @property
    @abstractmethod
    def radius(self) -> Radius:
        """The radius, the unit of relative step sizes."""

    @abstractmethod
    def norm(self, delta: Tensor) -> Tensor:
        """(N, ...) -> (N,): the norm whose ball of size `radius` this is."""

    @abstractmethod
    def project(self, delta: Tensor) -> Tensor:
        """The Euclidean projection argmin_{v in B} |v - delta|_2, per sample; a point of B stays as it is."""

    @abstractmethod
    def support(self, g: Tensor, size: float = 1.0, room: Tensor | None = None) -> Tensor:
        """The steepest step argmax <g, v> over v in size * B, per sample.

        Args:
            g: (N, ...) the direction of ascent. Where it is zero the step is zero.
            size: The size of the step relative to the ball.
            room: (N, ...) how far each coordinate can go along the sign of `g` before it meets the bounds of the space;
                None: no bounds. A longer step is clipped: what it spends on coordinates without room is lost.
        """

    @abstractmethod
    def sample(self, noise: Noise, zero: Tensor) -> Tensor:
        """A point that is uniform in B, of the shape and type of `zero` (N, ...)."""

    @abstractmethod
    def scaled(self: _B, factor: Any) -> _B:
        """The ball factor * B; the factor is a number or one per sample (N,)."""

    def take(self: _B, rows: Tensor) -> _B:
        """The ball of some of the samples, where it has a radius for each."""
        radius = self.radius
        if isinstance(radius, Tensor) and radius.ndim:
            raise TypeError(f"Expected {type(self).__name__} to have `take(rows)`, for it has a radius per sample.")
        return self

    def limit(self, like: Tensor) -> Tensor | float | None:
        """How far each coordinate may go, where that is all that the ball asks; else None."""
        return None

    def _values(self) -> tuple[Any, ...]:
        values = [torch.as_tensor(getattr(self, f.name), dtype=torch.float64) for f in fields(self)]  # type: ignore[arg-type]
        return type(self), *((tuple(value.shape), tuple(value.flatten().tolist())) for value in values)

    def __eq__(self, other: object) -> bool:
        return self._values() == other._values() if type(other) is type(self) else NotImplemented  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash(self._values())

    def contains(self, delta: Tensor, rtol: float = 1e-6) -> Tensor:
        """(N, ...) -> (N,) bool: is the perturbation in the ball, up to the relative rounding error `rtol`?"""
        radius = per_sample(self.radius, delta)
        limit = radius.reshape(-1) if isinstance(radius, Tensor) and radius.ndim else radius
        return self.norm(delta) <= limit * (1 + rtol)


class Sized(Ball):
    """A dataclass with a field `eps`, the radius."""

    eps: Radius

    def __post_init__(self) -> None:
        set_fields(self, eps=radius_of(self.eps))

    @property
    def radius(self) -> Radius:
        """`eps`."""
        return self.eps

    def on(self: _S, device: torch.device) -> _S:
        """The ball with its radius as a tensor, there."""
        eps = self.radius
        return self._with(
            eps.to(device) if isinstance(eps, Tensor) else torch.full((), eps, dtype=torch.float64, device=device)
        )

    def scaled(self: _S, factor: Any) -> _S:
        """The ball with `factor * eps`. The values of a tensor are not looked at: steps of an attack may ask for it."""
        eps = self.radius * factor
        return self._with(eps) if isinstance(eps, Tensor) else replace(self, eps=eps)  # type: ignore[type-var]

    def _with(self: _S, eps: Tensor) -> _S:
        """The ball with another radius, whose values are known to be one."""
        other = copy.copy(self)
        set_fields(other, eps=_shaped(eps))
        return other

    def take(self: _S, rows: Tensor) -> _S:
        """The ball of some of the samples, where it has a radius for each."""
        radius = self.radius
        if not isinstance(radius, Tensor) or not radius.ndim:
            return self
        return self._with(radius[rows.to(radius.device)])
