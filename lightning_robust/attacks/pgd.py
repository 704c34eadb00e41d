r"""The ascent loop, the one of this library: projected gradient ascent on any gain, in any ball, along any space."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from lightning_robust import _checks
from lightning_robust._noise import Noise
from lightning_robust.attacks.attack import NO_CONTEXT, Context, Model, Outcome
from lightning_robust.attacks.balls import Ball
from lightning_robust.attacks.gains import Anchored, GainFn, check_gain, gain_of, log_odds, margin
from lightning_robust.attacks.labels import Judge, check_output, finite, judge_of
from lightning_robust.attacks.rules import Rule, Steepest
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
        weights = (gz / power.reshape(-1, *[1] * (gz.ndim - 1))).to(logits.dtype)
        (grad,) = torch.autograd.grad(logits, delta, weights, allow_unused=True)
        if grad is not None:
            grad = grad * power.to(grad.dtype).reshape(-1, *[1] * (grad.ndim - 1))
    else:
        value = gain(logits)
        (grad,) = torch.autograd.grad(value.sum(), delta, allow_unused=True)
    if grad is None:
        raise RuntimeError(
            "Expected the model's output to depend on its input, but no gradient arrives at the perturbation."
        )
    return value.detach(), grad


@dataclass
class _Trace:
    """What the ascent has seen, per sample: the best perturbation so far and the step of the first success.

    The best is a misclassified one before any other, then the one with the highest gain.
    """

    delta: Tensor
    value: Tensor
    fooled: Tensor
    first: Tensor
    stuck: Tensor

    @classmethod
    def start(cls, delta: Tensor) -> "_Trace":
        nobody = torch.zeros(len(delta), dtype=torch.bool, device=delta.device)
        return cls(
            delta,
            torch.full_like(nobody, -math.inf, dtype=torch.float),
            nobody,
            torch.full_like(nobody, -1, dtype=torch.long),
            nobody,
        )

    def see(
        self, delta: Tensor, value: Tensor, fooled: Tensor, step: int | Tensor, stuck: Tensor | None = None
    ) -> None:
        better = (fooled & ~self.fooled) | ((fooled == self.fooled) & (value > self.value))
        self.delta = torch.where(better.reshape(-1, *[1] * (delta.ndim - 1)), delta, self.delta)
        self.value = torch.where(better, value, self.value)
        self.first = torch.where(fooled & (self.first < 0), step, self.first)
        self.fooled = fooled | self.fooled
        if stuck is not None:
            self.stuck = stuck & self.stuck


def _wide(logits: Tensor) -> Tensor:
    return logits if logits.dtype in (torch.float32, torch.float64) else logits.float()


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
        random_start: True: uniform in the ball. False: the clean input. Or a function `(ball, noise, zero) -> delta`.
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
        size = self.rel_step_size
        for name, value in (
            ("threat", as_threat(self.threat)),
            ("steps", _checks.count("steps", self.steps)),
            ("restarts", _checks.count("restarts", self.restarts)),
            ("seed", _checks.seed("seed", self.seed)),
            ("early_stop", _checks.boolean("early_stop", self.early_stop)),
            ("rel_step_size", None if size is None else _checks.number("rel_step_size", size, 0, above=True)),
            ("keep", _checks.choice("keep", self.keep, ("last", "best"))),
            ("mode", _checks.choice("mode", self.mode, ("eval", "train"))),
        ):
            object.__setattr__(self, name, value)
        if isinstance(self.random_start, np.bool_):
            object.__setattr__(self, "random_start", bool(self.random_start))
        if not isinstance(self.random_start, bool):
            _checks.function("random_start", self.random_start, "(ball, noise, zero) -> delta, or True or False")
        _checks.function("rule", self.rule, "such as Steepest() or Adam()")
        if not callable(getattr(self.rule, "init", None)):
            raise TypeError(
                f"Expected argument `rule` to be a step rule such as Steepest() or Adam(), but got {self.rule!r}."
            )
        if isinstance(self.gain, list | tuple):
            object.__setattr__(self, "gain", _checks.sequence("gain", self.gain, "a gain or several"))
        if not self._gains:
            raise ValueError(f"Expected argument `gain` to be a gain or several, but got {self.gain!r}.")
        for gain in self._gains:
            if not isinstance(gain, Anchored):
                _checks.function("gain", gain, "(logits, y) -> (N,)")
        if self.random_start is False and self.restarts > 1:
            raise ValueError(
                f"Expected `random_start` with {self.restarts} restarts: without it they are all the same."
            )
        if self.random_start is False and any(isinstance(gain, Anchored) and gain.flat for gain in self._gains):
            raise ValueError(
                "Expected `random_start` with the gain `divergence`: its gradient is zero at the clean input."
            )

    @property
    def attempts(self) -> int:
        """One for each restart."""
        return self.restarts

    @property
    def _gains(self) -> tuple[GainFn | Anchored, ...]:
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
            goals = [_Goal(gain, batch, context) for gain in self._gains[: self.restarts]]
            starts = self._starts(batch.chart, x, context.key)
            traces = [self._ascend(batch, goals[r % len(goals)], start) for r, start in enumerate(starts)]
            with torch.no_grad():
                if len(goals) > 1:  # gains have units of their own: what is best of all is judged by the first
                    for trace in traces:
                        trace.value = goals[0].gain(_wide(batch.model(batch.chart.decode(trace.delta))))
                best = replace(traces[0])
                for trace in traces[1:]:
                    best.see(trace.delta, trace.value, trace.fooled, trace.first, trace.stuck)
                x_adv = batch.chart.emit(best.delta)
        known = goals[0].judge is not None and (self.keep == "best" or self.restarts > 1)
        return Outcome(
            x_adv,
            best.delta,
            fooled=torch.stack([trace.fooled for trace in traces]) if known else None,
            first=torch.stack([trace.first for trace in traces]) if known else None,
            stuck=best.stuck,
        )

    def _starts(self, chart: Chart, x: Tensor, key: int) -> list[Tensor]:
        if self.random_start is False:
            return [chart.zero.clone()]
        start = uniform if self.random_start is True else self.random_start
        noise = Noise.of(x, self.seed, key)
        return [chart.clip(start(self._threat.ball, noise.fold(r), chart.zero)) for r in range(self.restarts)]

    def _ascend(self, batch: Batch, goal: "_Goal", delta: Tensor) -> _Trace:
        """The loop."""
        model, chart, ball = batch.model, batch.chart, self._threat.ball
        size = self.rel_step_size
        if size is None:
            size = 1.0 if self.steps == 1 else 2.5 / self.steps
        project = self._threat.projection(chart)
        trace, state = _Trace.start(delta), self.rule.init(delta)
        for step in range(self.steps):
            logits = model(chart.decode(delta.requires_grad_()))
            if step == 0:
                goal.check(logits, self.early_stop)
            value, grad = gain_and_gradient(goal.gain, logits, delta)
            with torch.no_grad():
                # An expanded gradient (of a model that sums its input) has no memory of its own to write to.
                delta, grad = delta.detach(), grad.nan_to_num_() if grad.is_contiguous() else grad.nan_to_num()
                if step == 0:
                    trace.stuck = grad.flatten(1).abs().amax(1) == 0
                if self.keep == "best" or self.early_stop:
                    trace.see(delta, value, goal.fooled(logits), step)
                if self.early_stop and not torch.distributed.is_initialized() and bool(trace.fooled.all()):
                    break
                move, state = self.rule(grad, state, delta=delta, ball=ball, chart=chart, size=size)
                moved = project(delta + move)
                still = trace.fooled.reshape(-1, *[1] * (delta.ndim - 1)) if self.early_stop else None
                delta = moved if still is None else torch.where(still, delta, moved)
        if self.keep == "last":
            trace.delta, trace.value = delta, torch.full_like(trace.value, -math.inf)
        if self.keep == "best" or self.restarts > 1:
            with torch.no_grad():
                logits = model(chart.decode(delta))
                trace.see(delta, goal.gain(_wide(logits)), goal.fooled(logits), self.steps)
        return trace


class _Goal:
    """What the attacker wants on one batch: the gain as a function of the logits alone, and whether it has won.

    The anchor of an `Anchored` gain is read off the clean logits here, once.
    """

    def __init__(self, gain: GainFn | Anchored, batch: Batch, context: Context) -> None:
        self._n, self._y, self._correct = len(batch.x), batch.y, context.correct
        self._against: Any = batch.y
        self.judge: Judge | None = None
        self._checked = False
        if isinstance(gain, Anchored):
            with torch.no_grad():
                logits = batch.model(batch.x.clone())  # a forward may write to its input
                check_output(logits, self._n)
                self._against = gain.anchor(_wide(logits), batch.y)
            gain = gain.gain
        self._gain: GainFn = gain

    def check(self, logits: Any, early_stop: bool) -> None:
        """Refuse an output or labels that cannot be meant; once for each batch."""
        if self._checked:
            return
        check_output(logits, self._n)
        check_gain(self._gain, logits, self._against)
        self.judge = judge_of(self._correct, logits, self._y)
        if early_stop and self.judge is None:
            raise ValueError(
                "Expected `early_stop` to be False for labels that are no class labels: the attack cannot know when a "
                "sample is misclassified. Say what is right: correct=(output, y) -> (N,) bool."
            )
        self._checked = True

    def gain(self, logits: Tensor) -> Tensor:
        """The gain of each sample, (N,)."""
        return gain_of(self._gain, logits, self._against)

    def fooled(self, logits: Tensor) -> Tensor:
        """(N,) bool; where it cannot be known, only a model that breaks has lost."""
        return ~finite(logits) if self.judge is None else self.judge(logits)
