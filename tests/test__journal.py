"""A journal keeps what was added, whatever happens to the program or the file."""

import json
import math
import os
import subprocess
import sys
import textwrap
import time

import pandas as pd
import pytest

from lightning_robust._journal import Journal, rows, survey

FIRST = {"format": 1, "name": "größer\n"}
ROWS = [{"n": 0, "x": 0.1}, {"n": 1, "x": math.inf}, {"n": 2, "x": 1e-300}]


def made(path, rows=ROWS):
    journal = Journal(path, FIRST)
    journal.add(rows)
    journal.close()
    return path


def read(path, first=FIRST):
    journal = Journal(path, first)
    try:
        return list(journal.rows())
    finally:
        journal.close()


def test_what_was_added_is_read_again(tmp_path):
    path = made(tmp_path / "j.jsonl")
    assert survey(path).first == FIRST
    assert read(path) == [{"n": 0, "x": 0.1}, {"n": 1, "x": "inf"}, {"n": 2, "x": 1e-300}]
    assert [json.loads(line).get("n") for line in path.read_text("utf-8").splitlines()] == [None, 0, 1, 2]
    assert pd.read_json(path, lines=True)["n"].tolist()[1:] == [0, 1, 2]


def test_a_file_that_is_cut_at_any_byte_gives_the_lines_that_are_whole(tmp_path):
    whole = made(tmp_path / "whole.jsonl").read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    for size in range(len(whole) + 1):
        path = tmp_path / f"{size}.jsonl"
        path.write_bytes(whole[:size])
        if 0 < size < ends[0]:
            with pytest.warns(UserWarning, match="is damaged in line 1"):
                assert read(path) == []
        else:
            kept = sum(end <= size for end in ends)
            assert [row["n"] for row in read(path)] == list(range(max(0, kept - 1)))
        made(path, [{"n": 7, "x": 0.0}])
        assert [row["n"] for row in read(path)][-1] == 7


def test_a_byte_that_changed_is_noticed_wherever_it_is(tmp_path):
    whole = made(tmp_path / "whole.jsonl").read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    path = tmp_path / "j.jsonl"
    for at in range(len(whole) - 1):  # without its last byte the file is only cut
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        before = sum(end <= at for end in ends)
        known = survey(path)
        assert known.lines == before, at
        assert known.damaged, at


@pytest.mark.parametrize("change", [lambda lines: lines[:1] + lines[2:], lambda lines: [*lines[:2], *lines[1:]]])
def test_a_line_that_is_lost_or_doubled_is_damage(tmp_path, change):
    path = made(tmp_path / "j.jsonl")
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))
    assert survey(path).damaged


def test_a_damaged_file_is_kept_and_what_is_before_is_used(tmp_path):
    path = tmp_path / "j.jsonl"
    for attempt in ("j.jsonl.damaged", "j.jsonl.1.damaged"):
        path.unlink(missing_ok=True)
        lines = made(path).read_bytes().splitlines(keepends=True)
        lines[2] = lines[2].replace(b"1", b"5", 1)
        path.write_bytes(b"".join(lines))
        damaged = path.read_bytes()
        with pytest.warns(UserWarning, match=f"line 3.* kept as {attempt}; the 1 entries before"):
            assert [row["n"] for row in read(path)] == [0]
        assert (tmp_path / attempt).read_bytes() == damaged
        assert [row["n"] for row in read(path)] == [0]


def test_after_an_error_nothing_of_the_batch_is_there(tmp_path, monkeypatch):
    path = made(tmp_path / "j.jsonl")
    journal = Journal(path, FIRST)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        journal.add([{"n": 3}, {"n": object()}])
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: (_ for _ in ()).throw(OSError("no space left")))
        with pytest.raises(OSError, match="no space"):
            journal.add([{"n": 4}])
    assert path.read_bytes() == before
    journal.add([{"n": 5}])
    assert [row["n"] for row in journal.rows()] == [0, 1, 2, 5]
    journal.close()


def test_a_program_that_is_killed_while_it_writes_loses_nothing(tmp_path):
    """The program says which row is on the disk; kill -9 comes at some moment; all rows that it spoke of are there."""
    program = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from lightning_robust._journal import Journal
        journal = Journal(Path(sys.argv[1]), {"format": 1})
        n = sum(1 for _ in journal.rows())
        while True:
            journal.add([{"n": n, "text": "x" * 5000}, {"n": n + 1}])
            n += 2
            print(n, flush=True)
        """
    )
    path, said = tmp_path / "j.jsonl", 0
    for attempt in range(3):
        command = [sys.executable, "-W", "error", "-c", program, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            said = int(child.stdout.readline())
            time.sleep(0.02 * attempt)
            child.kill()
            said = max([said, *(int(line) for line in child.stdout.read().splitlines(keepends=True) if "\n" in line)])
        known = survey(path)
        assert not known.damaged
        found = [row["n"] for row in rows(path, known.end)]
        assert found == list(range(len(found)))
        assert len(found) >= said
