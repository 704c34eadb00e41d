"""Grid search: every combination of a few values of a few parameters."""

import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from lightning_robust import _checks
from lightning_robust.attacks._gain import GainFn, check_plain_gain
from lightning_robust.attacks._tensors import set_fields
from lightning_robust.attacks.attack import NO_CONTEXT, Context, Model, Outcome
from lightning_robust.attacks.ball import Ball
from lightning_robust.attacks.gains import margin
from lightning_robust.attacks.pgd import PGD
from lightning_robust.attacks.rules import Iterate, Rule
from lightning_robust.attacks.spaces import Chart
from lightning_robust.attacks.threats import Threat, ThreatAttack, as_threat

_MOST = 100_000


def ranges(ball: Ball, chart: Chart) -> tuple[Tensor, Tensor]:
    """The least and the greatest value of every coordinate, (N, ...) each, in the ball and the bounds of the chart."""
    flat = torch.zeros_like(chart.zero).flatten(1)
    reach = torch.empty_like(flat)
    for i in range(flat.shape[1]):
        axis = flat.clone()
        axis[:, i] = 1.0
        reach[:, i] = ball.support(axis.reshape(chart.zero.shape)).flatten(1)[:, i]
    reach = reach.reshape(chart.zero.shape)
    return chart.clip(-reach), chart.clip(reach)


@dataclass(frozen=True)
class _Grid(Rule):
    """Random points, then every combination of `counts` values of the coordinates, the last coordinate first."""

    counts: tuple[int, ...]
    random_points: int

    order = 0

    def init(self, at: Iterate) -> tuple[Tensor, Tensor]:
        """The ends of the grid."""
        return ranges(at.ball, at.chart)

    def __call__(self, at: Iterate, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The point of this step. A coordinate of one value stays at zero."""
        low, high = state
        if at.step < self.random_points:
            return low + at.noise.uniform(tuple(low.shape[1:])).to(low.dtype) * (high - low), state
        number, place = at.step - self.random_points, []
        for count in reversed(self.counts):
            number, digit = divmod(number, count)
            place.append(digit / (count - 1) if count > 1 else math.nan)
        share = low.new_tensor(place[::-1]).reshape(low.shape[1:])
        return torch.where(share.isnan(), 0.0, low + share * (high - low)), state


@dataclass(frozen=True)
class GridSearch(ThreatAttack):
    """The worst of a grid of perturbations, for spaces of few dimensions such as `AffineSpace`.

    Gradients are of little use for rotations and translations: the loss has many local maxima, and a grid finds worse
    ones (Engstrom et al., "Exploring the landscape of spatial robustness", ICML 2019, who take 5 values of each
    translation and 31 of the rotation, and the worst of 10 random maps as a cheap substitute). Take the worst of both
    with `worst_of(PGD(threat), GridSearch(threat))`.

    The zero perturbation is tried first, then random points, then the grid, which spans the ball and the bounds of the
    space in every coordinate, its ends included. Combinations outside the ball are projected onto it. A sample that is
    misclassified is left alone; otherwise the perturbation with the highest gain counts.

    Args:
        threat: The perturbation set: `Threat(ball, space)`. For all of `AffineSpace(...)` take a ball that holds its
            ranges, such as `Linf(1.0)`; a parameter whose range is zero does not multiply the grid.
        points: How many values each coordinate takes, one number or one for each coordinate; 1: it stays at zero.
        random_points: How many random points to try besides, uniform in the box of the grid.
        gain: What is raised, `(logits, y) -> (N,)`.
        seed: Seeds the random points, together with the content of each sample and the key of the call.

    Raises:
        ValueError: on the first batch, if the grid has more than 100,000 points.

    Example:
        >>> from lightning_robust.attacks import AffineSpace, Linf
        >>> space = AffineSpace(translation=0.1, shear=0.0, scale=0.0, rotation=0.5)
        >>> attack = GridSearch(Threat(Linf(1.0), space), points=(5, 5, 1, 1, 1, 31))
        >>> x, y = torch.rand(2, 1, 8, 8), torch.tensor([0, 1])
        >>> attack(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2)), x, y).shape
        torch.Size([2, 1, 8, 8])
    """

    threat: Threat | Ball
    points: int | Sequence[int] = 5
    random_points: int = field(default=0, kw_only=True)
    gain: GainFn = field(default=margin, kw_only=True)
    seed: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        check = _checks.count if isinstance(self.points, numbers.Real) else _checks.counts
        set_fields(
            self,
            threat=as_threat(self.threat),
            points=check("points", self.points),  # type: ignore[operator]
            random_points=_checks.count("random_points", self.random_points, 0),
            gain=check_plain_gain(self.gain),
            seed=_checks.seed("seed", self.seed),
        )

    def brief(self) -> "GridSearch":
        """One point."""
        points = 1 if isinstance(self.points, int) else tuple(1 for _ in self.points)
        return replace(self, points=points, random_points=0)

    def run(self, model: Model, x: Tensor, y: Any, context: Context = NO_CONTEXT) -> Outcome:
        """Attack and tell everything, see `Attack.run`."""
        with self._ready(model, x, y, context, gain=self.gain) as batch, torch.no_grad():
            low, high = ranges(self._threat.ball, batch.chart)
            counts = tuple(self._counts((low < high).flatten(1).any(0).tolist()))
        loop = PGD(
            self.threat,
            self.random_points + math.prod(counts),
            rule=_Grid(counts, self.random_points),
            gain=self.gain,
            random_start=False,
            keep="best",
            early_stop=True,
            seed=self.seed,
        )
        return loop.run(model, x, y, context)

    def _counts(self, moves: list[bool]) -> list[int]:
        """How many values each coordinate takes, given which can move at all."""
        points = [self.points] * len(moves) if isinstance(self.points, int) else list(self.points)
        if len(points) != len(moves):
            raise ValueError(
                f"Expected argument `points` to be a number or one for each of the {len(moves)} coordinates of a "
                f"perturbation, but got {len(points)}."
            )
        counts = [number if moving else 1 for number, moving in zip(points, moves, strict=True)]
        if math.prod(counts) > _MOST:
            raise ValueError(
                f"Expected argument `points` to make a grid of at most {_MOST} points, but got {math.prod(counts)} for "
                f"{len(moves)} coordinates. Take fewer `points`, or RandomSearch."
            )
        return counts
