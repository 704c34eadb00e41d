"""Doubts outlive their run: an evaluation that is repeated, killed or shared says what one in one run says."""

import functools
import json
import math
from dataclasses import fields

import pytest
import torch

from lightning_robust import PGD, Linf, RandomSearch, Report, evaluate
from lightning_robust.attacks import Threat
from lightning_robust.attacks._signs import FLAGS, Signs
from lightning_robust.evaluation import Plan
from lightning_robust.evaluation._memory import Memory, seen_of_clean, seen_of_run
from lightning_robust.evaluation.ledger import CLEAN, Event, Ledger, join
from tests.evaluation import zoo
from tests.helpers import Killed

N = 24


@functools.cache
def networks():
    return zoo.seeded(0, zoo.network), zoo.seeded(1, zoo.network)


def made(name):
    """A model that was asked nothing yet, as in a new process; the others of `mask`."""
    mask = zoo.MASKS[name]
    return mask.make(*networks()), mask


def evaluated(name, forwards=-1, **given):
    model, mask = made(name) if name in zoo.MASKS else (zoo.HONEST[name].make(networks()[0]), zoo.MASKS["softmax"])
    _, _, x, y = zoo.digits()
    ball, killed = Threat(Linf(zoo.EPS)), Killed(model, forwards)
    plan = Plan({"pgd": PGD(ball, 50, gain=mask.gain), "search": RandomSearch(ball, 10)})
    data = (x[:N], y[:N])
    report = evaluate(killed, data, plan, correct=mask.correct, batch_size=9, progress=False, **given)
    return report, next(killed.count)


def names(report):
    return {one.name for one in report.flagged}


def same_doubts(one, other, values=True):
    assert names(one) == names(other)
    assert set(one.warnings) == set(other.warnings)
    if values:
        assert {i.name: i.value for i in one.indicators} == pytest.approx(
            {i.name: i.value for i in other.indicators}, nan_ok=True
        )


MODELS = [
    "NaN gradient",
    "infinite logits",
    "softmax",
    "memory of near images",
    "honest four times",
    "ripples",
    "plain",
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", MODELS)
def test_a_run_that_was_killed_and_one_that_is_repeated_have_the_doubts_of_one_in_one(name, tmp_path):
    whole, forwards = evaluated(name)
    with pytest.raises(KeyboardInterrupt):
        evaluated(name, 3 * forwards // 4, out=tmp_path)
    middle = None if name == "infinite logits" else Report.load(tmp_path)  # of that one, nothing is attacked
    again, left = evaluated(name, out=tmp_path)
    repeated, none = evaluated(name, out=tmp_path)
    assert none <= left <= forwards
    assert middle is None or none < left < forwards
    assert bool(names(whole)) == (name != "plain")
    for report in (again, repeated, Report.load(tmp_path)):
        same_doubts(whole, report)
    assert middle is None or "not come to its end" in middle.warnings[-1]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["ripples", "plain"])
def test_the_doubts_of_processes_are_joined(name, tmp_path):
    whole, _ = evaluated(name)
    for place in range(2):
        evaluated(name, out=tmp_path, shard=(place, 2))
    joined = Report.load(tmp_path)
    assert joined.robust_acc == whole.robust_acc
    of_the_loop = {one.name: one.value for one in joined.indicators if one.name.startswith("loop")}
    assert len(of_the_loop) == 3
    assert of_the_loop == pytest.approx({one.name: one.value for one in whole.indicators if one.name in of_the_loop})
    assert {one.name for one in whole.flagged if one.name in of_the_loop} <= names(joined)
    assert bool(joined.warnings) == bool(whole.warnings)


def _without_what_was_seen(folder):
    """The ledger as a version wrote it that did not write what its runs saw."""
    events = [event._replace(seen=()) for event in join(folder) if event.sample >= 0]
    (path,) = folder.glob("ledger-*.jsonl")
    header = json.loads(path.read_text("utf-8").splitlines()[0])
    path.unlink()
    with Ledger.open(folder, {k: v for k, v in header.items() if k not in ("format", "shard", "shards", "crc")}) as old:
        old.add([*events, Event(-1, "end", 0, False, -1, -1, math.nan, math.inf, 0, "", None)])
    assert "seen" not in path.read_text("utf-8")


@pytest.mark.filterwarnings("ignore")
def test_a_ledger_that_does_not_say_what_was_seen_is_a_doubt(tmp_path):
    whole, _ = evaluated("ripples", out=tmp_path)
    _without_what_was_seen(tmp_path)
    for file in tmp_path.glob("report.*"):
        file.unlink()
    (tmp_path / "samples.csv").unlink()
    assert "no other doubts" in Report.load(tmp_path).warnings[0]
    again, _ = evaluated("ripples", out=tmp_path)
    robust = int(whole.robust.sum())
    assert robust > 0
    assert [text for text in again.warnings if text.startswith(f"{robust} of {robust} samples that withstood were")]
    assert again.robust_acc == whole.robust_acc
    assert "loop_rise" in names(whole) - names(again)


def blank(model, x, y):
    return torch.zeros_like(x)


@pytest.mark.filterwarnings("ignore")
def test_what_the_first_run_said_of_an_attack_is_said_again(tmp_path):
    """An attack without a declared set, which is no more made; and one that returns the clean input."""
    _, _, x, y = zoo.digits()
    attacks = {"blank": blank, "nothing": lambda model, x, y: x}
    reports = [evaluate(networks()[0], (x[:20], y[:20]), attacks, out=tmp_path, progress=False) for _ in range(3)]
    assert len([text for text in reports[0].warnings if "declares no perturbation set" in text]) == 2
    assert len([text for text in reports[0].warnings if "returned the clean input" in text]) == 1
    assert reports[0].warnings == reports[1].warnings == reports[2].warnings == Report.load(tmp_path).warnings


def test_signs_come_back_exactly(tmp_path):
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(len(fields(Signs)), 3, dtype=torch.float64, generator=generator)
    signs = Signs(**{f.name: v > 0.5 if f.name in FLAGS else v for f, v in zip(fields(Signs), values, strict=True)})
    seen = seen_of_run(torch.tensor([True, False, True]), signs, 3)
    clean = seen_of_clean(torch.tensor([True, False, False]), torch.tensor([False, True, False]))
    values = {"target": -1, "step": -1, "gain": math.nan, "radius": math.inf, "passes": 3, "key": "0", "label": 0}
    fewer = seen[0][:-3]  # as an earlier version wrote
    with Ledger.open(tmp_path, {}) as ledger:
        ledger.add([Event(0, "old", 0, False, seen=fewer, **values)])
        ledger.add(Event(n, CLEAN, 0, False, seen=one, **values) for n, one in enumerate(clean))
        ledger.add(Event(n, "pgd", 0, n == 2, seen=one, **values) for n, one in enumerate(seen))
    memory = Memory()
    assert len(list(memory.listen(join(tmp_path)))) == 7
    ((_, old), (places, again)) = memory.signs
    assert (old.steps.tolist(), old.won.tolist(), old.way.tolist()) == (signs.steps[:1].tolist(), [False], [0.0])
    assert places == [0, 1, 2]
    for name, value in vars(signs).items():
        assert torch.equal(getattr(again, name), value)
        assert getattr(again, name).dtype == value.dtype
    assert (memory.stuck, memory.moved) == ({"old": {0}, "pgd": {0}}, {"pgd": {1, 2}})  # the last was broken
    assert (memory.outputs, memory.broken, memory.probabilities) == ({0, 1, 2}, {0}, {1})
    assert not memory.unknown
