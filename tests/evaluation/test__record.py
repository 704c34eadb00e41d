"""What becomes of events: the least radius over all runs, the highest gain of the last attack, the first success."""

import math

import pytest
import torch

from lightning_robust.attacks._signs import Signs
from lightning_robust.evaluation._doubts import signs_of
from lightning_robust.evaluation._record import Record
from lightning_robust.evaluation._runs import Seen
from lightning_robust.evaluation.ledger import Event


def event(stage, wave=0, fooled=False, gain=math.nan, radius=math.inf, target=-1, step=-1):
    return Event(7, stage, wave, fooled, target, step, gain, radius, 10, "00c0ffee00c0ffee", 1)


def row_of(*events):
    return Record([event("clean"), *events]).rows[7]


def test_the_least_radius_counts_whichever_run_saw_it():
    near, far = event("a", radius=0.1, fooled=True), event("b", radius=0.3, fooled=True)
    assert row_of(near, far).radius == row_of(far, near).radius == 0.1
    assert row_of(near, event("b")).radius == 0.1
    assert Record([event("clean", fooled=True)]).rows[7].radius == 0


@pytest.mark.parametrize(
    ("gains", "highest"), [((1.0, 3.0, 2.0), 3.0), ((3.0, math.nan), 3.0), ((math.nan, -1.0), -1.0)]
)
def test_the_highest_gain_of_the_last_attack_counts(gains, highest):
    earlier = event("earlier", gain=9.0)
    assert row_of(earlier, *(event("last", wave, gain=gain) for wave, gain in enumerate(gains))).gain == highest


def test_an_attack_may_be_called_as_what_a_process_says():
    row = row_of(event("clean"), event("end", fooled=True), event("counts"))
    assert row.broken_by == {"end"}
    assert Record([event("end")._replace(sample=-1), event("counts")._replace(sample=-1)]).ended == 1


def test_the_first_success_counts_and_an_event_once():
    first, second = event("a", 1, True, target=3, step=5), event("b", 0, True, target=2, step=1)
    row = row_of(event("a", 0), first, second, first)
    assert (row.attack, row.restart, row.target, row.step, row.passes) == ("a", 1, 3, 5, 40)
    assert row.broken_by == {"a", "b"}
    wrong = Record([event("clean", fooled=True), first]).rows[7]
    assert (wrong.attack, wrong.open) == ("", False)


def test_signs_of_several_runs_add_up_sample_by_sample():
    seen = Seen()
    for places, steps in (([4, 9], [1.0, 2.0]), ([9, 2], [4.0, 8.0])):
        signs = Signs.none(2, torch.device("cpu"))
        signs.steps = torch.tensor(steps, dtype=torch.float64)
        seen.signs.append((places, signs))
    assert signs_of(seen, [9, 4, 5]).steps.tolist() == [6, 1, 0]
