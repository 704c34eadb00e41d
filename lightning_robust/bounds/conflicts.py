"""Which samples of different classes no classifier can both be robust on."""

import math
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from lightning_robust import _checks
from lightning_robust.attacks import L2, Linf
from lightning_robust.attacks.ball import Ball
from lightning_robust.bounds._distances import close_pairs

__all__ = ["Conflicts", "conflicts"]


@dataclass(frozen=True, eq=False)
class Conflicts:
    """Pairs of samples of different classes whose balls meet.

    Args:
        ball: the ball around each sample.
        labels: class of each sample, (N,) int64.
        pairs: the samples of each pair, i < j, (P, 2) int64, sorted.
        distances: the distance of each pair, (P,) float64.
        slack: what the number type of the samples leaves open in a distance, see `conflicts`.
    """

    ball: Ball
    labels: Tensor = field(repr=False)
    pairs: Tensor = field(repr=False)
    distances: Tensor = field(repr=False)
    slack: float = field(default=0.0, repr=False)

    @property
    def limit(self) -> float:
        """The largest distance at which balls meet: twice the radius and, unless that is 0, the slack."""
        radius = float(self.ball.radius)
        return 2 * radius + self.slack if radius > 0 else 0.0

    @property
    def samples(self) -> Tensor:
        """The samples that are part of a pair, ascending, int64."""
        return self.pairs.unique()

    def within(self, ball: Ball) -> "Conflicts":
        """The pairs whose smaller balls still meet.

        Args:
            ball: a ball of the same norm, of a radius that is no larger.

        Raises:
            ValueError: it is another one.
        """
        if type(_known(ball)) is not type(self.ball) or float(ball.radius) > float(self.ball.radius):
            raise ValueError(
                f"Expected argument `ball` to be {type(self.ball).__name__} of a radius of at most "
                f"{float(self.ball.radius):g}, which is what these conflicts know, but got {ball!r}."
            )
        smaller = replace(self, ball=ball)
        kept = self.distances <= smaller.limit
        return replace(smaller, pairs=self.pairs[kept], distances=self.distances[kept])


def conflicts(x: Tensor, y: Tensor, ball: Ball) -> Conflicts:
    r"""Find the pairs of samples of different classes whose balls have a common point.

    .. math:: y_i \ne y_j, \qquad \|x_i - x_j\| \le 2 \epsilon

    At a common point, such as the middle between the two, a classifier says one class, so it is not robust on one of
    the two samples. Where samples lie in a box, such as images in [0, 1], so does the middle: the box changes nothing.
    Samples that are equal and have different labels conflict at every radius, 0 included.

    Distances are exact but for rounding in float64. The samples themselves are rounded: 51/255 in float32 is larger
    than 0.2. So balls of a positive radius meet up to a distance of :math:`2 \epsilon + s`, where the slack s is the
    largest amount by which rounding the samples may change a distance: u max |x| for `Linf` and sqrt(D) u max |x| for
    `L2`, with u the spacing of numbers at 1 (float32: 1.2e-7) and D numbers in a sample. Of pixels in steps of 1/255
    no pair is missed or invented so; of other data, pairs that are nearer to touching than s count as touching.

    It takes time N^2 D. For `Linf` most pairs are excluded by 64 coordinates. Memory is for blocks of 512 samples, and
    32 bytes for each pair that is found.

    Args:
        x: samples, floating, (N, ...).
        y: classes, integers, (N,).
        ball: `Linf` or `L2` of one radius, in the units of x.

    Raises:
        TypeError: x is no floating tensor, y no tensor of integers, or the ball is of another norm.
        ValueError: shapes do not fit, x is not finite, or the ball has a radius for each sample.

    Example:
        >>> found = conflicts(torch.tensor([[0.0], [0.5], [0.75]]), torch.tensor([0, 1, 0]), Linf(0.125))
        >>> found.pairs.tolist(), found.distances.tolist()
        ([[1, 2]], [0.25])
    """
    flat, y = _samples(x, y)
    euclidean = isinstance(_known(ball), L2)
    unit = torch.finfo(x.dtype).eps * float(flat.abs().amax())
    empty = torch.empty(0, dtype=torch.float64)
    found = Conflicts(ball, y, empty.long().reshape(0, 2), empty, unit * (math.sqrt(flat.shape[1]) if euclidean else 1))
    pairs, distances = close_pairs(flat, y, found.limit, euclidean=euclidean)
    order = (pairs[:, 0] * len(y) + pairs[:, 1]).argsort()
    return replace(found, pairs=pairs[order], distances=distances[order])


def _samples(x: Any, y: Any) -> tuple[Tensor, Tensor]:
    """Samples as (N, D) float64 and labels, on the CPU."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        got = str(x.dtype) if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(
            f"Expected argument `x` to be a floating tensor of samples (N, ...), but got {got}. The radius is in its "
            "units: divide images in [0, 255] by 255."
        )
    if not isinstance(y, Tensor) or y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
        got = str(y.dtype) if isinstance(y, Tensor) else type(y).__name__
        raise TypeError(f"Expected argument `y` to be a tensor of integers (N,), but got {got}.")
    if x.ndim < 2 or not x.numel() or y.shape != x.shape[:1]:
        raise ValueError(
            f"Expected arguments `x` and `y` to be of shapes (N, ...) and (N,) with N of at least 1, but got "
            f"{tuple(x.shape)} and {tuple(y.shape)}."
        )
    flat = x.detach().cpu().double().flatten(1)
    if not bool(flat.isfinite().all()):
        raise ValueError("Expected argument `x` to be finite, but got values that are not.")
    return flat, y.detach().cpu().long()


def _known(ball: Any) -> Ball:
    _checks.instance("ball", ball, (Linf, L2), "a ball `Linf(eps)` or `L2(eps)`")
    if isinstance(ball.radius, Tensor) and ball.radius.ndim:
        raise ValueError(
            f"Expected argument `ball` to have one radius for all samples, but got {len(ball.radius)} of them."
        )
    return ball  # type: ignore[no-any-return]
