"""Auto-PGD: gradient ascent with momentum, whose step size is halved where the gain does not rise."""

import functools
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_robust import _checks
from lightning_robust._noise import Noise
from lightning_robust.attacks._combined import Combined
from lightning_robust.attacks._gain import GainFn
from lightning_robust.attacks._sparse import project_within, sparse_step
from lightning_robust.attacks._tensors import column, set_fields
from lightning_robust.attacks.anchored import Anchored
from lightning_robust.attacks.attack import NO_CONTEXT, Attack, Context, Model, Outcome
from lightning_robust.attacks.balls import Ball
from lightning_robust.attacks.gains import cross_entropy
from lightning_robust.attacks.pgd import PGD
from lightning_robust.attacks.rules import Iterate, Rule
from lightning_robust.attacks.starts import on_sphere, projected_normal
from lightning_robust.attacks.threats import Threat, as_threat


@functools.cache
def checkpoints(steps: int) -> Mapping[int, int]:
    """The steps before which step sizes are looked at, and how many steps each looks back on.

    Example:
        >>> checkpoints(100)
        {22: 22, 41: 19, 57: 16, 70: 13, 80: 10, 87: 7, 93: 6, 99: 6}
    """
    window, shrink, least = (max(int(share * steps), 1) for share in (0.22, 0.03, 0.06))
    found, at = {}, window
    while at <= steps:
        found[at] = window
        window = max(window - shrink, least)
        at += window
    return found


class _Dense(NamedTuple):
    """What is remembered per sample: the step size in radii, the last point and its gain, how often the gain rose since
    the last check, the best gain then, and whether the step was halved then.
    """

    size: Tensor
    before: Tensor
    gain: Tensor
    rose: Tensor
    checked: Tensor
    halved: Tensor


class _Sparse(NamedTuple):
    """What is remembered per sample in the L1 ball: the step size in radii, the share of the coordinates that move, and
    how many were not zero at the last check.
    """

    size: Tensor
    share: Tensor
    used: Tensor


@dataclass(frozen=True)
class AutoPGD(Rule):
    r"""The step rule of Auto-PGD (Croce & Hein, ICML 2020, algorithm 1; in the L1 ball ICML 2021, algorithm 1).

    .. math:: z = \Pi\big(x_k + \eta\,v(g_k)\big), \qquad x_{k+1} = \Pi\big(x_k + 0.75\,(z - x_k) + 0.25\,(x_k -
        x_{k-1})\big)

    with the steepest step v of the ball, :math:`\eta` = 2 radii at first, and no momentum in the first step. At certain
    steps (see `checkpoints`) a sample halves :math:`\eta` and goes on from its best point, where the gain rose in at
    most 75 % of the steps since the last check, or :math:`\eta` was not halved then and the best gain is the same.

    In balls whose steepest step moves few coordinates (L1) there is no momentum: the step moves a share of the
    coordinates, at first 20 %, with the largest gradients. After each 4 % of the steps the share becomes that of the
    coordinates in use at the best point, divided by 1.5. Where these are fewer than 95 % of those before, the step is
    one radius again, from the best point; elsewhere it is divided by 1.5, down to a tenth.

    Every sample has a step size of its own, so `rel_step_size` has no effect. The authors' code compares the gain after
    the first step with 0; here, as in the paper, with the gain at the start.

    Args:
        share: In the L1 ball, the share of the coordinates that moves at first, in (0, 1]; None: that in use at the
            start, divided by 1.5.
    """

    share: float | None = 0.2

    keeps_best = True

    def __post_init__(self) -> None:
        if self.share is not None:
            set_fields(self, share=_checks.number("share", self.share, 0, 1, above=True))

    def init(self, at: Iterate) -> _Dense | _Sparse:
        """The first step sizes."""
        ones = torch.ones_like(at.gain)
        if not at.ball.sparse:
            return _Dense(2 * ones, at.delta, at.gain, 0 * ones, at.gain, ones > 0)
        flat = at.delta.flatten(1)
        if self.share is not None:
            return _Sparse(ones, self.share * ones, flat.shape[1] * ones)
        used = (flat != 0).sum(1).to(ones)
        return _Sparse(ones, used / flat.shape[1] / 1.5, used)

    def __call__(self, at: Iterate, state: Any) -> tuple[Tensor, Any]:
        """Look at the step sizes where it is time, then step."""
        return _sparse(at, state) if at.ball.sparse else _dense(at, state)


def _best_where(rows: Tensor, at: Iterate) -> tuple[Tensor, Tensor]:
    """The point to go on from and its gradient: the best one where `rows` (N,) says so, else the present one."""
    assert at.best is not None
    assert at.best.grad is not None
    assert at.grad is not None
    back = column(rows, at.delta)
    return torch.where(back, at.best.delta, at.delta), torch.where(back, at.best.grad, at.grad)


def _dense(at: Iterate, state: _Dense) -> tuple[Tensor, _Dense]:
    """With momentum; see `AutoPGD`."""
    assert at.grad is not None
    assert at.best is not None
    point, grad, size, checked, halved = at.delta, at.grad, state.size, state.checked, state.halved
    rose = state.rose + (at.gain > state.gain)
    window = checkpoints(at.steps).get(at.step)
    if window is not None:
        flagged = (rose <= 0.75 * window) | (~halved & (at.best.gain <= checked))
        point, grad = _best_where(flagged, at)
        size, rose = torch.where(flagged, size / 2, size), torch.zeros_like(rose)
        checked, halved = at.best.gain, flagged
    ahead = at.project(point + at.ball.support(grad) * column(size, point).to(point.dtype))
    if at.step:
        ahead = point + 0.75 * (ahead - point) + 0.25 * (point - state.before)
    return ahead, _Dense(size, point, at.gain, rose, checked, halved)


def _sparse(at: Iterate, state: _Sparse) -> tuple[Tensor, _Sparse]:
    """In the L1 ball; see `AutoPGD`."""
    assert at.grad is not None
    assert at.best is not None
    point, grad, size, share, used = at.delta, at.grad, *state
    if at.step and at.step % max(int(0.04 * at.steps), 1) == 0:
        now = (at.best.delta != 0).flatten(1).sum(1).to(used)
        sparser = now / used.clamp_min(1) < 0.95
        point, grad = _best_where(sparser, at)
        size, share, used = torch.where(sparser, 1.0, (size / 1.5).clamp_min(0.1)), now / point[0].numel() / 1.5, now
    step = sparse_step(grad, at.ball, share) * column(size, point).to(point.dtype)
    return project_within(point + step, at.ball, at.chart), _Sparse(size, share, used)


def _all_right(output: Any, y: Any) -> Tensor:
    """`correct` for a run in which the gain alone counts."""
    return torch.ones(len(output), dtype=torch.bool, device=output.device)


@dataclass(frozen=True)
class Shrinking(Combined):
    """The same attack in balls that shrink to the declared one, each run from the highest gain of the run before.

    "Multi-eps" of Croce & Hein (ICML 2021, section 3.2): 30, 30 and 40 % of the steps in balls of 3, 2 and 1 radii.

    Args:
        attack: The attack in the declared ball, with all steps.
        radii: The factors of the radius, falling, the last of them 1.
        shares: Which share of the steps each ball has; the last one has those that are left.
    """

    attack: PGD
    radii: tuple[float, ...] = (3.0, 2.0, 1.0)
    shares: tuple[float, ...] = (0.3, 0.3, 0.4)

    def __post_init__(self) -> None:
        _checks.instance("attack", self.attack, PGD, "a PGD")
        radii, shares = _checks.values("radii", self.radii, 1), _checks.values("shares", self.shares, 0, 1, above=True)
        if radii[-1] != 1 or len(radii) != len(shares):
            raise ValueError(
                "Expected arguments `radii` and `shares` to be of one length and the last radius to be 1, but got "
                f"radii={radii}, shares={shares}."
            )
        if self._steps(shares)[-1] < 1:
            raise ValueError(f"Expected argument `attack` to have a step for each radius, but got {self.attack.steps}.")
        set_fields(self, radii=radii, shares=shares)

    def _steps(self, shares: tuple[float, ...]) -> list[int]:
        first = [math.ceil(share * self.attack.steps) for share in shares[:-1]]
        return [*first, self.attack.steps - sum(first)]

    def quick(self) -> Attack:
        """Samples leave the last run once they are fooled."""
        return self.of((self.attack.quick(),))

    def waves(self) -> tuple[Attack, ...]:
        """One for each restart."""
        return tuple(self.of((wave,)) for wave in self.attack.waves())

    def applies(self, output: Tensor, y: Any) -> bool:
        """Does the attack apply?"""
        return self.attack.applies(output, y)

    def brief(self) -> Attack:
        """The attack in the declared ball alone."""
        return self.attack.brief()

    def run(self, model: Model, x: Tensor, y: Any, context: Context = NO_CONTEXT) -> Outcome:
        """Attack and tell everything, see `Attack.run`."""
        first = context.restart
        waves = enumerate(self.attack.waves(), first)
        outcomes = [self._chain(wave, model, x, y, replace(context, restart=r)) for r, wave in waves]
        return functools.reduce(_worse, outcomes)

    def _chain(self, wave: Attack, model: Model, x: Tensor, y: Any, context: Context) -> Outcome:
        """One restart."""
        assert isinstance(wave, PGD)
        blind = replace(context, correct=_all_right)
        *larger, last = zip(self.radii, self._steps(self.shares), strict=True)
        way: Any = 0.0
        for factor, steps in larger:
            part = replace(wave.scaled(factor), steps=steps, keep="best", early_stop=False).run(model, x, y, blind)
            assert part.signs is not None
            wave, way = _from(wave, part.delta), way + part.signs.way
        outcome = replace(wave, steps=last[1]).run(model, x, y, context)
        if outcome.signs is not None:
            outcome.signs.way += way
        if outcome.first is None:
            return outcome
        before = sum(steps for _, steps in larger)
        return replace(outcome, first=torch.where(outcome.first < 0, -1, outcome.first + before))


def _from(attack: PGD, delta: Tensor | None) -> PGD:
    """The attack from a point on."""

    def start(ball: Ball, noise: Noise, zero: Tensor) -> Tensor:
        assert delta is not None
        return ball.project(delta)

    return replace(attack, random_start=start, first_clean=False)


def _worse(one: Outcome, other: Outcome) -> Outcome:
    """Per sample, the outcome that fools the model, else the one of the higher gain."""
    assert one.gain is not None
    assert other.gain is not None
    better, known = other.gain > one.gain, one.fooled is not None and other.fooled is not None
    if known:
        before, now = one.fooled.any(0), other.fooled.any(0)  # type: ignore[union-attr]
        better = (now & ~before) | ((now == before) & better)

    def chosen(name: str) -> Any:
        old, new = getattr(one, name), getattr(other, name)
        return None if old is None or new is None else torch.where(column(better, old), new, old)

    def of_both(name: str, join: Callable[[Tensor, Tensor], Any]) -> Any:
        old, new = getattr(one, name), getattr(other, name)
        return None if old is None or new is None else join(old, new)

    return Outcome(
        chosen("x_adv"),
        chosen("delta"),
        of_both("fooled", lambda old, new: torch.cat([old, new])),
        of_both("first", lambda old, new: torch.cat([old, new])),
        of_both("stuck", operator.and_),
        chosen("gain"),
        of_both("radius", torch.minimum),
        of_both("signs", operator.add),
    )


def apgd(
    threat: Threat | Ball,
    steps: int = 100,
    *,
    gain: GainFn | Anchored | tuple[GainFn | Anchored, ...] = cross_entropy,
    restarts: int = 1,
    seed: int = 0,
) -> PGD | Shrinking:
    """Auto-PGD (Croce & Hein, ICML 2020 and 2021): from the surface of the ball, with the steps of `AutoPGD`.

    In an L1 ball from a projected normal point of a ball three times as large, which shrinks, see `Shrinking`. With
    `targeted_dlr` or `targeted_margin` as gain it is what the papers call APGD-T.

    Args:
        threat: The perturbation set.
        steps: Number of steps.
        gain: What is raised; several: the restarts raise them in turn.
        restarts: Number of random starts.
        seed: Of the random starts.

    Example:
        >>> from lightning_robust.attacks import Linf
        >>> x, y = torch.full((1, 2), 0.5), torch.tensor([0])
        >>> apgd(Linf(0.25), steps=10)(torch.nn.Linear(2, 2).requires_grad_(False), x, y).shape
        torch.Size([1, 2])
    """
    threat = as_threat(threat)
    sparse = threat.ball.sparse
    start, rule = (projected_normal, AutoPGD(share=None)) if sparse else (on_sphere, AutoPGD())
    attack = PGD(threat, steps, gain=gain, restarts=restarts, seed=seed, random_start=start, rule=rule, keep="best")
    return Shrinking(attack) if sparse and attack.steps > 2 else attack
