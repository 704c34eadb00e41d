"""Attacks that ask for scores only: random search, with square windows where the input is an image."""

import math
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from lightning_robust import _checks
from lightning_robust._noise import Noise
from lightning_robust.attacks._gain import GainFn, check_plain_gain
from lightning_robust.attacks._queries import Search
from lightning_robust.attacks._tensors import set_fields
from lightning_robust.attacks.attack import NO_CONTEXT, Context, Model, Outcome
from lightning_robust.attacks.balls import Ball
from lightning_robust.attacks.gains import margin
from lightning_robust.attacks.spaces import Chart
from lightning_robust.attacks.threats import Threat, ThreatAttack, as_threat

_HALVED_AT = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
_LARGEST = 0.8


def boldness(query: int) -> float:
    """How bold the proposal number `query` is: 1, halved after 10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000.

    The schedule of the Square Attack for 10,000 queries, whatever their number is here: so the first proposals of a
    longer search are those of a shorter one.
    """
    return 0.5 ** sum(query > limit for limit in _HALVED_AT)


def _layout(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """The shape (..., C, H, W) of a window's home: (d,) is (1, 1, d), and what lies between C and W is H."""
    channels = shape[0] if len(shape) > 1 else 1
    return channels, math.prod(shape[1:-1]), shape[-1]


def _signs(noise: Noise, count: int, stream: int) -> Tensor:
    """(N, count) random signs."""
    return torch.where(noise.uniform((count,), stream) < 0.5, -1.0, 1.0)


def _move(noise: Noise, direction: Tensor, delta: Tensor, ball: Ball, chart: Chart) -> Tensor:
    """The largest step of a ball along random signs; where it moves few coordinates, these are drawn at random."""
    if ball.sparse:
        direction = direction * noise.uniform(tuple(delta.shape[1:]), 2)
    direction = direction.to(delta.dtype)
    return ball.support(direction, room=chart.room(delta, direction))


def stripes(noise: Noise, chart: Chart, ball: Ball) -> Tensor:
    """Vertical stripes of a random sign for each channel and column, on the boundary of the ball."""
    zero = chart.zero
    channels, height, width = _layout(tuple(zero.shape[1:]))
    signs = _signs(noise, channels * width, 0).reshape(-1, channels, 1, width).expand(-1, -1, height, -1)
    return _move(noise, signs.reshape(zero.shape), zero, ball, chart)


def square(noise: Noise, delta: Tensor, chart: Chart, ball: Ball, size: float) -> Tensor:
    """Write a random sign for each channel into a random window of `delta`.

    In a ball of independent coordinates the window becomes +-eps, as in the Square Attack. In other balls the window,
    scaled to the boundary, is added with a weight that falls with its size. `size` is relative to the largest window,
    which covers 80 % of an image.
    """
    channels, height, width = _layout(tuple(delta.shape[1:]))
    area = _LARGEST * size * height * width
    side = max(round(math.sqrt(area)), 1)
    h = min(side, height)
    w = min(side if h == side else round(area / h), width)
    place = noise.uniform((2,), 0)
    top, left = (place * place.new_tensor([height - h + 1, width - w + 1])).long()[:, :, None].unbind(1)
    rows, columns = (torch.arange(n, device=delta.device) for n in (height, width))
    inside = ((rows >= top) & (rows < top + h))[:, :, None] & ((columns >= left) & (columns < left + w))[:, None]
    window = inside[:, None] * _signs(noise, channels, 1)[:, :, None, None]
    bold = 2.0 if not ball.wants_room else 2.0 * size
    return delta + bold * _move(noise, window.reshape(delta.shape), delta, ball, chart)


def nearby(noise: Noise, delta: Tensor, ball: Ball, query: int) -> Tensor:
    """A random point around `delta`, in a ball of the size of the schedule; each fourth time a fresh point."""
    point = ball.sample(noise, torch.zeros_like(delta))
    return point if query % 4 == 0 else delta + boldness(query) * point


@dataclass(frozen=True)
class RandomSearch(ThreatAttack):
    """Random search on the scores of a model: no gradient is asked for, so none can be masked.

    Each query proposes a random change of the best perturbation so far, which is kept if the gain rises or the sample
    is misclassified. In pixels the changes are windows of random signs that shrink with the number of queries; in the
    maximum norm this is the Square Attack of Andriushchenko et al. (ECCV 2020, algorithms 1 and 2). In other spaces
    they are points around the best one.

    Use it besides `PGD`, above all for networks with parts without a useful gradient: `worst_of(PGD(...),
    RandomSearch(...))`. Where it finds more than `PGD`, the robust accuracy under `PGD` was too optimistic.

    Deviations from the paper: windows shrink by the number of queries made, not by the share of a budget, so more
    queries never find less; a proposal is not drawn again when it changes nothing; for other norms than the maximum
    norm, windows are added and projected, which is simpler than the paper's scheme for L2 and less strong.

    Args:
        threat: The perturbation set: `Threat(ball, space)`, or a ball, which means pixels in [0, 1].
        queries: The number of forward passes; a sample that is misclassified needs no more.
        gain: What is raised, `(logits, y) -> (N,)`.
        seed: Seeds the proposals, together with the content of each sample and the key of the call.

    Example:
        >>> from lightning_robust.attacks import Linf
        >>> def rounded(x):  # without a gradient
        ...     total = (x * 10).round().sum(1)
        ...     return torch.stack([10.5 - total, total - 10.5], 1)
        >>> x, y = torch.full((1, 4), 0.25), torch.tensor([0])
        >>> rounded(RandomSearch(Linf(0.1), queries=50)(rounded, x, y)).argmax(1)
        tensor([1])
    """

    threat: Threat | Ball
    queries: int = 1000
    gain: GainFn = field(default=margin, kw_only=True)
    seed: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        set_fields(
            self,
            threat=as_threat(self.threat),
            queries=_checks.count("queries", self.queries),
            gain=check_plain_gain(self.gain),
            seed=_checks.seed("seed", self.seed),
        )

    def brief(self) -> "RandomSearch":
        """One query."""
        return replace(self, queries=1)

    def run(self, model: Model, x: Tensor, y: Any, context: Context = NO_CONTEXT) -> Outcome:
        """Attack and tell everything, see `Attack.run`."""
        ball, space = self._threat.ball, self._threat.space
        with self._ready(model, x, y, context, gain=self.gain) as batch, torch.no_grad():
            chart, noise = batch.chart, Noise.of(batch.x, self.seed, context.key)
            search = Search(batch, self.gain, context)
            for query in range(self.queries):
                fresh = noise.fold(query)
                if not space.spatial:
                    proposal = nearby(fresh, search.delta, ball, query)
                elif query == 0:
                    proposal = stripes(fresh, chart, ball)
                else:
                    proposal = square(fresh, search.delta, chart, ball, boldness(query))
                search.ask(chart.clip(ball.project(proposal)))
                if search.over():
                    break
            return search.outcome()
