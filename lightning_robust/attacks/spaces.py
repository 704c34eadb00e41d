r"""Spaces: along what a perturbation moves.

A `Space` looks at a batch once and gives a `Chart`: the zero perturbation, the map `decode` from a perturbation to
adversarial inputs, and the bounds of perturbations. The attack loop knows nothing else, so pixels, latent codes and
affine maps are attacked by the same code.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_robust.attacks.attack import check_finite
from lightning_robust.attacks.ball import Ball


@dataclass(frozen=True, eq=False)
class Chart:
    """What the attack loop needs to know of one batch.

    Args:
        zero: (N, ...) the zero perturbation, float32 or float64: the shape and type of all perturbations.
        decode: A perturbation (N, ...) to adversarial inputs (N, C, H, W), differentiable.
        emit: As `decode`, for the result: rounded so that the input, as a float32 or half-precision tensor, is in the
            perturbation set.
        lower: The least allowed perturbation, not above zero; None: no bound.
        upper: The greatest allowed perturbation, not below zero; None: no bound.
        again: Numbers of samples, (M,) int64, to the chart of these alone; None: the batch cannot be cut, and samples
            for which an attack is over stay in it.
    """

    zero: Tensor
    decode: Callable[[Tensor], Tensor]
    emit: Callable[[Tensor], Tensor]
    lower: Tensor | None = None
    upper: Tensor | None = None
    again: "Callable[[Tensor], Chart] | None" = None

    def take(self, rows: Tensor) -> "Chart":
        """The chart of some of the samples."""
        if self.again is None:
            raise TypeError("Expected a chart that can be cut: give it `again`, from row numbers to their chart.")
        return self.again(rows)

    def clip(self, delta: Tensor) -> Tensor:
        """The nearest perturbation within the bounds."""
        if self.lower is None and self.upper is None:
            return delta
        return torch.clamp(delta, self.lower, self.upper)

    def room(self, delta: Tensor, direction: Tensor) -> Tensor:
        """How far each coordinate can go along the sign of `direction` before it meets a bound."""
        upper = torch.full_like(delta, math.inf) if self.upper is None else (self.upper - delta).clamp(min=0)
        lower = torch.full_like(delta, math.inf) if self.lower is None else (delta - self.lower).clamp(min=0)
        return torch.where(direction > 0, upper, lower)

    def contains(self, delta: Tensor, atol: float = 1e-6) -> Tensor:
        """(N, ...) -> (N,) bool: is the perturbation within the bounds, up to rounding?"""
        inside = torch.ones_like(delta, dtype=torch.bool)
        if self.lower is not None:
            inside &= delta >= self.lower - atol
        if self.upper is not None:
            inside &= delta <= self.upper + atol
        return inside.flatten(1).all(1)


class Space(ABC):
    """Along what a perturbation moves."""

    @abstractmethod
    def chart(self, x: Tensor, y: Tensor, code: Any = None) -> Chart:
        """Look at a batch once.

        Args:
            x: (N, C, H, W) clean inputs.
            y: (N,) labels.
            code: Known latent codes, where the data brings them: (N, Z) or a tuple of it and what stays fixed.
        """

    def difference(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """The perturbation (N, ...) that leads from `x` to `x_adv`, where inputs determine it."""
        raise TypeError(
            f"Membership in a threat in {type(self).__name__} is decided by the perturbation: "
            "use `admits(chart, delta)` with the delta that `attack.run(...)` returns."
        )

    def check(self, x: Tensor) -> None:
        """Refuse inputs that this space does not take; called for every batch. Waits for the device once."""
        check_finite(x)

    def doubts(self, ball: Ball, x: Tensor) -> list[str]:
        """What may be wrong with the radius of a ball of this space or with these inputs, in sentences for the user."""
        return []
