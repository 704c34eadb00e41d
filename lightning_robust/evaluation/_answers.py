"""What a model answers to a few questions, batch after batch until there are samples enough."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from lightning_robust.attacks import log_odds, margin
from lightning_robust.attacks._combined import Combined
from lightning_robust.attacks._gain import anchor_of
from lightning_robust.attacks.attack import Attack, Context
from lightning_robust.attacks.labels import are_class_labels
from lightning_robust.attacks.scope import wants_whole_batches
from lightning_robust.attacks.threats import Threat
from lightning_robust.evaluation._declared import threats_of
from lightning_robust.evaluation._described import described
from lightning_robust.evaluation._engine import halved
from lightning_robust.evaluation._few import MOST
from lightning_robust.evaluation._indicator import KINDS, Indicator
from lightning_robust.evaluation._measured import BATCHES, ENOUGH, Measured
from lightning_robust.evaluation._meter import Meter
from lightning_robust.evaluation._plan import Stage
from lightning_robust.evaluation._pool import Part, can_be_cut
from lightning_robust.evaluation._probe import measure
from lightning_robust.evaluation._unbounded import at_any_size
from lightning_robust.evaluation.indicators import from_measured, standing

_GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True, eq=False)
class Answers:
    """Those to the questions about some batches.

    Args:
        n: Number of samples that were asked about.
        batches: Number of batches.
        within: What was measured within each perturbation set, by its place among those of the attacks; -1: without
            one.
    """

    n: int = 0
    batches: int = 0
    within: Mapping[int, Measured] = field(default_factory=dict)

    def __add__(self, other: "Answers") -> "Answers":
        """Those about the batches of both."""
        places = {**self.within, **other.within}
        within = {i: self.within.get(i, Measured()) + other.within.get(i, Measured()) for i in places}
        return Answers(self.n + other.n, self.batches + other.batches, within)

    @property
    def enough(self) -> bool:
        """Can medians and shares be taken?"""
        return self.n >= ENOUGH or self.batches >= BATCHES

    def indicators(self, stages: Mapping[str, Stage]) -> list[Indicator]:
        """Each once, with the worst of its values. Of a set that holds no other input: what is of the model stays
        flagged, nothing else.

        Args:
            stages: Of the evaluation, as for `asked`.
        """
        threats, found = _threats_of(stages), list[Indicator]()
        for place, measured in sorted(self.within.items()):
            one = from_measured(measured)
            found += one if place < 0 or _holds_others(threats[place]) else standing(one, 0)
        return _worst_of_each(found)


NO_ANSWERS = Answers()


def asked(
    module: Any,
    parts: Sequence[Part],
    stages: Mapping[str, Stage],
    key: int,
    meter: Meter,
    *,
    most: int = MOST,
    together: bool = False,
    before: Answers = NO_ANSWERS,
) -> Answers:
    """What a few questions to the model tell, within a perturbation set that attacks declare; of several of one norm in
    one space, within that of the middle radius. Samples lie evenly in a part that can be cut.

    Args:
        module: The model.
        parts: The samples at hand. One batch of them is asked about, and others until there are enough.
        stages: Of the evaluation.
        key: Of random steps.
        meter: Counts the passes, for as many samples as the largest part has.
        most: Number of samples that are asked about, at most, unless the batch must stay whole. Where memory runs out,
            half as many, unless processes make their forwards together, whose number shall depend on none of them.
        together: Do all processes ask, so that forwards may be made together? Then there is one part.
        before: About other batches.

    Returns:
        Those before and these.
    """
    for place in _spread(len(parts)).tolist():
        part, begun = parts[place], 0
        order = _spread(len(part))
        several = torch.distributed.is_available() and torch.distributed.is_initialized()
        one = part.whole or together or (several and wants_whole_batches(part.sample.view(module)))
        while begun < len(part):
            left, pooled = order[begun:], before.n > 0

            def ask(size: int, part: Part = part, left: Tensor = left, pooled: bool = pooled) -> Answers:
                rows = left[:size].sort().values
                return _asked(module, part, rows, stages, key, meter, together=together, pooled=pooled)

            size = len(left) if part.whole else min(len(left), most)
            answers = ask(size) if one else halved(ask, size)
            before, begun = before + answers, begun + answers.n
            if before.enough:
                return before
    return before


def _spread(n: int) -> Tensor:
    """The rows (n,) int64 in an order of which each beginning lies evenly among all, at no constant distance: the data
    may have a period. Its first one is 0.
    """
    return (torch.arange(n, dtype=torch.float64) * _GOLDEN % 1).argsort()


def _asked(
    module: Any,
    part: Part,
    rows: Tensor,
    stages: Mapping[str, Stage],
    key: int,
    meter: Meter,
    *,
    together: bool,
    pooled: bool,
) -> Answers:
    """The same of one batch."""
    attacks = [stage.attack for stage in stages.values()]
    sample = part.sample if len(rows) == len(part) else part.sample.rows(rows)
    view, correct = sample.view(module, meter.on(rows)), sample.reader.correct
    # Where processes make their forwards together, and networks are compiled for a size, all have the whole batch.
    view.whole_batches = together or wants_whole_batches(view) or (part.whole and not can_be_cut(sample))
    within: dict[int, Measured] = {}
    with view.quietly():
        _, output = view.judged()
        gain, context = _gain_of(attacks), Context(sample.code, key, correct)
        threats = _threats_of(stages) if gain is not None or are_class_labels(output, sample.y) else []
        if threats or (isinstance(output, Tensor) and output.ndim and not output.is_complex()):
            known, gain = replace(context, logits=output), gain or margin
            for place, threat in enumerate(threats) if threats else [(-1, None)]:
                within[place] = measure(view, sample.x, sample.y, threat, gain, known, pooled=pooled)
                if threat is not None and _holds_others(threat):
                    within[place] += at_any_size(view, sample.x, sample.y, threat, gain, context)
    return Answers(len(rows), 1, within)


def _holds_others(threat: Threat) -> bool:
    """Is there another input than the clean one?"""
    return bool(torch.as_tensor(threat.ball.radius).any())


def _threats_of(stages: Mapping[str, Stage]) -> list[Threat]:
    """The perturbation sets that are asked about."""
    return _of_each_kind(threats_of([stage.attack for stage in stages.values()]))


def _of_each_kind(threats: list[Threat]) -> list[Threat]:
    """For each norm and space the set of the middle radius: a model that hides its gradients hides them from all."""
    kinds: dict[Any, list[Threat]] = {}
    for threat in threats:
        kinds.setdefault((type(threat.ball), described(threat.space)), []).append(threat)
    ordered = (sorted(some, key=lambda one: float(torch.as_tensor(one.ball.radius).max())) for some in kinds.values())
    return [some[len(some) // 2] for some in ordered]


def _worst_of_each(found: list[Indicator]) -> list[Indicator]:
    """Each indicator once, in the order of first sight: one that is flagged before others, then by its value."""
    worst: dict[str, Indicator] = {}
    for one in found:
        known = worst.setdefault(one.name, one)
        further = one.value < known.value if KINDS[one.name].below else one.value > known.value
        if (one.flagged, further or known.value != known.value) > (known.flagged, False):
            worst[one.name] = one
    return list(worst.values())


def _gain_of(attacks: list[Attack]) -> Any:
    """The first gain of labels that is raised; None: none but the default and those of targets."""
    for attack in attacks:
        if isinstance(attack, Combined):
            gain = _gain_of(list(attack.parts))
            if gain is not None:
                return gain
        several = getattr(attack, "gain", None)
        for gain in several if isinstance(several, tuple) else (several,):
            if gain is not None and gain is not log_odds and anchor_of(gain) is None:
                return gain
    return None
