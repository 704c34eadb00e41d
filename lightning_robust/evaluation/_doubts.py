"""When not to believe an evaluation: the indicators of one run, and its other doubts."""

from collections.abc import Mapping
from dataclasses import replace

import torch

from lightning_robust.attacks import MinimumNorm
from lightning_robust.attacks._combined import Combined
from lightning_robust.attacks._signs import Signs
from lightning_robust.attacks.attack import Attack
from lightning_robust.evaluation._indicator import Indicator
from lightning_robust.evaluation._memory import Kinds, Memory
from lightning_robust.evaluation._plan import Stage
from lightning_robust.evaluation._record import Record
from lightning_robust.evaluation._repeats import repeated
from lightning_robust.evaluation._runs import Seen
from lightning_robust.evaluation._strength import is_search, of_settings, searches_of, weaknesses
from lightning_robust.evaluation._tally import cautions
from lightning_robust.evaluation.indicators import from_signs, search_beats_gradients


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
