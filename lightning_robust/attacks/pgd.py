r"""The ascent loop, the one of this library: projected gradient ascent on any gain, in any ball, along any space."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from lightning_robust import _checks
from lightning_robust._noise import Noise
from lightning_robust.attacks._gain import GainFn
from lightning_robust.attacks._goal import Goal, Trace
from lightning_robust.attacks._tensors import column, set_fields
from lightning_robust.attacks.anchored import Anchored
from lightning_robust.attacks.attack import NO_CONTEXT, Context, Model, Outcome
from lightning_robust.attacks.ball import Ball
from lightning_robust.attacks.gains import log_odds, margin
from lightning_robust.attacks.rules import Best, Iterate, Rule, Steepest
from lightning_robust.attacks.scope import Mode
from lightning_robust.attacks.spaces import Chart
from lightning_robust.attacks.starts import Start, uniform
from lightning_robust.attacks.threats import Batch, Threat, ThreatAttack, as_threat


def _needs_scaling(logits: Tensor) -> bool:
    half = (torch.float16, torch.bfloat16)
    device = logits.device.type
    return logits.dtype in half or (torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) in half)


def gain_and_gradient(gain: Callable[[Tensor], Tensor], logits: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
    r"""The gain of each sample (N,) and its gradient with respect to `delta`, computed with respect to nothing else.

    In half precision small gradients vanish: for a well-fitted network in float16 all of them, and the attack does
    nothing. There the chain rule is cut at the logits z: :math:`\partial L/\partial z` in float32 is scaled per sample
    by a power of two to a largest entry in [1, 2), sent through the network, and scaled back. The result does not
    depend on the batch or on a gradient scaler.
    """
    if not logits.requires_grad:
        raise RuntimeError(
            "Expected the model's output to depend on its input differentiably, but it carries no gradient. "
            "Does `forward` run under torch.no_grad, detach, return predicted classes instead of logits, or read "
            "another field of the batch than `input` names?"
        )
    if _needs_scaling(logits):
        z = logits.detach().float().requires_grad_()
        value = gain(z)
        (gz,) = torch.autograd.grad(value.sum(), z)
        # The exponent bits of a float32 are the largest power of two below it; kept away from zero and infinity.
        top = gz.reshape(len(gz), -1).abs().amax(1)
        power = (top.view(torch.int32) & 0x7F800000).clamp_(1 << 24, 252 << 23).view(torch.float32)
        weights = (gz / column(power, gz)).to(logits.dtype)
        (grad,) = torch.autograd.grad(logits, delta, weights, allow_unused=True)
        if grad is not None:
            grad = grad * column(power.to(grad.dtype), grad)
    else:
        value = gain(logits)
        (grad,) = torch.autograd.grad(value.sum(), delta, allow_unused=True)
    if grad is None:
        raise RuntimeError(
            "Expected the model's output to depend on its input, but no gradient arrives at the perturbation."
        )
    return value.detach(), grad


@dataclass(frozen=True)
class PGD(ThreatAttack):
    r"""Projected gradient ascent (Madry et al., ICLR 2018), for any ball, space, gain and step rule.

    .. math:: \delta \leftarrow \Pi_B\big(\delta + \alpha \arg\max_{v \in B} \langle v, \nabla_\delta\,
    G(f(\mathrm{decode}(\delta)), y)
              \rangle\big)

    followed by clipping to the bounds of the space. FGSM is one step; see `fgsm` and its friends for named settings.

    Args:
        threat: The perturbation set: `Threat(ball, space)`, or a ball, which means pixels in [0, 1].
        steps: The number of gradient steps.
        rel_step_size: The step size :math:`\alpha` relative to the radius; None: 2.5 / steps (Madry et al.), but 1
            for a single step.
        restarts: Independent random starts; the best is kept per sample.
        random_start: True: uniform in the ball. False: the clean input. Or a function `(ball, noise, zero) -> delta`,
            whose point is clipped to the bounds of the space, but not projected; the result of every step is both.
        gain: What is raised, `(logits, y) -> (N,)`. The default, `log_odds`, rises in the same direction as cross
            entropy and does not saturate. Several in a tuple: the restarts raise them in turn. In evaluation every
            second restart of the default raises `margin` instead: where logits are soft, log-odds and cross entropy
            pull towards all wrong classes at once, and find less.
        rule: How a gradient becomes a step: `Steepest(momentum=...)` or `Adam(lr=...)`.
        keep: "last": the last iterate, the cheapest, usual for training. "best": per sample, a misclassified iterate
            before any other, then the highest gain; one forward more. Evaluation always keeps the best. For labels that
            are no class labels, and without `correct`, the highest gain alone decides.
        early_stop: Leave a sample where it is once it is misclassified. (The batch goes on until all are, or to the end
            when processes run together.)
        seed: Seeds the random starts, together with the content of each sample, the key of the call and the restart.
        mode: The mode of the model during the attack, see `scope`.

    Example:
        >>> from lightning_robust.attacks import Linf
        >>> model = torch.nn.Linear(2, 2)
        >>> x, y = torch.rand(4, 2), torch.tensor([0, 1, 0, 1])
        >>> x_adv = PGD(Linf(0.1), steps=20, random_start=False)(model, x, y)
        >>> bool((x_adv - x).abs().max() <= 0.1)
        True
    """

    threat: Threat | Ball
    steps: int = 10
    rel_step_size: float | None = field(default=None, kw_only=True)
    restarts: int = field(default=1, kw_only=True)
    random_start: bool | Start = field(default=True, kw_only=True)
    gain: GainFn | Anchored | tuple[GainFn | Anchored, ...] = field(default=log_odds, kw_only=True)
    rule: Rule = field(default_factory=Steepest, kw_only=True)
    keep: Literal["last", "best"] = field(default="last", kw_only=True)
    early_stop: bool = field(default=False, kw_only=True)
    seed: int = field(default=0, kw_only=True)
    mode: Mode = field(default="eval", kw_only=True)

    def __post_init__(self) -> None:
        size, gain, start = self.rel_step_size, self.gain, self.random_start
        if isinstance(gain, list | tuple):
            gain = _checks.sequence("gain", gain, "a gain or several")
        set_fields(
            self,
            threat=as_threat(self.threat),
            steps=_checks.count("steps", self.steps),
            restarts=_checks.count("restarts", self.restarts),
            seed=_checks.seed("seed", self.seed),
            early_stop=_checks.boolean("early_stop", self.early_stop),
            rel_step_size=None if size is None else _checks.number("rel_step_size", size, 0, above=True),
            keep=_checks.choice("keep", self.keep, ("last", "best")),
            mode=_checks.choice("mode", self.mode, ("eval", "train")),
            random_start=bool(start) if isinstance(start, np.bool_) else start,
            gain=gain,
        )
        if not isinstance(self.random_start, bool):
            _checks.function("random_start", self.random_start, "(ball, noise, zero) -> delta, or True or False")
        _checks.instance("rule", self.rule, Rule, "a step rule such as Steepest() or Adam()")
        if not self._gains:
            raise ValueError(f"Expected argument `gain` to be a gain or several, but got {self.gain!r}.")
        for one in self._gains:
            _checks.function("gain", one, "(logits, y) -> (N,)")
        if self.random_start is False and self.restarts > 1:
            raise ValueError(
                f"Expected `random_start` with {self.restarts} restarts: without it they are all the same."
            )
        if self.random_start is False and any(getattr(one, "flat", False) for one in self._gains):
            raise ValueError(
                "Expected `random_start` with a gain such as `divergence`, whose gradient is zero at the clean input."
            )

    @property
    def _gains(self) -> tuple[GainFn, ...]:
        """What the restarts raise in turn."""
        return self.gain if isinstance(self.gain, tuple) else (self.gain,)

    def thorough(self) -> "PGD":
        """Keep the best iterate, and raise the margin, too, where there are restarts of the default gain."""
        gain = (log_odds, margin) if self.gain is log_odds and self.restarts > 1 else self.gain
        return self if (self.keep, self.gain) == ("best", gain) else replace(self, keep="best", gain=gain)

    def brief(self) -> "PGD":
        """One step from one start for each gain."""
        return replace(self, steps=1, restarts=min(self.restarts, len(self._gains)))

    def run(self, model: Model, x: Tensor, y: Any, context: Context = NO_CONTEXT) -> Outcome:
        """Attack and tell everything, see `Attack.run`."""
        with self._ready(model, x, y, context, mode=self.mode, gain=self.gain) as batch:
            goals = [Goal(gain, batch, context, must_judge=self.early_stop) for gain in self._gains[: self.restarts]]
            noise = functools.cache(lambda: Noise.of(batch.x, self.seed, context.key))
            draw = [functools.partial(lambda *key: noise().fold(*key), r) for r in range(self.restarts)]
            starts = [self._start(batch.chart, one) for one in draw]
            traces = [self._ascend(batch, goals[r % len(goals)], starts[r], draw[r]) for r in range(self.restarts)]
            with torch.no_grad():
                if len(goals) > 1:  # gains have units of their own: what is best of all is judged by the first
                    for trace in traces:
                        trace.gain = goals[0].gain(batch.model(batch.chart.decode(trace.delta)))
                best = replace(traces[0])
                for trace in traces[1:]:
                    best.see(trace.delta, trace.gain, trace.fooled, trace.first)
                x_adv = batch.chart.emit(best.delta)
        known = goals[0].judge is not None and (self.keep == "best" or self.restarts > 1)
        return Outcome(
            x_adv,
            best.delta,
            fooled=torch.stack([trace.fooled for trace in traces]) if known else None,
            first=torch.stack([trace.first for trace in traces]) if known else None,
            stuck=torch.stack([trace.stuck for trace in traces]).all(0) if self.rule.order else None,
        )

    def _start(self, chart: Chart, draw: Callable[..., Noise]) -> Tensor:
        """Where one restart begins."""
        if self.random_start is False:
            return chart.zero.clone()
        start = uniform if self.random_start is True else self.random_start
        return chart.clip(start(self._threat.ball, draw(), chart.zero))

    def _ascend(self, batch: Batch, goal: Goal, delta: Tensor, draw: Callable[..., Noise]) -> Trace:
        """The loop."""
        model, chart, ball, rule = batch.model, batch.chart, self._threat.ball, self.rule
        size = self.rel_step_size
        if size is None:
            size = 1.0 if self.steps == 1 else 2.5 / self.steps
        project, trace, best, state = self._threat.projection(chart), Trace.start(delta), None, None
        for step in range(self.steps):
            with torch.set_grad_enabled(rule.order > 0):
                logits = model(chart.decode(delta.requires_grad_(rule.order > 0)))
                if step == 0:
                    goal.check(logits)
                gain, grad = gain_and_gradient(goal.gain, logits, delta) if rule.order else (goal.gain(logits), None)
            with torch.no_grad():
                delta, logits = delta.detach(), logits.detach()
                if grad is not None:
                    # An expanded gradient (of a model that sums its input) has no memory of its own to write to.
                    grad = grad.nan_to_num_() if grad.is_contiguous() else grad.nan_to_num()
                    if step == 0:
                        trace.stuck = grad.flatten(1).abs().amax(1) == 0
                if self.keep == "best" or self.early_stop:
                    trace.see(delta, gain, goal.fooled(logits), step)
                if self.early_stop and trace.over():
                    break
                if rule.keeps_best:
                    best = Best(delta, gain, grad) if best is None else best.or_higher(delta, gain, grad)
                judge, noise = functools.partial(goal.known, logits), functools.partial(draw, step + 1)
                at = Iterate(delta, gain, grad, ball, chart, size, step, self.steps, best, project, judge, noise)
                if step == 0:
                    state = rule.init(at)
                moved, state = rule(at, state)
                moved = project(moved)
                delta = torch.where(column(trace.fooled, delta), delta, moved) if self.early_stop else moved
        if self.keep == "last":
            trace.delta, trace.gain = delta, torch.full_like(trace.gain, -math.inf)
        if self.keep == "best" or self.restarts > 1:
            with torch.no_grad():
                logits = model(chart.decode(delta))
                trace.see(delta, goal.gain(logits), goal.fooled(logits), self.steps)
        return trace
