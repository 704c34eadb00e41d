"""Step rules: how a gradient becomes a step.

A rule is a frozen dataclass with `init` and a call that returns the step and the next state.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_robust import _checks
from lightning_robust.attacks.balls import Ball
from lightning_robust.attacks.spaces import Chart


class Rule(ABC):
    """How a gradient becomes a step."""

    @abstractmethod
    def init(self, delta: Tensor) -> Any:
        """The state before the first step."""

    @abstractmethod
    def __call__(
        self, grad: Tensor, state: Any, *, delta: Tensor, ball: Ball, chart: Chart, size: float
    ) -> tuple[Tensor, Any]:
        """The step from `delta` and the next state. `size` is the step size relative to the radius of the ball."""


@dataclass(frozen=True)
class Steepest(Rule):
    r"""The steepest step of the ball: sign for Linf, normalised gradient for L2, few coordinates for L1.

    With momentum :math:`\mu` the direction is :math:`m \leftarrow \mu\,m + g / \|g\|_1` (Dong et al., CVPR 2018, eq.
    6), with the mean in place of the sum, which is the same direction.

    Args:
        momentum: The factor :math:`\mu`; 0 is projected gradient ascent.
    """

    momentum: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "momentum", _checks.number("momentum", self.momentum, 0))

    def init(self, delta: Tensor) -> Tensor | None:
        """No state without momentum."""
        return torch.zeros_like(delta) if self.momentum else None

    def __call__(
        self, grad: Tensor, state: Tensor | None, *, delta: Tensor, ball: Ball, chart: Chart, size: float
    ) -> tuple[Tensor, Tensor | None]:
        """Step along the (accumulated) gradient."""
        if state is not None:
            scale = grad.abs().mean(tuple(range(1, grad.ndim)), keepdim=True)
            grad = state = self.momentum * state + grad / torch.where(scale > 0, scale, torch.ones_like(scale))
        room = chart.room(delta, grad) if ball.wants_room else None
        return ball.support(grad, size, room), state


@dataclass(frozen=True)
class Adam(Rule):
    """Adam on the perturbation (Kingma & Ba, ICLR 2015), as Stutz et al. (CVPR 2019) attack: lr 0.005 in the units of
    the space.

    Args:
        lr: The step size, absolute: `rel_step_size` has no effect.
        betas: The decay rates of the two moments.
        eps: Added to the root of the second moment.
    """

    lr: float = 0.005
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    def __post_init__(self) -> None:
        betas = _checks.sequence("betas", self.betas, "a pair of numbers in [0, 1)", 2)
        for name, value in (
            ("lr", _checks.number("lr", self.lr, 0, above=True)),
            ("betas", tuple(_checks.number("betas", beta, 0, 1, below=True) for beta in betas)),
            ("eps", _checks.number("eps", self.eps, 0)),
        ):
            object.__setattr__(self, name, value)

    def init(self, delta: Tensor) -> tuple[int, Tensor, Tensor]:
        """Step count and two moments."""
        return 0, torch.zeros_like(delta), torch.zeros_like(delta)

    def __call__(
        self, grad: Tensor, state: tuple[int, Tensor, Tensor], *, delta: Tensor, ball: Ball, chart: Chart, size: float
    ) -> tuple[Tensor, tuple[int, Tensor, Tensor]]:
        """Lr * m / (sqrt(v) + eps) with the bias corrections."""
        t, m, v = state
        t += 1
        m = self.betas[0] * m + (1 - self.betas[0]) * grad
        v = self.betas[1] * v + (1 - self.betas[1]) * grad.square()
        m_hat, v_hat = m / (1 - self.betas[0] ** t), v / (1 - self.betas[1] ** t)
        return self.lr * m_hat / (v_hat.sqrt() + self.eps), (t, m, v)
