import errno
import json
import multiprocessing
import os
import signal
import time
from functools import partial

import pytest

from lightning_robust.cells import (
    CellsFailedError,
    DamagedFileError,
    StudyArgumentError,
    StudyLockedError,
    cell_folder,
    expand,
    read_rows,
    run_grid,
)
from lightning_robust.cells.locks import folder_lock
from lightning_robust.cells.records import FILE
from tests.cells.cellwork import Trouble, draw, marks, not_rows, slow

inline = partial(run_grid, launcher="inline", progress=False)
CELLS = expand(n=[10, 9, 8])


def _runs(out, cells=CELLS, name="runs"):
    return [marks(cell_folder(out, "models", cell), name) for cell in cells]


def test_nothing_is_computed_twice_and_a_larger_grid_computes_its_new_cells_alone(tmp_path):
    rows = inline(CELLS, draw, tmp_path)
    assert [row["n"] for row in rows] == [10, 10, 10, 9, 9, 9, 8, 8, 8]
    assert inline(CELLS, draw, tmp_path) == rows
    larger = expand(n=[8, 9, 10, 11])
    again = inline(larger, draw, tmp_path)
    assert again[:9] == rows[6:] + rows[3:6] + rows[:3]
    assert _runs(tmp_path, larger) == [1, 1, 1, 1]
    assert read_rows(tmp_path) == again


def test_the_order_of_names_and_whole_floats_make_no_new_cell(tmp_path):
    inline([{"n": 1, "eps": 8.0}], draw, tmp_path)
    inline([{"eps": 8, "n": 1}], draw, tmp_path)
    assert _runs(tmp_path, [{"n": 1, "eps": 8}]) == [1]


def test_stages_are_apart(tmp_path):
    inline(CELLS, draw, tmp_path)
    inline(CELLS[:1], draw, tmp_path, stage="transfer")
    assert len(read_rows(tmp_path, "transfer")) == 3
    assert _runs(tmp_path) == [1, 1, 1]
    with pytest.raises(FileNotFoundError, match="no stage 'distances'"):
        read_rows(tmp_path, "distances")


def _in_a_fork(function, *args):
    process = multiprocessing.get_context("fork").Process(target=function, args=args)
    process.start()
    return process


SLOW = [{"n": n, "seconds": 0.03} for n in range(20)]


def test_killed_again_and_again_it_ends_with_every_cell_computed(tmp_path):
    """Whatever was finished at a kill is never begun again, and each kill costs at most the cell it hit."""
    kept = {}  # how often a finished cell had been begun when it was first seen finished
    kills = 0
    for wait in (0.02, 0.05, 0.08, 0.11, 0.035):
        before = sum(_runs(tmp_path, SLOW, "begun"))
        process = _in_a_fork(partial(inline, SLOW, slow, tmp_path))
        deadline = time.monotonic() + 10
        while process.is_alive() and sum(_runs(tmp_path, SLOW, "begun")) == before:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        time.sleep(wait)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        kills += process.exitcode == -signal.SIGKILL
        for at, begun in enumerate(_runs(tmp_path, SLOW, "begun")):
            if (cell_folder(tmp_path, "models", SLOW[at]) / FILE).exists():
                assert kept.setdefault(at, begun) == begun
    rows = inline(SLOW, slow, tmp_path)
    after = _runs(tmp_path, SLOW, "begun")
    assert kills == 5
    assert 1 <= len(kept) < len(SLOW)
    assert all(after[at] == begun for at, begun in kept.items())
    assert sum(after) <= len(SLOW) + kills
    assert [row["double"] for row in rows] == [2 * n for n in range(len(SLOW))]
    assert not list(tmp_path.rglob("*.tmp"))


def _die_at_replace(out, at):
    replace, calls = os.replace, []

    def die(*paths):
        calls.append(paths)
        if len(calls) == at:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(*paths)

    os.replace = die
    inline(CELLS, draw, out)


def test_killed_between_write_and_replace_a_cell_is_not_finished_and_leaves_nothing(tmp_path):
    process = _in_a_fork(_die_at_replace, tmp_path, 2)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    folder = cell_folder(tmp_path, "models", CELLS[1])
    assert [path.name[:11] for path in folder.glob(".*")] == [".rows.json."]
    assert read_rows(tmp_path) == read_rows(tmp_path)[:3]
    rows = inline(CELLS, draw, tmp_path)
    assert _runs(tmp_path) == [1, 2, 1]
    assert len(rows) == 9
    assert not list(tmp_path.rglob(".rows*"))


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-40])


def _alter(path):
    content = json.loads(path.read_text())
    content["rows"][0]["value"] = 0.123
    path.write_text(json.dumps(content))


def _empty(path):
    path.write_bytes(b"")


def _swap(path):
    path.write_bytes((cell_folder(path.parents[2], "models", CELLS[0]) / FILE).read_bytes())


@pytest.mark.parametrize(
    ("damage", "says"),
    [(_truncate, "not whole JSON"), (_alter, "checksum"), (_empty, "not whole JSON"), (_swap, "of another cell, n=10")],
)
def test_a_damaged_file_costs_its_own_cell_alone(tmp_path, caplog, damage, says):
    rows = inline(CELLS, draw, tmp_path)
    path = cell_folder(tmp_path, "models", CELLS[1]) / FILE
    damage(path)
    damaged = path.read_bytes()
    if damage is not _swap:
        with pytest.raises(DamagedFileError, match=f"damaged.*{says}"):
            read_rows(tmp_path)
    assert inline(CELLS, draw, tmp_path) == rows
    assert _runs(tmp_path) == [1, 2, 1]
    assert says in caplog.text
    assert "rows.json.damaged, and this cell alone is computed again" in caplog.text
    assert path.with_name("rows.json.damaged").read_bytes() == damaged
    assert read_rows(tmp_path) == rows[6:] + rows[3:6] + rows[:3]


def test_a_failing_cell_is_retried_reported_and_tried_by_the_next_run(tmp_path):
    cells = [{"do": what, "n": 1} for what in ("fail", "fail once", "work")]
    with pytest.raises(CellsFailedError, match=r"1 cell\(s\) failed.*\n.*failed.txt: ValueError: always") as failed:
        inline(cells, Trouble(), tmp_path, retries=2)
    assert [row["do"] for row in failed.value.rows] == ["fail once", "work"]
    assert _runs(tmp_path, cells) == [3, 2, 1]
    text = (cell_folder(tmp_path, "models", cells[0]) / "failed.txt").read_text()
    assert text.count("ValueError: always") == 3
    with pytest.raises(CellsFailedError):
        inline(cells, Trouble(), tmp_path, retries=0)
    assert _runs(tmp_path, cells) == [4, 2, 1]


def test_the_report_of_a_failure_goes_when_the_cell_succeeds(tmp_path):
    cells = [{"do": "fail once", "n": 1}]
    with pytest.raises(CellsFailedError):
        inline(cells, Trouble(), tmp_path, retries=0)
    report = cell_folder(tmp_path, "models", cells[0]) / "failed.txt"
    assert report.exists()
    inline(cells, Trouble(), tmp_path)
    assert not report.exists()


def test_wrong_rows_are_not_tried_again(tmp_path):
    with pytest.raises(CellsFailedError, match="`values` is"):
        inline(CELLS[:1], not_rows, tmp_path, retries=5)
    assert _runs(tmp_path, CELLS[:1]) == [1]


def test_an_interruption_keeps_what_is_finished_and_says_how_to_continue(tmp_path, capsys):
    cells = [{"do": what, "n": 1} for what in ("work", "stop", "fail once")]
    with pytest.raises(KeyboardInterrupt):
        inline(cells, Trouble(), tmp_path)
    assert "Stopped with 1 of 3 cells finished. Run the same again" in capsys.readouterr().err
    assert len(read_rows(tmp_path)) == 1
    inline([cells[0], cells[2]], Trouble(), tmp_path)  # the lock is free
    assert _runs(tmp_path, cells) == [1, 1, 2]


def test_two_runs_at_once_are_refused(tmp_path):
    (tmp_path / "models").mkdir()
    with folder_lock(tmp_path / "models"):
        with pytest.raises(StudyLockedError, match=f"process {os.getpid()} on"):
            inline(CELLS, draw, tmp_path)
        inline(CELLS, draw, tmp_path, stage="other")
    inline(CELLS, draw, tmp_path)


def test_results_of_different_settings_do_not_mix(tmp_path):
    cells = [{"do": "work", "n": 1}]
    inline(cells, Trouble(scale=1, place="here"), tmp_path)
    assert inline(cells, Trouble(scale=1, place="there"), tmp_path)[0]["scaled"] == 1
    with pytest.raises(
        StudyArgumentError, match=r"The 1 finished cell.* were made otherwise: `scale` was 1 and is 2. Res"
    ):
        inline(cells, Trouble(scale=2), tmp_path)
    assert _runs(tmp_path, cells) == [1]


def test_another_work_is_named(tmp_path):
    inline(CELLS, draw, tmp_path)
    with pytest.raises(StudyArgumentError, match=r"The 3 finished cell.* were made otherwise: by draw, not by not_r"):
        inline(CELLS, not_rows, tmp_path)


def test_a_disk_that_is_full_is_told_as_the_reason_in_one_error(tmp_path, monkeypatch):
    def full(self, *args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    monkeypatch.setattr("pathlib.Path.write_text", full)
    with pytest.raises(CellsFailedError, match=r"3 cell\(s\) failed.*\n.*No space left on device"):
        inline(CELLS, draw, tmp_path, retries=0)
    monkeypatch.undo()
    assert len(inline(CELLS, draw, tmp_path)) == 9


def test_the_dearest_cells_run_first_and_the_rows_keep_the_order(tmp_path, capsys):
    rows = run_grid(expand(n=[1, 3, 2]), draw, tmp_path, launcher="inline", cost=lambda cell: cell["n"] ** 2)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == ["[1/3] n=3", "[2/3] n=2", "[3/3] n=1"]
    assert [row["n"] for row in rows[::3]] == [1, 3, 2]


def test_without_progress_nothing_is_said(tmp_path, capsys):
    inline(CELLS, draw, tmp_path)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"cells": []}, "`cells`"),
        ({"cells": [{"n": [1]}]}, "`cells`"),
        ({"work": "train"}, "`work` to be callable"),
        ({"workers": 0, "launcher": "processes"}, "`workers` to be an integer >= 1, but got 0"),
        ({"workers": 2}, "`workers` to be 1 for the launcher 'inline'"),
        ({"threads": 0}, "`threads`"),
        ({"retries": -1}, "`retries` to be an integer >= 0, but got -1"),
        ({"launcher": "slurm"}, "`launcher` to be .* but got 'slurm'"),
        ({"stage": "a/b"}, "`stage` to be the plain name of a folder, but got 'a/b'"),
        ({"stage": ".."}, "`stage`"),
        ({"cost": lambda cell: 0.0}, "`cost` to give positive numbers, but got 0.0 for n=10"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_runs(tmp_path, options, says):
    arguments = {"cells": CELLS, "work": draw, "launcher": "inline", "progress": False, **options}
    with pytest.raises(StudyArgumentError, match=says):
        run_grid(arguments.pop("cells"), arguments.pop("work"), tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(StudyArgumentError, match="`out` to be a folder"):
        inline(CELLS, draw, tmp_path / "out")
