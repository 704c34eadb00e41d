"""A ball, a space, a gain, a step rule and a manifold as somebody else would write them: with public names alone.

They are in the lists of `tests/helpers.py`, and so under every law.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from lightning_robust.attacks import L2, Ball, Chart, Iterate, Noise, Rule, Space, log_odds


@dataclass(frozen=True, eq=False)
class Halves(Ball):
    """Two budgets: the first half of the coordinates and the second each lie in a Euclidean ball of radius `eps`."""

    eps: float | Tensor

    @property
    def radius(self) -> float | Tensor:
        return self.eps

    def _parts(self, *values: Tensor) -> list[list[Tensor]]:
        """Each half of some tensors (N, ...)."""
        flat = [value.flatten(1) for value in values]
        middle = flat[0].shape[1] // 2
        halves = [[value[:, :middle] for value in flat], [value[:, middle:] for value in flat]]
        return [half for half in halves if half[0].shape[1]]  # one coordinate has no halves

    def norm(self, delta: Tensor) -> Tensor:
        return torch.stack([L2(self.eps).norm(*half) for half in self._parts(delta)]).amax(0)

    def project(self, delta: Tensor) -> Tensor:
        return torch.cat([L2(self.eps).project(*half) for half in self._parts(delta)], 1).reshape(delta.shape)

    def support(self, g: Tensor, size: float = 1.0, room: Tensor | None = None) -> Tensor:
        halves = self._parts(g) if room is None else self._parts(g, room)
        steps = [L2(self.eps).support(half[0], size, *half[1:]) for half in halves]
        return torch.cat(steps, 1).reshape(g.shape)

    def sample(self, noise: Noise, zero: Tensor) -> Tensor:
        halves = self._parts(zero)
        points = [L2(self.eps).sample(noise.fold(i), *half) for i, half in enumerate(halves)]
        return torch.cat(points, 1).reshape(zero.shape)

    def scaled(self, factor: float) -> "Halves":
        return replace(self, eps=self.eps * factor)

    def take(self, rows: Tensor) -> "Halves":
        return replace(self, eps=self.eps[rows]) if isinstance(self.eps, Tensor) and self.eps.ndim else self


class Directions(Space):
    """x_adv = x + net(delta): few directions, from a network with layers that must be in evaluation mode."""

    def __init__(self, count: int, size: int) -> None:
        generator = torch.Generator().manual_seed(2)
        self.net = nn.Sequential(nn.Linear(count, size, bias=False), nn.BatchNorm1d(size), nn.Dropout(0.5)).double()
        self.net[0].weight.data.copy_(torch.randn(size, count, generator=generator) / 20)
        self.count = count

    def chart(self, x: Tensor, y: Tensor, code: Any = None) -> Chart:
        zero = torch.zeros(len(x), self.count, dtype=torch.promote_types(x.dtype, torch.float32), device=x.device)

        def decode(delta: Tensor) -> Tensor:
            return x + self.net(delta.double()).reshape(x.shape).to(x.dtype)

        return Chart(zero, decode, decode, zero - 1, zero + 1)


class Line:
    """A manifold that is no module: images 0.5 + z A, a code of three numbers."""

    bounds = (-2.0, 2.0)

    def __init__(self, shape: tuple[int, ...]) -> None:
        size = torch.Size(shape).numel()
        waves = torch.arange(size, dtype=torch.float64) * torch.tensor([[0.3], [0.7], [1.1]])
        self.shape, self.basis = shape, waves.sin() / 10

    def encode(self, x: Tensor, y: Tensor) -> Tensor:
        wide = torch.promote_types(x.dtype, torch.float32)
        return ((x.double() - 0.5).flatten(1) @ torch.linalg.pinv(self.basis)).to(wide)

    def decode(self, z: Tensor, y: Tensor) -> Tensor:
        return (0.5 + z.double() @ self.basis).to(z.dtype).reshape(-1, *self.shape)


def mean_gap(logits: Tensor, y: Tensor) -> Tensor:
    """The mean of the other logits less that of the label, of class labels of any kind."""
    classes = logits.shape[1]
    hard = not y.is_floating_point()
    q = nn.functional.one_hot(y.reshape(-1).long(), classes).to(logits.dtype) if hard else y.to(logits.dtype)
    return (logits * ((1 - q) / (classes - 1) - q)).sum(1)


mean_gap.check = log_odds.check  # refuses what are no class labels


@dataclass(frozen=True)
class Halving(Rule):
    """Steps of two radii; where the best gain has not risen for some steps, back to the best and half the step."""

    patience: int = 2

    keeps_best = True

    def init(self, at: Iterate) -> tuple[Tensor, Tensor, Tensor]:
        """Per sample: the step size, the best gain, and when it last rose."""
        ones = torch.ones_like(at.gain)
        return 2 * ones, -torch.inf * ones, -ones

    def __call__(self, at: Iterate, state: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
        size, before, rose = state
        rose = torch.where(at.best.gain > before, torch.full_like(rose, at.step), rose)
        back = at.step - rose >= self.patience
        size, rose = torch.where(back, size / 2, size), torch.where(back, torch.full_like(rose, at.step), rose)
        rows = back.reshape(-1, *[1] * (at.delta.ndim - 1))
        point, grad = (torch.where(rows, a, b) for a, b in ((at.best.delta, at.delta), (at.best.grad, at.grad)))
        room = at.chart.room(point, grad) if at.ball.wants_room else None
        step = at.ball.support(grad, 1.0, room)
        return point + size.to(step.dtype).reshape(rows.shape) * step, (size, at.best.gain, rose)
