"""The nearest adversarial example of each sample, and so robust accuracy at every radius."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from lightning_robust import _checks
from lightning_robust._nested import cut
from lightning_robust.attacks._gain import GainFn
from lightning_robust.attacks._goal import Goal, clean_logits
from lightning_robust.attacks._radii import DDN, FMN, Boundary, NearestRule
from lightning_robust.attacks._signs import Signs
from lightning_robust.attacks._tensors import column, set_fields
from lightning_robust.attacks.anchored import Anchored, targeted_margin
from lightning_robust.attacks.attack import NO_CONTEXT, Context, Model, Outcome, rows_of
from lightning_robust.attacks.auto_pgd import apgd
from lightning_robust.attacks.ball import Ball
from lightning_robust.attacks.gains import margin
from lightning_robust.attacks.labels import are_class_labels
from lightning_robust.attacks.pgd import PGD
from lightning_robust.attacks.scope import wants_whole_batches
from lightning_robust.attacks.targets import nearest_classes
from lightning_robust.attacks.threats import Threat, ThreatAttack, as_threat

__all__ = ["DDN", "FMN", "Boundary", "MinimumNorm"]

_CLOSER = (0.7, 0.8, 0.9, 0.8, 0.9, 0.95)
"""Twice, for the second look starts from what the first has found."""


def _shares(given: Any) -> tuple[float, ...]:
    shares = _checks.sequence("closer", given, "shares between 0 and 1")
    return tuple(_checks.number("closer", share, 0, 1, above=True, below=True) for share in shares)


@dataclass(frozen=True)
class MinimumNorm(ThreatAttack):
    """Looks for the nearest adversarial example in a ball larger than the declared one.

    `Outcome.radius` is the norm of the nearest one: the share of the samples that are right and whose radius is above
    r is an upper bound of robust accuracy at r, for all r in one run. `fooled` says whether the radius is within the
    declared ball.

    The gains are raised one after the other, each from the clean input, and each looks below the least radius so far.
    `Boundary` soon gives up those whose boundary is much farther, which spares most of the passes. In balls whose
    steepest step moves few coordinates (L1) Auto-PGD then looks closer, see `closer`.
    At the end the nearest perturbation is shortened as far as it fools, by a tenth at most, by bisection.

    Args:
        threat: The perturbation set.
        steps: Number of steps for each gain.
        targets: Number of wrong classes, the nearest first, towards which margins are raised; where there are fewer,
            all of them.
        gain: What is raised in place of these margins; several are raised in turn.
        reach: How much larger the ball is in which it looks.
        rule: How a gradient becomes a step, and how the radius moves: `Boundary`, `FMN` or `DDN`.
        closer: Shares of the least radius so far: in the ball of each, one after the other, 20 steps of `apgd` look for
            something nearer. None: 0.7, 0.8, 0.9, 0.8, 0.9, 0.95 for `Boundary` in balls whose steepest step moves few
            coordinates, else none. On a robust network the radii of 155 images in the L1 ball fell to 0.885 of what
            they were on average, for 505 passes in place of 257; in L2 and Linf one of 106 fell (docs/evaluation.md).
        halvings: Number of forward passes of the bisection.
        early_stop: Spare a sample the gains that are left once it is fooled within the declared ball: the verdict is
            the same, the radius is not the least.

    Example:
        >>> from lightning_robust.attacks import L2
        >>> model = lambda x: x @ torch.tensor([[3.0, -3.0], [4.0, -4.0]]) + torch.tensor([-2.5, 2.5])
        >>> x, y = torch.tensor([[0.5, 0.5]]), torch.tensor([0])  # the boundary is 3 a + 4 b = 2.5, at 0.2
        >>> outcome = MinimumNorm(L2(0.1)).run(model, x, y)
        >>> round(float(outcome.radius), 3), bool(outcome.fooled)
        (0.2, False)
    """

    threat: Threat | Ball
    steps: int = 30
    targets: int = field(default=9, kw_only=True)
    gain: GainFn | Anchored | tuple[GainFn | Anchored, ...] | None = field(default=None, kw_only=True)
    reach: float = field(default=4.0, kw_only=True)
    rule: NearestRule = field(default_factory=Boundary, kw_only=True)
    closer: Sequence[float] | None = field(default=None, kw_only=True)
    halvings: int = field(default=6, kw_only=True)
    early_stop: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        gain = self.gain
        set_fields(
            self,
            threat=as_threat(self.threat),
            steps=_checks.count("steps", self.steps),
            targets=_checks.count("targets", self.targets),
            gain=_checks.sequence("gain", gain, "a gain or several") if isinstance(gain, list | tuple) else gain,
            reach=_checks.number("reach", self.reach, 1),
            closer=None if self.closer is None else _shares(self.closer),
            halvings=_checks.count("halvings", self.halvings, 0),
            early_stop=_checks.boolean("early_stop", self.early_stop),
        )
        _checks.instance("rule", self.rule, NearestRule, "a rule such as Boundary(), FMN() or DDN()")
        if gain == () or gain == []:
            raise ValueError(f"Expected argument `gain` to be a gain or several, but got {gain!r}.")
        self._runs  # noqa: B018  checks the gains

    @property
    def _runs(self) -> list[PGD]:
        """One run for each gain."""
        given = self.gain if isinstance(self.gain, tuple) else (self.gain,)
        gains = [targeted_margin(rank + 1) for rank in range(self.targets)] if self.gain is None else given
        threat = self._threat.scaled(self.reach)
        return [PGD(threat, self.steps, gain=g, rule=self.rule, random_start=False, keep="best") for g in gains]  # type: ignore[arg-type]

    @property
    def _closer(self) -> Sequence[float]:
        """The shares of the least radius in whose balls `apgd` looks."""
        if self.closer is not None:
            return self.closer
        return _CLOSER if self._threat.ball.sparse and isinstance(self.rule, Boundary) else ()

    def quick(self) -> "MinimumNorm":
        """Spare samples the rest once they are fooled."""
        return replace(self, early_stop=True)

    def brief(self) -> "MinimumNorm":
        """One step of the first gain."""
        gain = self.gain[:1] if isinstance(self.gain, tuple) else self.gain
        return replace(self, steps=1, targets=1, gain=gain, closer=(), halvings=0)

    def applies(self, output: Tensor, y: Any) -> bool:
        """Does the output have the classes that one of the gains asks for?"""
        return any(run.applies(output, y) for run in self._runs)

    def run(self, model: Model, x: Tensor, y: Any, context: Context = NO_CONTEXT) -> Outcome:
        """Attack and tell everything, see `Attack.run`."""
        context = self._informed(model, x, y, context)
        runs = [run for run in self._runs if run.applies(context.logits, y)]
        runs = runs or [replace(self._runs[0], gain=margin if self.gain is None else self._runs[0].gain)]
        n, wide, limit = len(x), self._threat.scaled(self.reach), self._limit(x)
        radius, signs, stuck, delta = torch.full((n,), torch.inf, device=x.device), None, None, None
        whole = wants_whole_batches(model)
        for number, run in enumerate(runs):
            left = radius > (limit if self.early_stop else 0)
            rows = (torch.ones_like(left) if whole else left).nonzero()[:, 0]
            if not len(rows):
                break
            part = replace(
                run, threat=Threat(wide.ball.take(rows), wide.space), rule=replace(self.rule, below=radius[rows])
            )
            some = part.run(rows_of(model, rows), x[rows], cut(y, n, rows), context.take(rows, n))
            assert some.delta is not None
            assert some.radius is not None
            assert some.signs is not None
            if number == 0:
                delta, signs, stuck = some.delta, some.signs, some.stuck
                radius = some.radius.clone()
                continue
            assert delta is not None
            assert signs is not None
            before = Signs.take(signs, rows)
            signs.put(rows, before + some.signs)
            closer = some.radius < radius[rows]
            radius[rows[closer]], delta[rows[closer]] = some.radius[closer].to(radius), some.delta[closer].to(delta)
        assert delta is not None
        assert signs is not None
        signs.silent[:] = False  # the search crosses the boundary again and again by its nature, in a larger ball
        gains = [margin] if self.gain is None else [run.gain for run in runs]
        for number, share in enumerate(self._closer):
            gain = gains[number % len(gains)]
            self._look_closer(model, x, y, replace(context, restart=number), gain, share, delta, radius)
        x_adv, delta, radius = self._nearest(model, x, y, context, runs[0].gain, delta, radius)
        return Outcome(x_adv, delta, (radius <= limit)[None], None, stuck, None, radius, signs)

    def _look_closer(
        self, model: Model, x: Tensor, y: Any, context: Context, gain: Any, share: float, delta: Tensor, radius: Tensor
    ) -> None:
        """Look in the balls of a share of the radii (N,), and write what is nearer into these and the perturbations."""
        n, known = len(x), radius.isfinite() & (radius > (self._limit(x) if self.early_stop else 0))
        rows = (torch.ones_like(known) if wants_whole_batches(model) else known).nonzero()[:, 0]
        if not len(rows):
            return
        ball = self._threat.ball.take(rows)
        wanted = torch.where(known[rows], share * radius[rows], 0.0)
        # Shares of the declared radius; where that is zero, nothing is known.
        factor = wanted / torch.as_tensor(ball.radius).to(wanted).clamp_min(1e-30)
        attack = apgd(Threat(ball, self._threat.space), 20, gain=gain).quick()
        part = attack.scaled(factor)  # type: ignore[arg-type]
        some = part.run(rows_of(model, rows), x[rows], cut(y, n, rows), context.take(rows, n))
        assert some.delta is not None
        assert some.fooled is not None
        norm = ball.norm(some.delta).to(radius)
        nearer = some.fooled.any(0) & (norm < radius[rows]) & known[rows]
        radius[rows[nearer]], delta[rows[nearer]] = norm[nearer], some.delta[nearer].to(delta)

    def _limit(self, x: Tensor) -> Tensor | float:
        """The radius that is declared, up to rounding."""
        radius = self._threat.ball.radius
        return (radius.to(x.device) if isinstance(radius, Tensor) else radius) * (1 + 1e-6)

    def _informed(self, model: Model, x: Tensor, y: Any, context: Context) -> Context:
        """The context with the clean logits, and the nearest classes where targets are asked for."""
        with self._ready(model, x, y, context) as batch:
            context = replace(context, logits=clean_logits(batch, context))
            run = next((run for run in self._runs if run.applies(context.logits, y)), None)
            Goal(margin if run is None else run.gain, batch, context).check(context.logits)  # type: ignore[arg-type]
        ranked = self.gain is None and context.targets is None and are_class_labels(context.logits, y)
        if not ranked or context.logits.shape[1] - 1 <= self.targets:
            return context
        nearest = nearest_classes(model, x, y, self._threat, context.logits, self.targets, code=context.code)
        return replace(context, targets=nearest)

    def _nearest(
        self, model: Model, x: Tensor, y: Any, context: Context, gain: Any, delta: Tensor, radius: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The inputs and perturbations within the threat, and the least norms: what is returned is what was judged."""
        ball = self._threat.ball
        with self._ready(model, x, y, context) as batch, torch.no_grad():
            goal, chart = Goal(gain, batch, context), batch.chart
            logits = batch.model(chart.emit(delta))
            goal.check(logits)
            # What fooled in a batch of other samples may, at the very boundary, not fool in this one.
            high = torch.where(goal.fooled(logits), 1.0, 1.001).to(radius)
            low = 0.9 * high
            for _ in range(self.halvings):
                middle = (low + high) / 2
                fooled = goal.fooled(batch.model(chart.emit(delta * column(middle, delta).to(delta))))
                low, high = torch.where(fooled, low, middle), torch.where(fooled, middle, high)
            delta = chart.clip(delta * column(high, delta).to(delta))
            norm, found = ball.norm(delta).to(radius), radius.isfinite()
            within = found & (norm <= self._limit(x))
            delta = torch.where(column(within, delta), delta, chart.clip(ball.project(delta)))
            x_adv = chart.emit(delta)
            broken = goal.fooled(batch.model(x_adv.clone()))  # a forward may write to its input
            radius = torch.where(found & (broken | ~within), norm, torch.inf)
            return x_adv, delta, radius
