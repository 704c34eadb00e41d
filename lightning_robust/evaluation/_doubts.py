"""When not to believe an evaluation: the indicators of one run, and its other doubts."""

from collections.abc import Mapping
from typing import Any

import torch

from lightning_robust.attacks import MinimumNorm, log_odds, margin
from lightning_robust.attacks._combined import Combined
from lightning_robust.attacks._gain import anchor_of
from lightning_robust.attacks._signs import Signs
from lightning_robust.attacks.attack import Attack
from lightning_robust.attacks.labels import are_class_labels
from lightning_robust.attacks.threats import Threat
from lightning_robust.evaluation._indicator import Indicator
from lightning_robust.evaluation._meter import Meter
from lightning_robust.evaluation._plan import Stage
from lightning_robust.evaluation._pool import Part
from lightning_robust.evaluation._probe import MOST
from lightning_robust.evaluation._record import Record
from lightning_robust.evaluation._runs import Seen
from lightning_robust.evaluation._tally import cautions
from lightning_robust.evaluation.indicators import from_signs, probe, search_beats_gradients, standing, unbounded


def asked(
    module: Any, part: Part, stages: Mapping[str, Stage], threat: Threat, key: int, meter: Meter
) -> list[Indicator]:
    """What a few questions to the model tell, on the first samples. Of a set that holds no other input: what is
    of the model stays flagged, nothing else.

    Args:
        module: The model.
        part: The samples.
        stages: Of the evaluation.
        threat: Its perturbation set.
        key: Of random steps.
        meter: Counts the passes.
    """
    rows = torch.arange(min(len(part), len(part) if part.whole else MOST))
    sample = part.sample if len(rows) == len(part) else part.sample.rows(rows)
    view, correct = sample.view(module, meter.on(rows)), sample.reader.correct
    with view.quietly():
        _, output = view.judged()
        gain = _gain_of([stage.attack for stage in stages.values()])
        if gain is None and not are_class_labels(output, sample.y):
            return []
        given: dict[str, Any] = {"gain": gain or margin, "correct": correct, "code": sample.code, "key": key}
        few = probe(view, sample.x, sample.y, threat, logits=output, **given)
        if not torch.as_tensor(threat.ball.radius).any():
            return standing(few, 0)
        return [*few, *unbounded(view, sample.x, sample.y, threat, **given)]


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


def of_the_run(stages: Mapping[str, Stage], record: Record, seen: Seen) -> list[Indicator]:
    """What the attacks tell of themselves.

    Args:
        stages: Of the evaluation.
        record: What became of each sample.
        seen: What was seen besides.
    """
    survivors = [place for place in record.places() if record.rows[place].open]
    if not survivors and has_curve(stages):
        survivors = [place for place in record.places() if record.rows[place].clean]
    found = from_signs(signs_of(seen, survivors), len(record.rows), steps=steps_of(stages)) if survivors else []
    searches = {name for name, stage in stages.items() if is_search(stage.attack)}
    if searches and len(searches) < len(stages):
        broken = [row.broken_by for row in record.rows.values() if row.clean and row.broken_by]
        ours, n = sum(bool(by - searches) for by in broken), sum(row.clean for row in record.rows.values())
        if n:
            found.append(search_beats_gradients(ours, len(broken) - ours, n))
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


def is_search(attack: Attack) -> bool:
    """Does the attack ask for no gradient?"""
    if isinstance(attack, Combined):
        return all(is_search(part) for part in attack.parts)
    order = getattr(getattr(attack, "rule", None), "order", 0 if hasattr(attack, "queries") else 1)
    return bool(order == 0)


def cautions_of(stages: Mapping[str, Stage], record: Record, seen: Seen, *, each: bool, withstood: int) -> list[str]:
    """What was counted besides, in texts to warn the user with; `each`: is every attack spoken of by itself?

    `withstood` is the most samples that withstood by any figure that is shown.
    """
    stuck = {name: len(seen.stuck[name] - seen.moved[name]) for name in stages}
    if not each:
        never = set().union(*seen.stuck.values()) - set().union(*seen.moved.values())
        stuck = {"": sum(record.rows[place].open for place in never)}
    # What was seen of an earlier run is not known: a share of all is that of the outputs that were looked at.
    everything = len(record.rows) if seen.outputs and seen.probabilities == seen.outputs else 0
    return cautions(len(record.rows), withstood, stuck, everything, len(seen.broken))
