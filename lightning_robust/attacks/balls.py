"""The balls of this package: the maximum norm, boxes, the Euclidean norm, the sum of absolute values."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lightning_robust._noise import Noise
from lightning_robust.attacks._tensors import column, dims
from lightning_robust.attacks.ball import Ball, Radius, Sized, per_sample, times

__all__ = ["L1", "L2", "Ball", "Box", "Linf", "Radius", "per_sample"]


class _Coordinates(Sized):
    """A ball of independent coordinates: its `limit` says all."""

    wants_room = False

    @abstractmethod
    def limit(self, like: Tensor) -> Tensor | float:
        """How far each coordinate may go."""

    def project(self, delta: Tensor) -> Tensor:
        """Clip every coordinate."""
        limit = self.limit(delta)
        return torch.clamp(delta, -limit, limit)  # type: ignore[arg-type]

    def support(self, g: Tensor, size: float = 1.0, room: Tensor | None = None) -> Tensor:
        """Go to the limit along every sign. The bounds need no care here: clipping afterwards is exact."""
        return g.sign().mul_(times(self.limit(g), size))

    def sample(self, noise: Noise, zero: Tensor) -> Tensor:
        """Uniform in every coordinate."""
        return noise.uniform(tuple(zero.shape[1:])).to(zero.dtype).mul_(2).sub_(1) * self.limit(zero)


@dataclass(frozen=True, eq=False)
class Linf(_Coordinates):
    r"""The ball of the maximum norm: every coordinate moves at most `eps`.

    :math:`\mathrm{project} = \mathrm{clip}(\delta, -\epsilon, \epsilon)`, :math:`\mathrm{support} =
    \epsilon\,\mathrm{sign}(g)`.

    Args:
        eps: The radius, one number or (N,), in the units of the space (pixels in [0, 1]: 8/255).

    Example:
        >>> Linf(0.5).project(torch.tensor([[2.0, -0.25]]))
        tensor([[ 0.5000, -0.2500]])
    """

    eps: Radius

    def norm(self, delta: Tensor) -> Tensor:
        """max_i |delta_i|."""
        return delta.flatten(1).abs().amax(1)

    def limit(self, like: Tensor) -> Tensor | float:
        """The same for all coordinates."""
        return per_sample(self.eps, like)


@dataclass(frozen=True, eq=False)
class Box(_Coordinates):
    r"""An axis-parallel box: coordinate i moves at most `half_widths[i]`, the maximum norm with a unit per coordinate.

    For parameters of different kinds (translations, angles, scale) or for pixels of different worth.

    Args:
        half_widths: How far each coordinate may go; a tensor or sequence that broadcasts against one sample.
        eps: A common factor, one number or (N,); 1 by default.

    Example:
        >>> Box([1.0, 0.1]).project(torch.tensor([[3.0, -3.0]]))
        tensor([[ 1.0000, -0.1000]])
    """

    half_widths: Tensor | Sequence[float]
    eps: Radius = 1.0

    def __post_init__(self) -> None:
        wanted = "Expected argument `half_widths` to be numbers that are finite and not negative"
        if not isinstance(self.half_widths, Tensor | np.ndarray | list | tuple):
            raise TypeError(f"{wanted}, but got {self.half_widths!r}.")
        try:
            widths = torch.as_tensor(self.half_widths, dtype=torch.float64)
        except (TypeError, ValueError, RuntimeError):
            raise TypeError(f"{wanted}, but got {self.half_widths!r}.") from None
        if widths.numel() == 0 or not bool(((widths >= 0) & widths.isfinite()).all()):
            raise ValueError(f"{wanted}, but got {self.half_widths}.")
        super().__post_init__()

    def limit(self, like: Tensor) -> Tensor:
        """Half-width times factor."""
        return (self._widths(like) * per_sample(self.eps, like)).expand_as(like)

    def _widths(self, like: Tensor) -> Tensor:
        """The half-widths, of the shape of `like` (N, ...)."""
        widths = torch.as_tensor(self.half_widths, dtype=like.dtype, device=like.device)
        try:
            return widths.expand_as(like[:1]).expand_as(like)
        except RuntimeError:
            raise ValueError(
                f"Expected argument `half_widths` to broadcast against one perturbation, {tuple(like.shape[1:])}, but "
                f"got shape {tuple(widths.shape)}."
            ) from None

    def norm(self, delta: Tensor) -> Tensor:
        """max_i |delta_i| / half_width_i; a coordinate of width zero that moves has an infinite norm."""
        ratio = torch.where(delta == 0, torch.zeros_like(delta), delta.abs() / self._widths(delta))
        return ratio.flatten(1).amax(1)


@dataclass(frozen=True, eq=False)
class L2(Sized):
    r"""The Euclidean ball: :math:`\mathrm{project} = \delta\,\epsilon / \max(\|\delta\|_2, \epsilon)`,
    :math:`\mathrm{support} = \epsilon\,g / \|g\|_2`.

    Args:
        eps: The radius, one number or (N,), in the units of the space.

    Example:
        >>> L2(1.0).project(torch.tensor([[3.0, 4.0], [0.3, 0.4]]))
        tensor([[0.6000, 0.8000],
                [0.3000, 0.4000]])
    """

    eps: Radius

    def norm(self, delta: Tensor) -> Tensor:
        """The root of the sum of squares."""
        return torch.linalg.vector_norm(delta.flatten(1), dim=1)

    def project(self, delta: Tensor) -> Tensor:
        """Rescale what is outside."""
        eps = per_sample(self.eps, delta)
        norm = torch.linalg.vector_norm(delta, dim=dims(delta), keepdim=True)
        # Where the norm is 0 the factor is 1. An excess of rounding size is left alone: projecting twice is once.
        return delta * torch.where(norm > eps * (1 + 1e-7), eps / norm, torch.ones_like(norm))

    def support(self, g: Tensor, size: float = 1.0, room: Tensor | None = None) -> Tensor:
        """Go eps along the gradient of the coordinates that are not pinned to the bounds."""
        if room is not None:
            g = torch.where(room > 0, g, torch.zeros_like(g))
        # Dividing by the largest entry first keeps the square from under- and overflowing.
        top = g.abs().amax(dims(g), keepdim=True)
        g = g / torch.where(top > 0, top, torch.ones_like(top))
        norm = torch.linalg.vector_norm(g, dim=dims(g), keepdim=True)
        return g * (times(per_sample(self.eps, g), size) / torch.where(norm > 0, norm, torch.ones_like(norm)))

    def sample(self, noise: Noise, zero: Tensor) -> Tensor:
        """Uniform in the ball: a normal direction and a radius distributed as u^(1/d)."""
        shape = tuple(zero.shape[1:])
        direction = L2(1.0).support(noise.normal(shape, 0))
        length = noise.uniform((1,), 1) ** (1 / max(1, math.prod(shape)))
        point = direction.to(zero.dtype) * column(length, direction) * per_sample(self.eps, zero)
        return self.project(point).to(zero.dtype)


@dataclass(frozen=True, eq=False)
class L1(Sized):
    r"""The ball of the sum of absolute values.

    :math:`\mathrm{project}(\delta)_i = \mathrm{sign}(\delta_i)\,(|\delta_i| - \tau)_+` with the threshold :math:`\tau`
    for which the norm is :math:`\epsilon`, by sorting (Duchi et al., ICML 2008). `support` puts the whole radius on the
    largest entry of g; within bounds it fills the largest entries one after the other, each up to its room, which is
    the exact maximizer over both sets.

    Args:
        eps: The radius, one number or (N,), in the units of the space.

    Example:
        >>> L1(1.0).project(torch.tensor([[1.0, -0.5, 0.1]]))
        tensor([[ 0.7500, -0.2500,  0.0000]])
    """

    sparse = True

    eps: Radius

    def norm(self, delta: Tensor) -> Tensor:
        """sum_i |delta_i|."""
        return delta.flatten(1).abs().sum(1)

    def project(self, delta: Tensor) -> Tensor:
        """Shrink all entries by the threshold that meets the radius."""
        flat = delta.flatten(1)
        size = flat.abs()
        eps = torch.as_tensor(per_sample(self.eps, flat), dtype=flat.dtype, device=flat.device)
        ordered = size.sort(dim=1, descending=True).values
        rank = torch.arange(1, flat.shape[1] + 1, device=flat.device, dtype=flat.dtype)
        tau = (ordered.cumsum(1) - eps) / rank
        # The number of entries that stay: the last rank at which the entry still exceeds its threshold. At least one.
        last = (ordered > tau).sum(1, keepdim=True).clamp_(min=1) - 1
        tau = tau.gather(1, last).clamp_(min=0)
        shrunk = flat.sign() * (size - tau).clamp_(min=0)
        inside = size.sum(1, keepdim=True) <= eps * (1 + 1e-6)
        return torch.where(inside, flat, shrunk).reshape(delta.shape)

    def support(self, g: Tensor, size: float = 1.0, room: Tensor | None = None) -> Tensor:
        """Spend the radius on the largest entries, each up to its room."""
        flat = g.flatten(1)
        height = flat.abs()
        budget = torch.as_tensor(times(per_sample(self.eps, flat), size), dtype=g.dtype, device=g.device)
        if room is None:
            top = height.argmax(1, keepdim=True)
            step = torch.zeros_like(flat).scatter_(1, top, flat.gather(1, top).sign() * budget)
            return step.reshape(g.shape)
        space = torch.where(height > 0, room.flatten(1), torch.zeros_like(height))
        order = torch.where(space > 0, height, torch.zeros_like(height)).argsort(dim=1, descending=True)
        wanted = space.gather(1, order)
        # An infinite room (a space without bounds) is cut at the budget, so that the running sum stays finite.
        wanted = torch.minimum(wanted, budget.expand_as(wanted))
        before = wanted.cumsum(1) - wanted
        spent = torch.minimum(wanted, (budget - before).clamp_(min=0))
        return (torch.zeros_like(flat).scatter_(1, order, spent) * flat.sign()).reshape(g.shape)

    def sample(self, noise: Noise, zero: Tensor) -> Tensor:
        """Uniform in the ball: exponential sizes divided by their sum plus one more exponential, with random signs."""
        shape = tuple(zero.shape[1:])
        size = noise.exponential(shape, 0)
        total = size.sum(dims(size), keepdim=True) + column(noise.exponential((1,), 1), size)
        sign = torch.where(noise.uniform(shape, 2) < 0.5, -1.0, 1.0)
        return (sign * size / total).to(zero.dtype) * per_sample(self.eps, zero)
