r"""Projected gradient ascent: the settings of the loop of this library."""

import functools
import operator
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from lightning_robust import _checks
from lightning_robust._noise import Noise
from lightning_robust.attacks._ascent import Ascent
from lightning_robust.attacks._gain import GainFn, anchor_of
from lightning_robust.attacks._goal import Goal, clean_logits
from lightning_robust.attacks._tensors import set_fields
from lightning_robust.attacks.anchored import Anchored, normalized, targeted_margin
from lightning_robust.attacks.attack import NO_CONTEXT, Context, Model, Outcome
from lightning_robust.attacks.ball import Ball
from lightning_robust.attacks.gains import log_odds, margin
from lightning_robust.attacks.rules import Rule, Steepest
from lightning_robust.attacks.scope import Mode, wants_whole_batches
from lightning_robust.attacks.spaces import Chart
from lightning_robust.attacks.starts import Start, uniform
from lightning_robust.attacks.threats import Batch, Threat, ThreatAttack, as_threat


def falling(steps: int) -> list[float]:
    """Sizes of steps that fall from twice the radius: 2 (1 - t/T)^2; one step alone has the size of the radius."""
    return [1.0] if steps == 1 else [2 * (1 - t / steps) ** 2 for t in range(steps)]


def fits(gain: GainFn, output: Tensor, y: Any) -> bool:
    """Does the output have all classes that a gain asks for? What a gain says by a method `fits(output, y)`."""
    ask = getattr(gain, "fits", None)
    return ask is None or bool(ask(output, y))


_THOROUGH: tuple[Any, ...] = (margin, *(targeted_margin(rank) for rank in (1, 2, 3)), normalized(log_odds))
"""What the restarts raise in turn where an evaluation meets the default gain."""


@dataclass(frozen=True)
class PGD(ThreatAttack):
    r"""Projected gradient ascent (Madry et al., ICLR 2018), for any ball, space, gain and step rule.

    .. math:: \delta \leftarrow \Pi_B\big(\delta + \alpha \arg\max_{v \in B} \langle v,
              \nabla_\delta\, G(f(\mathrm{decode}(\delta)), y) \rangle\big)

    followed by clipping to the bounds of the space. FGSM is one step; see `fgsm` and its friends for named settings.

    Args:
        threat: The perturbation set: `Threat(ball, space)`, or a ball, which means pixels in [0, 1].
        steps: The number of gradient steps.
        rel_step_size: The step size :math:`\alpha` relative to the radius, the same for all steps; Madry et al. take
            2.5 / steps. None: a size that falls, :math:`\alpha_t = 2 (1 - t/T)^2` for t = 0, ..., T - 1, but 1 for a
            single step. On linear models 20 such steps reach 0.996 of the optimum in the L1 ball and 0.9998 in the L2
            ball, where a constant size reaches 0.990 and 0.987.
        restarts: Independent random starts; the best is kept per sample.
        random_start: True: uniform in the ball. False: the clean input. Or a function `(ball, noise, zero) -> delta`,
            whose point is projected, as the result of every step is.
        first_clean: The first restart starts at the clean input, whatever `random_start` says of the others.
        gain: What is raised, `(logits, y) -> (N,)`. The default, `log_odds`, rises in the same direction as cross
            entropy and does not saturate. Several in a tuple: the restarts raise them in turn, those that the output
            of the model has. In evaluation the restarts of the default raise margins instead, see `thorough`: where
            logits are soft, log-odds and cross entropy pull towards all wrong classes at once, and find less.
        rule: How a gradient becomes a step: `Steepest(momentum=...)` or `Adam(lr=...)`.
        keep: "last": the last iterate, the cheapest, usual for training. "best": per sample, a misclassified iterate
            before any other, then the highest gain; one forward more. Evaluation always keeps the best. For labels that
            are no class labels, and without `correct`, the highest gain alone decides.
        early_stop: A sample is left alone once it is misclassified. It leaves the batch, unless the model wants whole
            batches, as those do whose parameters are sharded over processes.
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
    first_clean: bool = field(default=False, kw_only=True)
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
            first_clean=_checks.boolean("first_clean", self.first_clean),
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
        if self.random_start is False and self.restarts > len(self._gains):
            raise ValueError(
                f"Expected `random_start` with {self.restarts} restarts: without it they are all the same."
            )
        clean = self.random_start is False or self.first_clean
        if clean and any(getattr(one, "flat", False) for one in self._gains):
            raise ValueError(
                "Expected `random_start` with a gain such as `divergence`, and no `first_clean`: its gradient is zero "
                "at the clean input."
            )

    @property
    def _gains(self) -> tuple[GainFn, ...]:
        """What the restarts raise in turn."""
        return self.gain if isinstance(self.gain, tuple) else (self.gain,)

    def thorough(self) -> "PGD":
        """Keep the best iterate, and raise margins in place of the default gain, whatever the scale of the logits."""
        gain: Any = self.gain
        if gain is log_odds:
            gain = _THOROUGH[0] if self.restarts == 1 else _THOROUGH[: self.restarts]
        return self if (self.keep, self.gain) == ("best", gain) else replace(self, keep="best", gain=gain)

    def quick(self) -> "PGD":
        """Keep the best iterate, and let samples leave once they are misclassified."""
        return replace(self, keep="best", early_stop=True)

    def waves(self) -> "tuple[PGD, ...]":
        """One run for each restart."""
        return (replace(self, restarts=1),) * self.restarts

    def applies(self, output: Tensor, y: Any) -> bool:
        """Does the output have all classes that the gain asks for?"""
        return any(fits(gain, output, y) for gain in self._gains)

    def brief(self) -> "PGD":
        """One step from one start for each gain."""
        return replace(self, steps=1, restarts=min(self.restarts, len(self._gains)))

    def sizes(self) -> list[float]:
        """The size of each step relative to the radius."""
        if self.rel_step_size is not None:
            return [self.rel_step_size] * self.steps
        return falling(self.steps)

    def run(self, model: Model, x: Tensor, y: Any, context: Context = NO_CONTEXT) -> Outcome:
        """Attack and tell everything, see `Attack.run`."""
        look = self.keep == "best"
        leaving = (look or self.early_stop) and self.mode == "eval" and not wants_whole_batches(model)
        judged = look or self.restarts > 1
        with self._ready(model, x, y, context, mode=self.mode, gain=self.gain) as batch:
            goals, runs = self._goals(batch, context), []
            content = functools.cache(lambda: Noise.of(batch.x, self.seed, context.key))
            for number in range(context.restart, context.restart + self.restarts):
                noise = functools.partial(lambda *key: content().fold(*key), number)
                start, goal = self._start(batch.chart, noise, number), goals[number % len(goals)]
                run = Ascent(batch, goal, self._threat, start, noise, self.rule, self.sizes(), look=look, judged=judged)
                run.run(early=self.early_stop, leaving=leaving and batch.chart.again is not None)
                runs.append(run)
            first, traces = goals[context.restart % len(goals)], [run.trace for run in runs]
            with torch.no_grad():
                if min(len(goals), len(runs)) > 1:
                    # Gains have units of their own: what is best of all is judged by one of them.
                    for trace in traces:
                        trace.gain = first.gain(batch.model(batch.chart.decode(trace.delta)))
                best = replace(traces[0])
                for trace in traces[1:]:
                    best.see(trace.delta, trace.gain, trace.fooled, trace.first)
                x_adv = batch.chart.emit(best.delta)
        known, signs = first.judges and judged, [run.lookout.signs for run in runs if run.lookout is not None]
        return Outcome(
            x_adv,
            best.delta,
            fooled=torch.stack([trace.fooled for trace in traces]) if known else None,
            first=torch.stack([trace.first for trace in traces]) if known else None,
            stuck=torch.stack([trace.stuck for trace in traces]).all(0) if self.rule.order else None,
            gain=best.gain if judged else None,
            radius=torch.stack([trace.radius for trace in traces]).amin(0) if known and look else None,
            signs=functools.reduce(operator.add, signs) if signs else None,
        )

    def _goals(self, batch: Batch, context: Context) -> list[Goal]:
        """One for each gain that the output of the model has, in the order in which the restarts raise them."""
        gains = self._gains
        if any(anchor_of(gain) is not None or hasattr(gain, "fits") for gain in gains):
            context = replace(context, logits=clean_logits(batch, context))
            gains = tuple(gain for gain in gains if fits(gain, context.logits, batch.y)) or gains
        # A search without gradients goes on to the end where nobody knows what success is.
        must_judge = self.early_stop and self.rule.order > 0
        return [Goal(gain, batch, context, must_judge=must_judge) for gain in gains]

    def _start(self, chart: Chart, noise: Callable[[], Noise], number: int = 0) -> Tensor:
        """Where restart number `number` begins."""
        if self.random_start is False or (self.first_clean and number == 0):
            return chart.zero.clone()
        start = uniform if self.random_start is True else self.random_start
        return self._threat.projection(chart)(start(self._threat.ball, noise(), chart.zero))
