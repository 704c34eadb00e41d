"""Threats: the set P(x) of adversarial inputs, a ball of perturbations in a space."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from lightning_robust import _checks
from lightning_robust.attacks.attack import Attack, Context, Model, check_inputs
from lightning_robust.attacks.ball import Ball
from lightning_robust.attacks.labels import unwritten
from lightning_robust.attacks.pixel_space import PixelSpace
from lightning_robust.attacks.scope import Mode, ordinary, scope
from lightning_robust.attacks.spaces import Chart, Space


@dataclass(frozen=True)
class Threat:
    r"""The perturbation set :math:`P(x) = \{\mathrm{decode}_x(\delta) : \delta \in B, \delta \text{ within the bounds
    of the space}\}`.

    Args:
        ball: How far a perturbation may go.
        space: Along what it moves; pixels by default.

    Example:
        >>> import torch
        >>> from lightning_robust.attacks.balls import Linf
        >>> threat = Threat(Linf(0.1))
        >>> x = torch.full((2, 1, 1, 3), 0.5)
        >>> threat.contains(x, x + torch.tensor([0.05, 0.2]).reshape(2, 1, 1, 1))
        tensor([ True, False])
    """

    ball: Ball
    space: Space = field(default_factory=PixelSpace)

    def __post_init__(self) -> None:
        _checks.instance("ball", self.ball, Ball, "a Ball (Linf, L2, L1, Box)")
        _checks.instance("space", self.space, Space, "a Space (PixelSpace, LatentSpace, AffineSpace)")

    def contains(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """(N,) bool: is each `x_adv` in P(x)? For pixels; in other spaces the perturbation decides, see `admits`.

        Up to rounding: one part in 10^6 of the radius, and the rounding of x + delta in the type of `x`.
        """
        delta = self.space.difference(x, x_adv)
        return self.admits(self.space.chart(x, x.new_zeros(len(x))), delta)

    def admits(self, chart: Chart, delta: Tensor) -> Tensor:
        """(N,) bool: is each perturbation in the ball and within the bounds of the chart, up to rounding?"""
        return self.ball.contains(delta) & chart.contains(delta)

    def projection(self, chart: Chart) -> Callable[[Tensor], Tensor]:
        """The map of perturbations into the ball and the bounds of the chart, prepared once.

        A ball of independent coordinates is intersected with the bounds once, and clipping is the exact projection onto
        both. Else the perturbation is projected onto the ball, then clipped towards zero, which does not leave the
        ball.
        """
        width = self.ball.limit(chart.zero) if _limit_is_the_projection(type(self.ball)) else None
        if width is None:
            return lambda delta: chart.clip(self.ball.project(delta))
        limit = torch.as_tensor(width, dtype=chart.zero.dtype, device=chart.zero.device)
        lower = -limit if chart.lower is None else torch.maximum(chart.lower, -limit)
        upper = limit if chart.upper is None else torch.minimum(chart.upper, limit)
        return lambda delta: delta.clamp(lower, upper)

    def scaled(self, factor: float) -> "Threat":
        """The threat with the ball `factor * B`."""
        return replace(self, ball=self.ball.scaled(factor))


def _limit_is_the_projection(kind: type) -> bool:
    """Does `limit` still say what `project` does? Not where a subclass has a projection of its own."""
    limit, project = (next(c for c in kind.__mro__ if name in vars(c)) for name in ("limit", "project"))
    return issubclass(limit, project)


def as_threat(threat: Threat | Ball) -> Threat:
    """A bare ball means pixels in [0, 1]."""
    if isinstance(threat, Threat):
        return threat
    if isinstance(threat, Ball):
        return Threat(threat)
    hint = " Did you mean Threat(Linf(...), space)?" if isinstance(threat, Space) else ""
    raise TypeError(
        f"Expected argument `threat` to be a Ball such as Linf(8 / 255) or a Threat(ball, space), but got {threat!r}. "
        f"A norm is a class here: Linf, L2, L1 or Box.{hint}"
    )


_A = TypeVar("_A", bound="ThreatAttack")


@dataclass(frozen=True, eq=False)
class Batch:
    """What an attack needs of a batch within `ThreatAttack._ready`, fit for autograd; `model` is a function."""

    model: Model
    x: Tensor
    y: Any
    chart: Chart


class ThreatAttack(Attack):
    """An attack within a declared perturbation set: a frozen dataclass with a field `threat`."""

    threat: Threat | Ball

    @property
    def _threat(self) -> Threat:
        return as_threat(self.threat)

    @contextmanager
    def _ready(
        self, model: Model | None, x: Tensor, y: Any, context: Context, *, mode: Mode = "eval", gain: Any = None
    ) -> Iterator[Batch]:
        """The prologue of every such attack: the model, the space and the gain in scope, the chart of the batch."""
        space = self._threat.space
        with scope(model, x, mode=mode, seed=context.key, also=(space, gain), own_loop=True) as ready:
            x, y, code = ordinary(x), ordinary(y), ordinary(context.code)
            with unwritten(y):
                yield Batch(ready, x, y, space.chart(x, y, code))

    def check(self, x: Tensor, y: Any) -> None:
        """Refuse inputs that the space does not take; called for every batch. Labels are checked by the gain."""
        check_inputs(x)
        self._threat.space.check(x)

    def doubts(self, x: Tensor) -> list[str]:
        """What may be wrong with the radius, the range and these inputs."""
        return self._threat.space.doubts(self._threat.ball, x)

    def scaled(self: _A, factor: float) -> _A:
        """The same attack in the ball `factor * B`."""
        return replace(self, threat=self._threat.scaled(factor))  # type: ignore[type-var]
