"""What an evaluation does with one batch: a clean pass, or one run of an attack. Each gives its events."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor, nn

from lightning_robust import _nested
from lightning_robust.attacks import binary_correct
from lightning_robust.attacks._combined import Combined
from lightning_robust.attacks._gain import anchor_of
from lightning_robust.attacks._signs import Signs
from lightning_robust.attacks.attack import Attack, Context, Outcome
from lightning_robust.attacks.binary import LabelAtRank
from lightning_robust.attacks.labels import are_class_labels, finite
from lightning_robust.attacks.minimum_norm import MinimumNorm
from lightning_robust.attacks.targets import nearest_classes, nearest_labels
from lightning_robust.evaluation._declared import common_threat
from lightning_robust.evaluation._memory import seen_of_clean, seen_of_run
from lightning_robust.evaluation._outputs import numbers_of
from lightning_robust.evaluation._plan import Stage
from lightning_robust.evaluation._pool import Part, can_be_cut
from lightning_robust.evaluation._reader import View
from lightning_robust.evaluation._suspicions import Suspicions, declared
from lightning_robust.evaluation._tally import are_probabilities
from lightning_robust.evaluation.ledger import CLEAN, Event

TARGETS = 9
"""Number of nearest classes or yes/no labels that are looked for."""


@dataclass(frozen=True, eq=False)
class Wave:
    """One run of an attack.

    Args:
        name: Of the attack.
        number: Of the run; -1: all of them in one.
        attack: Made on a batch from which samples may leave.
        patient: The same on a batch that must stay whole.
    """

    name: str
    number: int
    attack: Attack
    patient: Attack

    @property
    def cost(self) -> float:
        """Passes for a sample that withstands, about."""
        steps = getattr(self.attack, "steps", None) or getattr(self.attack, "queries", None) or 10
        order = getattr(getattr(self.attack, "rule", None), "order", 0 if hasattr(self.attack, "queries") else 1)
        return float(steps * (2 if order else 1) * (self.attack.restarts if self.number < 0 else 1))


def waves_of(name: str, stage: Stage, full: bool) -> list[Wave]:
    """The runs of a thorough attack: each restart by itself, or all in one. One for least radii is not cut short."""
    attack = stage.attack
    if full:
        return [Wave(name, -1, attack, attack)]
    pairs = zip((attack if stage.on == "right" else attack.quick()).waves(), attack.waves(), strict=True)
    return [Wave(name, number, quick, patient) for number, (quick, patient) in enumerate(pairs)]


@dataclass(eq=False)
class Seen:
    """What is seen besides events; by the name of the attack where it is of one.

    Args:
        signs: What the loop saw, run by run: the places of the samples, and of each its signs.
        fooled: (R, N) bool of each run that was made in full.
        stuck: Places of the samples whose gradient was zero at the start of every run that they withstood.
        moved: Places of the samples whose gradient was not zero at the start of some run.
        outputs: Places of the samples whose output without an attack was looked at.
        broken: Those of them whose output is NaN or infinite.
        probabilities: Those of them whose output is a distribution.
        examples: The adversarial input of each sample that was broken, by place.
    """

    signs: list[tuple[list[int], Signs]] = field(default_factory=list)
    fooled: dict[str, list[Tensor]] = field(default_factory=dict)
    stuck: dict[str, set[int]] = field(default_factory=dict)
    moved: dict[str, set[int]] = field(default_factory=dict)
    outputs: set[int] = field(default_factory=set)
    broken: set[int] = field(default_factory=set)
    probabilities: set[int] = field(default_factory=set)
    examples: dict[int, Tensor] = field(default_factory=dict)


class Runs:
    """Makes clean passes and attacks on batches.

    Args:
        module: The model.
        stages: The attacks by name.
        key: Of their random starts.
        suspicions: Looks at outputs and results.
        keep_examples: Are adversarial inputs kept?
    """

    def __init__(
        self,
        module: nn.Module,
        stages: Mapping[str, Stage],
        key: int,
        suspicions: Suspicions | None,
        keep_examples: bool,
    ) -> None:
        self.module, self.key, self.keep_examples = module, key, keep_examples
        self.threat = common_threat(stage.attack for stage in stages.values())
        self._names, self._suspicions = list(stages), suspicions
        self.forget()

    def forget(self) -> None:
        """Begin anew: nothing has been seen."""
        self.seen = Seen(
            fooled={name: [] for name in self._names},
            stuck={name: set() for name in self._names},
            moved={name: set() for name in self._names},
        )

    def _view(self, part: Part, rows: Tensor) -> tuple[View, Any]:
        sample = part.sample if len(rows) == len(part) and bool((rows.diff() == 1).all()) else part.sample.rows(rows)
        view = sample.view(self.module, part.meter.on(rows))
        view.whole_batches = part.whole and not can_be_cut(sample)
        return view, sample

    def clean(self, part: Part, rows: Tensor, kept: list[int]) -> list[Event]:
        """The pass without an attack.

        Args:
            part: The samples.
            rows: (M,) int64, those in the batch.
            kept: Which of the batch are new.
        """
        view, sample = self._view(part, rows)
        right, output = view.judged()
        reader = sample.reader
        yes_no = reader.correct is binary_correct
        lost = ~finite(output)
        spread = are_probabilities(output, yes_no) if reader.correct is None or yes_no else torch.zeros_like(right)
        places, seen = [part.places[int(rows[i])] for i in kept], self.seen
        seen.outputs.update(places)
        seen.broken.update(place for place, one in zip(places, lost[kept].tolist(), strict=True) if one)
        seen.probabilities.update(place for place, one in zip(places, spread[kept].tolist(), strict=True) if one)
        if self._suspicions is not None:
            mask = torch.zeros_like(right).index_fill(
                0, torch.tensor(kept, dtype=torch.long, device=right.device), True
            )
            self._suspicions.clean(sample.x, sample.y, output, right, mask)
        part.know(rows, output)
        answers, numbers = _classes(output, sample.y), numbers_of(output).tolist()
        return [
            _event(
                part,
                int(rows[i]),
                CLEAN,
                0,
                not right[i],
                passes,
                one,
                target=-1 if right[i] else answers[i],
                gain=numbers[i],
            )
            for i, passes, one in zip(
                kept, part.meter.drain(rows[kept]), seen_of_clean(lost[kept], spread[kept]), strict=True
            )
        ]

    def attack(self, part: Part, rows: Tensor, kept: list[int], wave: Wave, *, whole: bool) -> list[Event]:
        """One run of an attack.

        Args:
            part: The samples.
            rows: (M,) int64, those in the batch.
            kept: Which of the batch the run is meant for.
            wave: The run.
            whole: Must the batch stay whole?
        """
        view, sample = self._view(part, rows)
        attack, logits = wave.patient if whole else wave.attack, part.logits_of(rows)
        if logits is not None and not attack.applies(logits, sample.y):
            return []
        targets = self._targets(part, rows, logits, _order_of(attack)) if wave.number >= 0 else None
        known: dict[str, Any] = {"logits": logits, "targets": targets, "restart": max(wave.number, 0)}
        outcome = view.attacked(attack, self.key, **known)
        if self._suspicions is not None:
            context = Context(sample.code, self.key, sample.reader.correct, **known)
            every, none = torch.ones(len(rows), dtype=torch.bool, device=sample.x.device), None
            self._suspicions.result(
                wave.name, sample.x, sample.y, outcome, context, right=every, mask=every, outputs=none
            )
        wrong, answers = self._verdict(view, sample, outcome, every=whole or wave.number < 0)
        if self._suspicions is not None:
            chosen = torch.zeros_like(wrong).index_fill(0, torch.tensor(kept, dtype=torch.long), True)
            self._suspicions.withstood(wave.name, sample.x, outcome, (chosen & ~wrong).to(sample.x.device))
        return self._events(part, rows, kept, wave, outcome, wrong, answers)

    def _verdict(self, view: View, sample: Any, outcome: Outcome, *, every: bool) -> tuple[Tensor, list[int]]:
        """Which samples are wrong under attack (M,), by the returned inputs, and the classes that the model gives.

        The loop has looked at the samples that withstood; only of the others the returned input is looked at again.
        """
        n = len(outcome.x_adv)
        look = torch.arange(n, device=sample.x.device)
        if outcome.fooled is not None and not every:
            look = look[outcome.fooled.any(0)]
        wrong, answers = torch.zeros(n, dtype=torch.bool), [-1] * n
        if len(look):
            part = view if len(look) == n else view.rows(look)
            right, output = part.judged(outcome.x_adv[look])
            wrong[look.cpu()] = ~right.cpu()
            for row, answer in zip(look.tolist(), _classes(output, _nested.cut(sample.y, n, look)), strict=True):
                answers[row] = answer
        return wrong, answers

    def _events(
        self,
        part: Part,
        rows: Tensor,
        kept: list[int],
        wave: Wave,
        outcome: Outcome,
        wrong: Tensor,
        answers: list[int],
    ) -> list[Event]:
        seen = self._look(part, rows, kept, wave, outcome, wrong)
        gains, radii = (None if v is None else v.tolist() for v in (outcome.gain, outcome.radius))
        fooled, first = (None if v is None else v.cpu() for v in (outcome.fooled, outcome.first))
        reach, events = self._reach(wave), []
        for i, passes, one in zip(kept, part.meter.drain(rows[kept]), seen, strict=True):
            run, step = max(wave.number, 0), -1
            if wrong[i] and fooled is not None and fooled[:, i].any():
                winner = int(fooled[:, i].int().argmax())
                run, step = (winner if wave.number < 0 else run), -1 if first is None else int(first[winner, i])
            radius = math.inf if radii is None else float(radii[i])
            event = _event(
                part,
                int(rows[i]),
                wave.name,
                run,
                bool(wrong[i]),
                passes,
                one,
                target=answers[i] if wrong[i] else -1,
                step=step,
                gain=math.nan if gains is None else float(gains[i]),
                radius=min(radius, reach) if wrong[i] else radius,
            )
            events.append(event)
        return events

    def _reach(self, wave: Wave) -> float:
        """The radius of a run: no adversarial example that it returned is further."""
        radii = [threat.ball.radius for threat in declared(wave.attack) or ()]
        return radii[0] if len(radii) == 1 and isinstance(radii[0], float | int) else math.inf

    def _look(
        self, part: Part, rows: Tensor, kept: list[int], wave: Wave, outcome: Outcome, wrong: Tensor
    ) -> list[tuple[float, ...]]:
        """Keep what was seen, and give it as numbers for the events."""
        seen, name, device, signs = self.seen, wave.name, outcome.x_adv.device, None
        index = torch.tensor(kept, dtype=torch.long, device=device)
        if outcome.signs is not None and kept:
            some = outcome.signs.take(index)
            places = [part.places[int(rows[i])] for i in kept]
            signs = Signs(**{f.name: getattr(some, f.name).cpu() for f in fields(some)})
            seen.signs.append((places, signs))
        if wave.number < 0:
            fooled = wrong[None] if outcome.fooled is None else outcome.fooled.cpu()
            seen.fooled[name].append(fooled[:, kept])
        if outcome.stuck is not None:
            for i, stuck in zip(kept, outcome.stuck[index].tolist(), strict=True):
                (seen.stuck if stuck and not wrong[i] else seen.moved)[name].add(part.places[int(rows[i])])
        if self.keep_examples:
            for i in kept:
                if wrong[i]:
                    seen.examples.setdefault(part.places[int(rows[i])], outcome.x_adv[i].detach().cpu())
        return seen_of_run(None if outcome.stuck is None else outcome.stuck[index].cpu(), signs, len(kept))

    def _targets(
        self, part: Part, rows: Tensor, logits: Tensor | None, order: Callable[..., Tensor] | None
    ) -> Tensor | None:
        """(M, T) the nearest wrong classes or labels, looked for once; None where the attack does not ask for them."""
        threat = self.threat
        if order is None or threat is None or logits is None or (order is nearest_classes and part.labels is None):
            return None

        def find(unknown: Tensor) -> Tensor:
            view, sample = self._view(part, unknown)
            with view.quietly():
                return order(view, sample.x, sample.y, threat, part.logits_of(unknown), TARGETS, code=sample.code)

        return part.targets_of(rows, order, find)


def _order_of(attack: Attack) -> Callable[..., Tensor] | None:
    """What finds the nearest classes or labels, if the attack raises a gain of these."""
    if isinstance(attack, Combined):
        return next(filter(None, map(_order_of, attack.parts)), None)
    gain = getattr(attack, "gain", None)
    if isinstance(attack, MinimumNorm) and gain is None:
        return nearest_classes
    anchors = [anchor_of(one) for one in (gain if isinstance(gain, tuple) else (gain,))]
    if any(isinstance(anchor, LabelAtRank) for anchor in anchors):
        return nearest_labels
    return nearest_classes if any(hasattr(anchor, "of_context") for anchor in anchors) else None


def _classes(output: Tensor, y: Any) -> list[int]:
    """The class that the model gives to each sample; -1 where labels are no classes."""
    return output.argmax(1).tolist() if are_class_labels(output, y) else [-1] * len(output)


def _event(
    part: Part,
    row: int,
    stage: str,
    wave: int,
    fooled: Any,
    passes: int,
    seen: tuple[float, ...],
    *,
    target: int = -1,
    step: int = -1,
    gain: float = math.nan,
    radius: float = math.inf,
) -> Event:
    label = None if part.labels is None else part.labels[row]
    place, key = part.places[row], part.keys[row]
    return Event(place, stage, wave, bool(fooled), target, step, gain, radius, passes, key, label, seen)
