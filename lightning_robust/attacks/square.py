"""A step rule that asks for scores only: square windows where the perturbation is an image, else points around."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_robust._noise import Noise
from lightning_robust.attacks._tensors import column
from lightning_robust.attacks.ball import Ball
from lightning_robust.attacks.rules import Iterate, Rule
from lightning_robust.attacks.spaces import Chart

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


def window(noise: Noise, delta: Tensor, chart: Chart, ball: Ball, size: float) -> Tensor:
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
    signs = inside[:, None] * _signs(noise, channels, 1)[:, :, None, None]
    bold = 2.0 if not ball.wants_room else 2.0 * size
    return delta + bold * _move(noise, signs.reshape(delta.shape), delta, ball, chart)


def nearby(noise: Noise, delta: Tensor, ball: Ball, query: int) -> Tensor:
    """A random point around `delta`, in a ball of the size of the schedule; each fourth time a fresh point."""
    point = ball.sample(noise, torch.zeros_like(delta))
    return point if query % 4 == 0 else delta + boldness(query) * point


class _Found(NamedTuple):
    """The perturbation of the highest gain, and whether it is laid out as the inputs are."""

    delta: Tensor
    gain: Tensor
    spatial: bool


@dataclass(frozen=True)
class Square(Rule):
    """The Square Attack as a step rule: random changes of the best perturbation, by the gain alone.

    In the maximum norm this is the attack of Andriushchenko et al. (ECCV 2020, algorithms 1 and 2): vertical stripes
    first, then square windows of a random sign for each channel, of 80 % of the image and smaller after 10, 50, 200,
    500, 1000, 2000, 4000, 6000, 8000 queries; a proposal is kept where the gain rises. The windows of a sample are
    drawn from its content, so that they are the same in any batch. Where perturbations are not laid out as the inputs
    are (codes, affine maps), the proposals are points around the best one, in a ball that shrinks alike.

    Use it with `keep="best"`, as every evaluation does: the last proposal is not the best one.

    Deviations from the paper: the sizes follow the number of queries, not the share of a budget, so more queries never
    find less; a window may lie anywhere in the image (the authors' code leaves out the last row and column); a
    proposal is not drawn again when it changes nothing. In balls other than that of the maximum norm, a window is
    scaled to the boundary, added with a weight that falls with its area, and projected: on 100 images of a small
    convolutional network in an L2 ball, robust accuracy (5 % under PGD) after 300, 1,000 and 2,000 queries is 60, 22
    and 10 %, and 85, 72 and 49 % with the paper's scheme for L2, which moves the content of one window into another.

    Example:
        >>> from lightning_robust.attacks import PGD, Linf, margin
        >>> settings = {"gain": margin, "random_start": False, "early_stop": True, "keep": "best"}
        >>> attack = PGD(Linf(0.1), steps=100, rule=Square(), **settings)
        >>> x, y = torch.full((1, 4), 0.25), torch.tensor([0])
        >>> model = lambda x: torch.stack([10.5 - (x * 10).round().sum(1), (x * 10).round().sum(1) - 10.5], 1)
        >>> model(attack(model, x, y)).argmax(1)
        tensor([1])
    """

    order = 0

    def init(self, at: Iterate) -> _Found:
        """The start. It says how perturbations are laid out, by what they decode to."""
        spatial = at.chart.decode(at.delta).shape == at.delta.shape
        return _Found(at.delta, at.gain, spatial)

    def __call__(self, at: Iterate, state: _Found) -> tuple[Tensor, _Found]:
        """Keep the perturbation if its gain is higher, and propose a change of the best one."""
        higher = at.gain > state.gain
        if at.step == 1 and state.spatial:
            higher = torch.ones_like(higher)  # the search goes on from the stripes: the optimum is on the boundary
        best = torch.where(column(higher, at.delta), at.delta, state.delta)
        state = _Found(best, torch.where(higher, at.gain, state.gain), state.spatial)
        if not state.spatial:
            return nearby(at.noise, best, at.ball, at.step), state
        if at.step == 0:
            return stripes(at.noise, at.chart, at.ball), state
        return window(at.noise, best, at.chart, at.ball, boldness(at.step)), state
