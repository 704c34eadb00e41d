r"""The ascent loop, the one of this library: projected ascent on any gain, in any ball, along any space."""

import copy
import functools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lightning_robust._noise import Noise
from lightning_robust.attacks._goal import Goal, Trace
from lightning_robust.attacks._joined import Whole, in_one, joined
from lightning_robust.attacks._signs import Lookout
from lightning_robust.attacks._step import gain_and_gradient, may_be_one
from lightning_robust.attacks._tensors import column
from lightning_robust.attacks.attack import rows_of
from lightning_robust.attacks.rules import Best, Iterate, Rule
from lightning_robust.attacks.threats import Batch, Threat


class Ascent:
    """One run of the loop from one start.

    Args:
        batch: The model, the inputs and the chart.
        goal: What is raised.
        threat: Where the perturbation may go.
        delta: (N, ...) the start.
        noise: `(*key) -> Noise`, the random numbers of the run.
        rule: How a gradient becomes a step.
        sizes: The size of each step relative to the radius.
        look: Keep the best perturbation of all, and what else an evaluation wants to know.
        judged: Look at the last perturbation at least.
    """

    def __init__(
        self,
        batch: Batch,
        goal: Goal,
        threat: Threat,
        delta: Tensor,
        noise: Callable[..., Noise],
        rule: Rule,
        sizes: Sequence[float],
        *,
        look: bool,
        judged: bool,
    ) -> None:
        self._model, self._chart, self._goal, self._noise, self._rule = batch.model, batch.chart, goal, noise, rule
        self._threat, self._ball, self._sizes = threat, threat.ball, sizes
        self._project, self._state = threat.projection(batch.chart), None
        self._answer = joined(batch.model, batch.chart.decode)
        self._best: Best | None = None
        self._kept: Tensor | None = None  # which samples of the whole these are; None: all
        self._delta, self.trace, self._judged = delta, Trace.start(delta), judged
        self.lookout = Lookout(delta, len(sizes)) if look else None

    def run(self, *, early: bool, leaving: bool) -> None:
        """Climb to the end.

        Args:
            early: A sample stays where it is once it is misclassified.
            leaving: It leaves the batch, so that forwards get smaller; so do those that the rule gives up.
        """
        lane, rows = self, torch.arange(len(self._delta), device=self._delta.device)
        whole: Whole | None = None
        for step in range(len(self._sizes)):
            if step == 1 and not early:
                whole = self._in_one()
            if whole is not None and (moved := whole(self._delta, self._state, self._sizes[step], step)) is not None:
                self._delta, self._state = moved
                continue
            whole = None
            logits, grad = lane._climb(step, early)
            over = lane.trace.fooled if early else None
            if over is not None and leaving and bool(over.any()):
                stay = (~over).nonzero()[:, 0]
                self._take_back(rows, lane)
                if not len(stay):
                    return
                lane, rows, logits = lane._part(stay), rows[stay], logits[stay]
                grad = None if grad is None else grad[stay]
            elif early and not leaving and lane.trace.over():
                break
            gone = lane._move(step, logits, grad, over if not leaving else None)
            if gone is not None and leaving and self.lookout is not None and bool(gone.any()):
                stay = (~gone).nonzero()[:, 0]
                self._take_back(rows, lane)
                if not len(stay):
                    return
                lane, rows = lane._part(stay), rows[stay]
        lane._end(len(self._sizes))
        self._take_back(rows, lane)

    def _in_one(self) -> Whole | None:
        """The whole step as one function, if the model makes one and nobody looks at what is in between."""
        if self.lookout is not None or not may_be_one(self._rule):
            return None
        return in_one(self._answer, self._goal, self._threat, self._chart, self._rule, len(self._sizes))

    def _climb(self, step: int, early: bool) -> tuple[Tensor, Tensor | None]:
        """Look at the present perturbation: the logits there, and the gradient."""
        wanted, goal = self._rule.order > 0, self._goal
        with torch.set_grad_enabled(wanted):
            logits = self._answer(self._delta.requires_grad_(wanted))
            if step == 0:
                goal.check(logits)
            self._gain, grad = (
                gain_and_gradient(goal.gain, logits, self._delta, goal.slope) if wanted else (goal.gain(logits), None)
            )
        with torch.no_grad():
            self._delta, logits = self._delta.detach(), logits.detach()
            if grad is not None:
                if self.lookout is not None:
                    self.lookout.gradient(grad)
                # An expanded gradient (of a model that sums its input) has no memory of its own to write to.
                # One with channels last would slow down all that is done with it.
                grad = grad.nan_to_num_() if grad.is_contiguous() else grad.nan_to_num().contiguous()
                if step == 0:
                    self.trace.stuck = grad.flatten(1).abs().amax(1) == 0
            if self.lookout is not None or early:
                self._see(logits, step)
        return logits, grad

    def _see(self, logits: Tensor, step: int) -> None:
        """Keep the present perturbation where it is better."""
        radius, fooled = None, self._goal.fooled(logits)
        if self.lookout is not None:
            self.lookout.gain(self._gain, step)
            radius = self._ball.norm(self._delta)
            if (won := self._goal.won(logits, self._gain)) is not None:
                signs = self.lookout.signs
                signs.won = (signs.won | won) & ~(fooled | self.trace.fooled)
                if self._rule.order > 0:
                    signs.short = ~(signs.won | self._goal.seeks_any)
        self.trace.see(self._delta, self._gain, fooled, step, radius)

    def _draw(self, *key: int) -> Noise:
        """The random numbers of these samples."""
        noise = self._noise(*key)
        return noise if self._kept is None else noise.take(self._kept)

    @torch.no_grad()
    def _move(self, step: int, logits: Tensor, grad: Tensor | None, over: Tensor | None) -> Tensor | None:
        """Ask the rule for the next perturbation; where an attack is over, stay. Returns what the rule gives up."""
        delta, rule = self._delta, self._rule
        if rule.keeps_best:
            best = self._best
            self._best = Best(delta, self._gain, grad) if best is None else best.or_higher(delta, self._gain, grad)
        judge = functools.partial(self._goal.known, logits)
        at = Iterate(
            delta,
            self._gain,
            grad,
            self._ball,
            self._chart,
            self._sizes[step],
            step,
            len(self._sizes),
            self._best,
            self._project,
            judge,
            functools.partial(self._draw, step + 1),
        )
        if step == 0:
            self._state = rule.init(at)
        moved, self._state = rule(at, self._state)
        moved = self._project(moved)
        self._delta = moved if over is None else torch.where(column(over, delta), delta, moved)
        if self.lookout is not None:
            self.lookout.move(grad, self._delta - delta)
        return rule.over(at, self._state)

    @torch.no_grad()
    def _end(self, step: int) -> None:
        """Look at the last perturbation."""
        if self.lookout is None:
            self.trace.delta, self.trace.gain = self._delta, torch.full_like(self.trace.gain, -math.inf)
        if not self._judged:
            return
        logits, before = self._answer(self._delta), self.trace.fooled
        self._gain = self._goal.gain(logits)
        self._see(logits, step)
        if self.lookout is not None:
            self.lookout.signs.silent = before & ~self._goal.fooled(logits)
        result = self._rule.result(self._state) if self._state is not None else None
        if result is not None:
            self.trace.delta = result

    def _part(self, rows: Tensor) -> "Ascent":
        """The run on some of the samples."""
        part = copy.copy(self)
        part._model, part._chart = rows_of(self._model, rows), self._chart.take(rows)
        part._answer = joined(part._model, part._chart.decode)
        part._goal, part._ball = self._goal.take(rows), self._ball.take(rows)
        part._threat = Threat(part._ball, self._threat.space)
        part._project = part._threat.projection(part._chart)
        part._delta, part._gain = self._delta[rows], self._gain[rows]
        part._kept = rows if self._kept is None else self._kept[rows]
        part._best = None if self._best is None else self._best.take(rows)
        part._state = self._rule.take(self._state, rows)
        part.trace = self.trace.take(rows)
        part.lookout = None if self.lookout is None else self.lookout.take(rows)
        return part

    def _take_back(self, rows: Tensor, lane: "Ascent") -> None:
        """Write what a part has seen into the whole."""
        if lane.lookout is not None:
            lane.lookout.end(lane._delta, lane._ball.norm)
        if lane is not self:
            self.trace.put(rows, lane.trace)
            if self.lookout is not None and lane.lookout is not None:
                self.lookout.signs.put(rows, lane.lookout.signs)
