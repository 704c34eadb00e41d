import functools
import os
import random
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from lightning_robust.cells.attempt import Failed, Finished, Task, attempt, describe, own_streams, told_apart
from lightning_robust.cells.records import read_record
from tests.cells.cellwork import Trouble, draw, marks, not_rows


def test_an_attempt_writes_what_it_returns(tmp_path):
    task = Task({"do": "work", "n": 3}, tmp_path / "cell")
    event = attempt(Trouble(scale=2), task)
    assert isinstance(event, Finished)
    assert event.record.rows == [{"do": "work", "n": 3, "scaled": 6}]
    assert event.record.work == "Trouble(scale=2)"
    assert read_record(task.folder, task.cell) == event.record


def test_results_depend_on_the_cell_alone_and_the_streams_are_put_back(tmp_path):
    before = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    first = attempt(draw, Task({"n": 1}, tmp_path / "a")).record.rows
    other = attempt(draw, Task({"n": 2}, tmp_path / "b")).record.rows
    assert random.getstate() == before[0]
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[2])
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    assert attempt(draw, Task({"n": 1}, tmp_path / "c")).record.rows == first
    assert all(one["value"] != two["value"] for one, two in zip(first, other, strict=True))


def test_the_streams_are_put_back_after_an_exception():
    before = torch.get_rng_state()
    with pytest.raises(KeyError), own_streams(3):
        {}[torch.rand(5)]
    assert torch.equal(torch.get_rng_state(), before)


def test_a_failure_is_told_with_its_traceback_and_leaves_no_record(tmp_path):
    task = Task({"do": "fail", "n": 3}, tmp_path)
    event = attempt(Trouble(), task)
    assert isinstance(event, Failed)
    assert event.reason == "ValueError: always"
    assert not event.hopeless
    assert "cellwork.py" in event.traceback
    assert read_record(tmp_path) is None


def test_wrong_rows_are_hopeless(tmp_path):
    event = attempt(not_rows, Task({"n": 3}, tmp_path))
    assert isinstance(event, Failed)
    assert event.hopeless
    assert "`values` is [1, 2]" in event.reason


def test_an_attempt_clears_half_written_files_and_keeps_whole_ones(tmp_path):
    (tmp_path / ".rows.json.0f.tmp").touch()
    (tmp_path / "model.pt").touch()
    attempt(draw, Task({"n": 1}, tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.pt", "rows.json", "runs"]
    assert marks(tmp_path, "runs") == 1


def test_what_a_cell_prints_goes_to_its_log_and_what_follows_does_not(tmp_path, capfd):
    def speak(cell, folder):
        os.write(1, b"on stdout\n")
        os.write(2, b"on stderr\n")
        return []

    attempt(speak, Task({"n": 3}, tmp_path), log="log.txt")
    os.write(1, b"afterwards\n")
    assert (tmp_path / "log.txt").read_text() == "on stdout\non stderr\n"
    assert capfd.readouterr() == ("afterwards\n", "")


@dataclass(frozen=True)
class Holder:
    model: object
    folder: str = field(default="x", repr=False)

    def __call__(self, cell, folder):
        return []


def test_descriptions_change_with_settings_and_with_nothing_else():
    assert describe(draw) == "draw"
    assert describe(Trouble(scale=1)) != describe(Trouble(scale=2))
    assert describe(Trouble(place="here")) == describe(Trouble(place="there"))
    assert describe(functools.partial(draw, scale=2)) == "partial(draw, scale=2)"
    assert describe(Holder(object())) == describe(Holder(object())) == "Holder(model=<object object>)"


@pytest.mark.parametrize(
    ("was", "now", "says"),
    [
        ("T(a=1, b='x')", "T(a=2, b='x')", "`a` was 1 and is 2"),
        (
            "T(o=P(a=1, b=(1, 2)), c=-1.5)",
            "T(o=P(a=1, b=(3,)), c=2)",
            "`b` was (1, 2) and is (3,), `c` was -1.5 and is 2",
        ),
        ("T(a=1)", "T(a=1, new=2)", "`new` was not there and is 2"),
        ("T(f=<function f>)", "T(f=<function g>)", "`f` was '<function f>' and is '<function g>'"),
        ("partial(train, 3, n=1)", "partial(train, 3, n=2)", "`n` was 1 and is 2"),
        ("partial(train, 3)", "partial(train, 4)", "`partial[1]` was 3 and is 4"),
        ("square", "cube", "by square, not by cube"),
        ("a < b", "a = b", "by a < b, not by a = b"),
        ("T(a=1)", "U(a=1)", "by T(a=1), not by U(a=1)"),
        (f"T(a='{'x' * 500}')", "T(a=1)", f"`a` was '{'x' * 96}... and is 1"),
    ],
)
def test_two_works_are_told_apart_by_their_settings(was, now, says):
    assert told_apart(was, now) == says


def test_many_differences_are_cut_short():
    text = told_apart(*(f"T({', '.join(f'a{i}={i + shift}' for i in range(9))})" for shift in (0, 1)))
    assert text.endswith("`a4` was 4 and is 5 and so on")
