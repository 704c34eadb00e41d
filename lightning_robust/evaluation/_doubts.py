"""When not to believe an evaluation: the indicators of one run, and its other doubts."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from lightning_robust.attacks import MinimumNorm, log_odds, margin
from lightning_robust.attacks._combined import Combined
from lightning_robust.attacks._gain import anchor_of
from lightning_robust.attacks._signs import Signs
from lightning_robust.attacks.attack import Attack
from lightning_robust.attacks.labels import are_class_labels
from lightning_robust.attacks.scope import wants_whole_batches
from lightning_robust.attacks.threats import Threat
from lightning_robust.evaluation._declared import threats_of
from lightning_robust.evaluation._described import described
from lightning_robust.evaluation._engine import halved
from lightning_robust.evaluation._few import MOST
from lightning_robust.evaluation._indicator import KINDS, Indicator
from lightning_robust.evaluation._memory import Kinds, Memory
from lightning_robust.evaluation._meter import Meter
from lightning_robust.evaluation._plan import Stage
from lightning_robust.evaluation._pool import Part, can_be_cut
from lightning_robust.evaluation._record import Record
from lightning_robust.evaluation._repeats import repeated
from lightning_robust.evaluation._runs import Seen
from lightning_robust.evaluation._strength import is_search, of_settings, searches_of, weaknesses
from lightning_robust.evaluation._tally import cautions
from lightning_robust.evaluation.indicators import from_signs, probe, search_beats_gradients, standing, unbounded


def asked(
    module: Any,
    part: Part,
    stages: Mapping[str, Stage],
    key: int,
    meter: Meter,
    *,
    most: int = MOST,
    together: bool = False,
) -> list[Indicator]:
    """What a few questions to the model tell, on the first samples, within a perturbation set that attacks declare; of
    several of one norm in one space, within that of the middle radius.

    Args:
        module: The model.
        part: The samples.
        stages: Of the evaluation.
        key: Of random steps.
        meter: Counts the passes.
        most: Number of samples that are asked about, at most, unless the batch must stay whole. Where memory runs out,
            half as many, unless processes make their forwards together, whose number shall depend on none of them.
        together: Do all processes ask, so that forwards may be made together?

    Returns:
        Each indicator once, with the worst of its values. Of a set that holds no other input: what is of the model
        stays flagged, nothing else.
    """

    def ask(size: int) -> list[Indicator]:
        return _asked(module, part, torch.arange(size), stages, key, meter, together=together)

    if part.whole:
        return ask(len(part))
    size = min(len(part), most)
    several = torch.distributed.is_available() and torch.distributed.is_initialized()
    one = together or (several and wants_whole_batches(part.sample.view(module)))
    return ask(size) if one else halved(ask, size)


def _asked(
    module: Any,
    part: Part,
    rows: torch.Tensor,
    stages: Mapping[str, Stage],
    key: int,
    meter: Meter,
    *,
    together: bool,
) -> list[Indicator]:
    """The same of some samples."""
    attacks = [stage.attack for stage in stages.values()]
    sample = part.sample if len(rows) == len(part) else part.sample.rows(rows)
    view, correct = sample.view(module, meter.on(rows)), sample.reader.correct
    # Where processes make their forwards together, and networks are compiled for a size, all have the whole batch.
    view.whole_batches = together or wants_whole_batches(view) or (part.whole and not can_be_cut(sample))
    with view.quietly():
        _, output = view.judged()
        gain, found = _gain_of(attacks), []
        threats: list[Any] = (
            _of_each_kind(threats_of(attacks)) if gain is not None or are_class_labels(output, sample.y) else []
        )
        if not threats and not (isinstance(output, torch.Tensor) and output.ndim and not output.is_complex()):
            return []
        given: dict[str, Any] = {"gain": gain or margin, "correct": correct, "code": sample.code, "key": key}
        for threat in threats or [None]:
            few = probe(view, sample.x, sample.y, threat, logits=output, **given)
            if threat is None:
                found += few
            elif torch.as_tensor(threat.ball.radius).any():
                found += [*few, *unbounded(view, sample.x, sample.y, threat, **given)]
            else:
                found += standing(few, 0)
    return _worst_of_each(found)


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


def kinds_of(stages: Mapping[str, Stage]) -> Kinds:
    """What the indicators need to know of attacks."""
    searches = frozenset(searches_of({name: stage.attack for name, stage in stages.items()}))
    weak = weaknesses(stage.attack for stage in stages.values())
    return Kinds(tuple(stages), searches, steps_of(stages), has_curve(stages), weak)


_OF_GRADIENTS = {"loop_zero_gradient", "loop_broken_gradient"}


def of_the_run(kinds: Kinds, record: Record, seen: Seen, classes: int) -> list[Indicator]:
    """What the attacks tell of themselves.

    Args:
        kinds: What the attacks are.
        record: What became of each sample.
        seen: What was seen besides.
        classes: Their number; 0: unknown, or labels are no classes.
    """
    n, survivors = len(record.rows), [place for place in record.places() if record.rows[place].open]
    found = from_signs(signs_of(seen, survivors), n, steps=kinds.steps) if survivors else []
    found += of_settings(kinds.weaknesses, classes)
    if kinds.curve:
        # At smaller radii others withstand. A search of the least norm stays about the boundary, where no gain rises:
        # what counts of these is whether there was a gradient.
        right = signs_of(seen, [place for place in record.places() if record.rows[place].clean])
        found = [one for one in found if one.name not in _OF_GRADIENTS]
        found += [one for one in from_signs(right, n) if one.name in _OF_GRADIENTS]
    searches = kinds.searches
    if searches and len(searches) < len(kinds.names):
        broken = [row.broken_by for row in record.rows.values() if row.clean and row.broken_by]
        ours, clean = sum(bool(by - searches) for by in broken), sum(row.clean for row in record.rows.values())
        if clean:
            found.append(search_beats_gradients(ours, len(broken) - ours, clean))
    return found


def signs_of(seen: Seen, places: list[int]) -> Signs:
    """Those of some samples, over all runs."""
    total, row_of = Signs.none(len(places), torch.device("cpu")), {place: row for row, place in enumerate(places)}
    for some, signs in seen.signs:
        chosen = [i for i, place in enumerate(some) if place in row_of]
        rows = torch.tensor([row_of[some[i]] for i in chosen], dtype=torch.long)
        total.put(rows, total.take(rows) + signs.take(torch.tensor(chosen, dtype=torch.long)))
    return total


def steps_of(stages: Mapping[str, Stage]) -> int | None:
    """Those of the longest attack with gradients."""
    attacks = [stage.attack for stage in stages.values() if not is_search(stage.attack)]
    return max((getattr(attack, "steps", 0) for attack in attacks), default=0) or None


def has_curve(stages: Mapping[str, Stage]) -> bool:
    """Does an attack look for least radii? Then robust accuracy is shown at all radii up to that of the threat."""
    return any(_seeks_least(stage.attack) for stage in stages.values())


def _seeks_least(attack: Attack) -> bool:
    if isinstance(attack, Combined):
        return any(_seeks_least(part) for part in attack.parts)
    return isinstance(attack, MinimumNorm)


def most_that_withstood(record: Record, full: Mapping[str, torch.Tensor], kinds: Kinds) -> int:
    """The most samples that withstood by any figure that is shown.

    Args:
        record: What became of each sample.
        full: (N,) bool, right under each attack that is spoken of by itself.
        kinds: What the attacks are.
    """
    rows = record.rows.values()
    shown = [sum(row.open for row in rows), *(int(right.sum()) for right in full.values())]
    # At small radii of a curve it is the accuracy without an attack.
    return max(*shown, sum(row.clean for row in rows) if kinds.curve else 0)


def remembered(seen: Seen, memory: Memory) -> Seen:
    """What this run and those before it saw, together."""

    def joined(now: Mapping[str, set[int]], before: Mapping[str, set[int]]) -> dict[str, set[int]]:
        return {name: now.get(name, set()) | before.get(name, set()) for name in {**now, **before}}

    return replace(
        seen,
        signs=[*memory.signs, *seen.signs],
        stuck=joined(seen.stuck, memory.stuck),
        moved=joined(seen.moved, memory.moved),
        outputs=seen.outputs | memory.outputs,
        broken=seen.broken | memory.broken,
        probabilities=seen.probabilities | memory.probabilities,
    )


def cautions_of(
    kinds: Kinds, record: Record, seen: Seen, unknown: set[int], *, each: bool, withstood: int
) -> list[str]:
    """What was counted besides, in texts to warn the user with.

    Args:
        kinds: What the attacks are.
        record: What became of each sample.
        seen: What was seen besides.
        unknown: Places of samples of which more was seen, and not written.
        each: Is every attack spoken of by itself?
        withstood: The most samples that withstood by any figure that is shown.
    """
    none: set[int] = set()
    stuck = {name: len(seen.stuck.get(name, none) - seen.moved.get(name, none)) for name in kinds.names}
    if not each:
        never = set().union(*seen.stuck.values()) - set().union(*seen.moved.values())
        stuck = {"": sum(record.rows[place].open for place in never)}
    # Of a run that did not write what it saw nothing is known: a share of all is that of the outputs looked at.
    everything = len(record.rows) if seen.outputs and seen.probabilities == seen.outputs else 0
    texts = cautions(len(record.rows), withstood, stuck, everything, len(seen.broken))
    survivors = [place for place, row in record.rows.items() if row.open]
    lost = len(unknown.intersection(survivors))
    if lost:
        texts.append(
            f"{lost} of {len(survivors)} samples that withstood were attacked in an earlier run, of which verdicts "
            "alone are known. What the attacks saw of these samples is not: nothing says whether to believe that they "
            "are robust. Evaluate again, into a new folder, to know."
        )
    distinct = {(row.key, row.label) for row in record.rows.values()}
    return texts + repeated(len(record.rows), len(distinct))
