"""The ledger keeps every event, never mixes two evaluations, and is written by one process at a time."""

import math
import subprocess
import sys

import pandas as pd
import pytest

from lightning_robust.evaluation.ledger import Event, Ledger, begun, header_of, join, unfinished

HEADER = {"eps": 8 / 255, "plan": "standard", "steps": 10, "limit": None, "radius": math.inf}


def event(sample, **fields):
    values = {"stage": "pgd <b>", "wave": 0, "fooled": True, "target": 3, "step": 7, "gain": 0.1, "radius": 1 / 3}
    values |= {"passes": 14, "key": f"{sample:016x}", "label": 1, **fields}
    return Event(sample, **values)


def test_events_come_back_exactly(tmp_path):
    events = [event(0), event(1, gain=math.inf, radius=-math.inf, label=None), event(2, gain=5e-324, fooled=False)]
    with Ledger.open(tmp_path / "new", HEADER) as ledger:
        ledger.add(events[:2])
        ledger.add([])
        ledger.add(iter(events[2:]))
        assert list(ledger.events()) == events
    with Ledger.open(tmp_path / "new", dict(reversed(HEADER.items()))) as ledger:
        assert list(ledger.events()) == events
        ledger.add([event(3, gain=math.nan)])
    assert join(tmp_path / "new")[:3] == events
    assert math.isnan(join(tmp_path / "new")[3].gain)
    assert header_of(tmp_path / "new") == HEADER | {"radius": "inf"}


def test_any_number_that_was_seen_is_read_by_other_readers_of_json(tmp_path):
    """A gain of NaN leaves sums of 3e38, which written as a whole number is too big for most of them."""
    seen = (3e38, -1e20, 2.0**53, 2.0**53 - 1, 7.0, 0.5, math.inf)
    with Ledger.open(tmp_path, HEADER) as ledger:
        ledger.add([event(0, seen=seen)])
        assert next(iter(ledger.events())).seen == seen
    rows = pd.read_json(ledger.path, lines=True)
    assert list(map(float, rows["seen"].dropna().iloc[-1])) == list(seen)


def test_after_a_cut_at_any_byte_the_run_goes_on(tmp_path):
    events = [event(n) for n in range(2)]
    with Ledger.open(tmp_path / "whole", HEADER) as ledger:
        ledger.add(events)
    whole = ledger.path.read_bytes()
    first = whole.index(b"\n") + 1
    for size in range(first, len(whole) + 1):
        path = tmp_path / f"{size}" / ledger.path.name
        path.parent.mkdir()
        path.write_bytes(whole[:size])
        kept = whole[:size].count(b"\n") - 1
        assert join(path.parent) == events[:kept]
        with Ledger.open(path.parent, HEADER) as again:
            assert list(again.events()) == events[:kept]
            again.add(events[kept:])
        assert path.read_bytes() == whole


def test_a_damaged_ledger_is_set_aside_and_goes_on(tmp_path):
    with Ledger.open(tmp_path, HEADER) as ledger:
        ledger.add([event(n) for n in range(3)])
    lines = ledger.path.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b"true", b"null")
    ledger.path.write_bytes(b"".join(lines))
    with pytest.raises(ValueError, match=r"is damaged in line 3\. Run the same evaluation again"):
        join(tmp_path)
    with pytest.raises(ValueError, match="`eps` was"):
        Ledger.open(tmp_path, HEADER | {"eps": 1})
    assert not list(tmp_path.glob("*.damaged"))
    with pytest.warns(UserWarning, match="the 1 entries before"), Ledger.open(tmp_path, HEADER) as again:
        assert list(again.events()) == [event(0)]
    assert [path.read_bytes() for path in tmp_path.glob("*.damaged")] == [b"".join(lines)]


def test_another_evaluation_is_refused_and_nothing_changes(tmp_path):
    with Ledger.open(tmp_path, HEADER, (0, 2)) as ledger:
        ledger.add([event(0)])
    before = ledger.path.read_bytes()
    message = r"`eps` was 0\.03137\d* and is 0\.1, `steps` was 10 and is not there, `seed` was not there and is 1\. "
    header = {name: value for name, value in HEADER.items() if name != "steps"} | {"eps": 0.1, "seed": 1}
    for place in (0, 1):
        with pytest.raises(ValueError, match=f"{message}.*give another folder"):
            Ledger.open(tmp_path, header, (place, 2))
    with pytest.raises(ValueError, match=r"`shard` to name 2 process\(es\).* but got 1"):
        Ledger.open(tmp_path, HEADER)
    with pytest.raises(ValueError, match="`limit` was None and is not there"):
        Ledger.open(tmp_path, {name: value for name, value in HEADER.items() if name != "limit"}, (0, 2))
    assert ledger.path.read_bytes() == before
    assert [path.name for path in tmp_path.glob("*.jsonl")] == [ledger.path.name]


@pytest.mark.parametrize("shard", [(0, 1), (0, 2), (1, 2)])
def test_a_ledger_without_a_verdict_of_an_attack_is_replaced(tmp_path, shard):
    """So is what a refused evaluation leaves in any number of processes; in as many, each sees to its own."""
    for place in range(2):
        with Ledger.open(tmp_path, HEADER, (place, 2)) as ledger:
            ledger.add([event(n, stage="clean") for n in range(place)])
    with Ledger.open(tmp_path, HEADER, (1, 2)) as ledger:  # the same evaluation goes on
        assert len(list(ledger.events())) == 1
    with Ledger.open(tmp_path, {"eps": 1}, shard) as ledger:
        ledger.add([event(0)])
        assert list(ledger.events()) == [event(0)]
    for place in range(shard[1]):
        if place != shard[0]:
            Ledger.open(tmp_path, {"eps": 1}, (place, shard[1])).close()
    left = {f"ledger-{place}-of-{shard[1]}.jsonl" for place in range(shard[1])}
    assert {path.name for path in tmp_path.glob("*.jsonl")} == left
    assert join(tmp_path) == [event(0)]


@pytest.mark.parametrize("stage", ["begin", "counts", "doubt", "end"])
def test_what_a_process_says_is_no_verdict_but_its_end_and_an_attack_may_have_its_name(tmp_path, stage):
    for sample, seen in ((-1, ()), (3, ()), (3, (1.0, math.inf, math.nan, -0.5, 1e-300))):
        folder = tmp_path / f"{sample}-{len(seen)}"
        with Ledger.open(folder, {"eps": 0.3}) as ledger:
            ledger.add([event(3, stage="clean"), event(sample, stage=stage, seen=seen, said="" if seen else "[1]")])
            again = list(ledger.events())[1]
            assert begun(ledger.path) == (sample >= 0 or stage == "end")
        assert again.said == ("" if seen else "[1]")
        assert str(again.seen) == str(seen)


def test_events_of_a_version_that_knew_less_are_read(tmp_path):
    with Ledger.open(tmp_path, {"eps": 0.3}) as ledger:
        ledger.add([event(3)])
        text = ledger.path.read_text("utf-8")
        assert "seen" not in text
        assert "said" not in text
        assert list(ledger.events()) == [event(3)]


def test_one_verdict_is_enough_and_so_is_a_process_that_writes(tmp_path):
    refused = pytest.raises(ValueError, match=r"`out` to hold a ledger of these settings.*`eps` was 0\.03")
    with Ledger.open(tmp_path / "written", HEADER, (1, 2)):
        with refused:
            Ledger.open(tmp_path / "written", {"eps": 1}, name="out")
        assert len(list((tmp_path / "written").glob("*.jsonl"))) == 1
    with Ledger.open(tmp_path / "begun", HEADER, (1, 2)) as ledger:
        ledger.add([event(0, stage="clean"), event(0, fooled=False)])
    Ledger.open(tmp_path / "begun", HEADER, (0, 2)).close()
    before = {path.name: path.read_bytes() for path in (tmp_path / "begun").glob("*.jsonl")}
    with refused:
        Ledger.open(tmp_path / "begun", {"eps": 1}, name="out")
    assert {path.name: path.read_bytes() for path in (tmp_path / "begun").glob("*.jsonl")} == before


@pytest.mark.parametrize("at", [0, 50, 150, 199])
def test_an_error_shows_where_long_settings_differ(tmp_path, at):
    texts = ["".join(f"({n})" for n in range(200)), "".join(f"({'x' if n == at else n})" for n in range(200))]
    with Ledger.open(tmp_path, {"attacks": texts[0]}) as ledger:
        ledger.add([event(0)])
    with pytest.raises(ValueError, match=rf"`attacks` was .*\({at}\).* and is .*\(x\)") as error:
        Ledger.open(tmp_path, {"attacks": texts[1]})
    assert len(str(error.value)) < 400 + len(str(tmp_path))


def test_a_later_format_is_refused(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("lightning_robust.evaluation.ledger._FORMAT", 2)
        Ledger.open(tmp_path, HEADER).close()
    with pytest.raises(ValueError, match="format 1, but it has format 2"):
        Ledger.open(tmp_path, HEADER)


def test_which_processes_are_at_their_ends(tmp_path):
    for place, events in enumerate(([event(0)], [event(1), event(-1, stage="end")], [event(2, stage="end")])):
        with Ledger.open(tmp_path, HEADER, (place, 3)) as ledger:
            ledger.add(events)
    assert unfinished(tmp_path) == [0, 2]  # an attack may have the name, too


def test_shards_join(tmp_path):
    with pytest.raises(FileNotFoundError, match="has no ledger"):
        join(tmp_path)
    with Ledger.open(tmp_path, HEADER, (1, 2)) as second:
        second.add([event(1), event(3)])
        with pytest.raises(ValueError, match="those of number 0 are missing"):
            join(tmp_path)
        with Ledger.open(tmp_path, HEADER, (0, 2)) as first:
            first.add([event(0)])
    assert join(tmp_path) == [event(0), event(1), event(3)]
    other = tmp_path / "other"
    with Ledger.open(other, {"eps": 1}) as ledger:
        ledger.add([event(0)])
    (other / "ledger-0-of-1.jsonl").rename(tmp_path / "ledger-0-of-3.jsonl")
    with pytest.raises(ValueError, match="some of 2 and of 3 processes"):
        join(tmp_path)
    (tmp_path / "ledger-0-of-3.jsonl").replace(tmp_path / "ledger-1-of-2.jsonl")
    with pytest.raises(ValueError, match=r"`eps` was 1 and is 0\.03"):
        join(tmp_path)


def test_one_process_writes(tmp_path):
    with Ledger.open(tmp_path, HEADER):
        with pytest.raises(BlockingIOError, match="Another process writes"):
            Ledger.open(tmp_path, HEADER)
        program = f"import filelock; filelock.FileLock({str(tmp_path / '.ledger-0-of-1.lock')!r}).acquire(timeout=0)"
        child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
        assert "Timeout" in child.stderr
    Ledger.open(tmp_path, HEADER).close()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"header": {"format": 2}}, ValueError, "leave the name 'format' to the ledger"),
        ({"header": {"eps": [1]}}, TypeError, r"`header\['eps'\]` to be a string, a number or None"),
        ({"header": {1: 1}}, TypeError, "`header`"),
        ({"shard": (2, 2)}, ValueError, r"`shard\[0\]` to be an integer of at least 0 and at most 1"),
        ({"shard": (0, 0)}, ValueError, r"`shard\[1\]`"),
        ({"shard": 1}, TypeError, "`shard` to be a pair"),
        ({"folder": 1}, TypeError, "`folder` to be a path"),
    ],
)
def test_arguments_are_checked_before_anything_is_written(tmp_path, change, error, message):
    with pytest.raises(error, match=message):
        Ledger.open(**{"folder": tmp_path / "out", "header": HEADER, **change})
    assert not (tmp_path / "out").exists()
