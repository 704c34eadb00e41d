"""Step rules: which perturbation the ascent tries next."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_robust import _checks
from lightning_robust._noise import Noise
from lightning_robust.attacks._tensors import column, dims, set_fields
from lightning_robust.attacks.ball import Ball
from lightning_robust.attacks.spaces import Chart


class Best(NamedTuple):
    """Per sample, the point of the highest gain so far.

    delta: (N, ...) the perturbation. gain: (N,) the gain there. grad: (N, ...) its gradient there, None at order zero.
    """

    delta: Tensor
    gain: Tensor
    grad: Tensor | None

    def or_higher(self, delta: Tensor, gain: Tensor, grad: Tensor | None) -> "Best":
        """The higher of this point and another, per sample."""
        higher = gain > self.gain
        rows = column(higher, delta)
        kept = None if grad is None else torch.where(rows, grad, self.grad)  # type: ignore[arg-type]
        return Best(torch.where(rows, delta, self.delta), torch.where(higher, gain, self.gain), kept)

    def take(self, rows: Tensor) -> "Best":
        """That of some of the samples."""
        return Best(self.delta[rows], self.gain[rows], None if self.grad is None else self.grad[rows])


@dataclass(frozen=True, eq=False)
class Iterate:
    """What the loop knows when a rule chooses the next perturbation. Later versions may add fields.

    Where the whole step is one compiled graph, `size`, `step` and `steps` are tensors of no dimensions. A rule that
    takes these as numbers of Python, or asks for `fooled` or `noise`, is called outside of graphs.

    Args:
        delta: (N, ...) the present perturbation, in the ball and the bounds of the space.
        gain: (N,) its gain.
        grad: (N, ...) the gradient of the gain there; None for a rule of order zero.
        ball: The ball.
        chart: The space as it is around this batch: its bounds, and `room` up to them.
        size: The size of this step relative to the radius of the ball.
        step: The number of this step, from 0.
        steps: The number of steps.
        best: The point of the highest gain so far, this one included; None unless the rule sets `keeps_best`.
        project: `delta -> delta`, the nearest perturbation in the ball and the bounds; its argument stays as it is.
        judge: Computes `fooled`.
        source: Computes `noise`.
    """

    delta: Tensor
    gain: Tensor
    grad: Tensor | None
    ball: Ball
    chart: Chart
    size: float
    step: int
    steps: int
    best: Best | None
    project: Callable[[Tensor], Tensor]
    judge: Callable[[], Tensor | None] = field(repr=False)
    source: Callable[[], Noise] = field(repr=False)

    @cached_property
    def fooled(self) -> Tensor | None:
        """(N,) bool: is the sample misclassified here? None where the labels do not tell."""
        return self.judge()

    @cached_property
    def noise(self) -> Noise:
        """Random numbers of each sample for this step: they do not depend on the rest of the batch."""
        return self.source()

    def steepest(self, direction: Tensor) -> Tensor:
        """The steepest step of the ball along `direction`, of the step size, within the room that is left."""
        room = self.chart.room(self.delta, direction) if self.ball.wants_room else None
        return self.ball.support(direction, self.size, room)


def mapped(state: Any, change: Callable[[Any], Any]) -> Any:
    """The state of a rule with `change` made of all that tuples, lists, dicts and dataclasses in it hold."""
    if isinstance(state, dict):
        return {name: mapped(value, change) for name, value in state.items()}
    if isinstance(state, tuple | list):
        parts = [mapped(value, change) for value in state]
        return type(state)(*parts) if hasattr(state, "_fields") else type(state)(parts)
    if is_dataclass(state) and not isinstance(state, type):
        return replace(state, **{f.name: mapped(getattr(state, f.name), change) for f in fields(state) if f.init})
    return change(state)


class Rule(ABC):
    """Which perturbation comes next.

    In every step the loop evaluates the model at the present perturbation, asks the rule for the next one, and projects
    that. A rule treats every sample alone. What it remembers is its state, which the loop hands from step to step.

    How known methods fit:

    - Auto-PGD: `keeps_best = True`. The state holds the step size of each sample, the last move, and how often the gain
      rose. At a checkpoint a flagged sample halves its step and goes on from `best.delta` with `best.grad`.
    - Square: `order = 0`. The state holds the best perturbation, each step proposes a window drawn from `noise`.
    - DDN and FMN: the state holds a radius for each sample, as a share (N,) of the radius of the ball, which shrinks
      where `fooled` and grows elsewhere; the next perturbation is the projection onto `ball.scaled(share)`. The last
      step returns the nearest misclassified perturbation, which the state holds, for an attack with `keep="last"`.
    """

    order: int = 1
    """1: the rule needs the gradient of the gain. 0: it needs the gain alone, and the loop computes no gradients."""

    keeps_best: bool = False
    """Does the rule use `Iterate.best`? It costs memory for two perturbations."""

    def init(self, at: Iterate) -> Any:
        """The state before the first step."""
        return None

    def take(self, state: Any, rows: Tensor) -> Any:
        """The state of some of the samples, (M,) int64: all tensors in it, but those of one number, have N rows."""
        return mapped(state, lambda held: held[rows] if isinstance(held, Tensor) and held.ndim else held)

    def over(self, at: Iterate, state: Any) -> Tensor | None:
        """(N,) bool: which samples need no step after this one; None: all go on. Asked after each step.

        An attack that keeps the best lets them leave the batch, unless the model wants whole batches: there the rule
        leaves them where they are.
        """
        return None

    def result(self, state: Any) -> Tensor | None:
        """The perturbation (N, ...) that the rule wants returned; None: the loop chooses."""
        return None

    @abstractmethod
    def __call__(self, at: Iterate, state: Any) -> tuple[Tensor, Any]:
        """The next perturbation (N, ...), which the loop projects, and the next state."""


@dataclass(frozen=True)
class Steepest(Rule):
    r"""The steepest step of the ball: sign for Linf, normalized gradient for L2, few coordinates for L1.

    With momentum :math:`\mu` the direction is :math:`m \leftarrow \mu\,m + g / \|g\|_1` (Dong et al., CVPR 2018, eq.
    6), with the mean in place of the sum, which is the same direction.

    Args:
        momentum: The factor :math:`\mu`; 0 is projected gradient ascent.
    """

    momentum: float = 0.0

    def __post_init__(self) -> None:
        set_fields(self, momentum=_checks.number("momentum", self.momentum, 0))

    def init(self, at: Iterate) -> Tensor | None:
        """The accumulated gradient; none without momentum."""
        return torch.zeros_like(at.delta) if self.momentum else None

    def __call__(self, at: Iterate, state: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Step along the (accumulated) gradient."""
        assert at.grad is not None
        if state is None:
            return at.delta + at.steepest(at.grad), None
        size = at.grad.abs().mean(dims(at.grad), keepdim=True)
        state = self.momentum * state + at.grad / torch.where(size > 0, size, torch.ones_like(size))
        return at.delta + at.steepest(state), state


@dataclass(frozen=True)
class Adam(Rule):
    """Adam on the perturbation (Kingma & Ba, ICLR 2015), as Stutz et al. (CVPR 2019) attack.

    Args:
        lr: The step size in the units of the space: `rel_step_size` has no effect.
        betas: The decay rates of the two moments.
        eps: Added to the root of the second moment.
    """

    lr: float = 0.005
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    def __post_init__(self) -> None:
        betas = _checks.sequence("betas", self.betas, "a pair of numbers in [0, 1)", 2)
        set_fields(
            self,
            lr=_checks.number("lr", self.lr, 0, above=True),
            betas=tuple(_checks.number("betas", beta, 0, 1, below=True) for beta in betas),
            eps=_checks.number("eps", self.eps, 0),
        )

    def init(self, at: Iterate) -> tuple[Tensor, Tensor]:
        """The two moments."""
        return torch.zeros_like(at.delta), torch.zeros_like(at.delta)

    def __call__(self, at: Iterate, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Lr * m / (sqrt(v) + eps) with the bias corrections."""
        assert at.grad is not None
        t, (m, v) = at.step + 1, state
        m = self.betas[0] * m + (1 - self.betas[0]) * at.grad
        v = self.betas[1] * v + (1 - self.betas[1]) * at.grad.square()
        m_hat, v_hat = m / (1 - self.betas[0] ** t), v / (1 - self.betas[1] ** t)
        return at.delta + self.lr * m_hat / (v_hat.sqrt() + self.eps), (m, v)
