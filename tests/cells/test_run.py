import errno
import json
import multiprocessing
import os
import pickle
import random
import signal
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from lightning_robust.cells import (
    CellsError,
    CellsFailedError,
    CellsLockedError,
    Inline,
    cell_folder,
    expand,
    read_rows,
    run_cells,
)
from lightning_robust.cells.record import ROWS
from tests.cells.cellwork import Trouble, draw, marks, slow

inline = partial(run_cells, executor=Inline(), progress=False)
CELLS = expand(n=[10, 9, 8])


def _runs(folder, cells=CELLS, name="runs"):
    return [marks(cell_folder(folder, cell), name) for cell in cells]


def test_nothing_is_computed_twice_and_more_cells_compute_the_new_ones_alone(tmp_path):
    rows = inline(CELLS, draw, tmp_path)
    assert [row["n"] for row in rows] == [10, 9, 8]
    assert inline(CELLS, draw, tmp_path) == rows
    larger = [{"n": 8.0}, *expand(n=[9, 10, 11])]
    assert inline(larger, draw, tmp_path)[:3] == rows[::-1]
    assert _runs(tmp_path, larger) == [1, 1, 1, 1]
    assert [row["n"] for row in read_rows(tmp_path)] == [8, 9, 10, 11]
    with pytest.raises(FileNotFoundError, match="no cells in"):
        read_rows(tmp_path / "other")


def test_results_depend_on_the_cell_alone_and_the_state_is_put_back(tmp_path):
    first = inline([{"n": 1}, {"n": 2}], draw, tmp_path / "a", threads=1)
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    torch.set_default_dtype(torch.float64)
    before = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    threads = torch.get_num_threads()
    try:
        assert inline([{"n": 2}, {"n": 1}], draw, tmp_path / "b", threads=1) == first[::-1]
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert (random.getstate(), torch.get_num_threads(), torch.get_deterministic_debug_mode()) == (before[0], threads, 0)
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[2])
    assert [(row["dtype"], row["deterministic"], row["threads"]) for row in first] == [("torch.float32", 0, 1)] * 2
    assert len({row[name] for row in first for name in ("python", "numpy", "torch")}) == 6


def _in_a_fork(function):
    process = multiprocessing.get_context("fork").Process(target=function)
    process.start()
    return process


SLOW = [{"n": n, "seconds": 0.03} for n in range(15)]


def test_killed_again_and_again_it_ends_with_every_cell_computed(tmp_path):
    """A cell that was finished at a kill is never begun again, and each kill costs at most the cell it hit."""
    begun_when_finished = {}
    for wait in (0.02, 0.05, 0.08):
        before = sum(_runs(tmp_path, SLOW, "begun"))
        process = _in_a_fork(partial(inline, SLOW, slow, tmp_path))
        deadline = time.monotonic() + 60
        while process.is_alive() and sum(_runs(tmp_path, SLOW, "begun")) == before:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        time.sleep(wait)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        for cell, begun in zip(SLOW, _runs(tmp_path, SLOW, "begun"), strict=True):
            if (cell_folder(tmp_path, cell) / ROWS).exists():
                assert begun_when_finished.setdefault(cell["n"], begun) == begun
    rows = inline(SLOW, slow, tmp_path)
    after = _runs(tmp_path, SLOW, "begun")
    assert 1 <= len(begun_when_finished) < len(SLOW)
    assert all(after[n] == begun for n, begun in begun_when_finished.items())
    assert sum(after) <= len(SLOW) + 3
    assert [row["double"] for row in rows] == [2 * n for n in range(len(SLOW))]
    assert not [path for name in ("*.tmp", "failed.txt") for path in tmp_path.rglob(name)]


def _killed_at_the_replacement_of_rows(folder, at):
    replace, calls = Path.replace, []

    def killed(self, target):
        calls.extend([target] * (Path(target).name == ROWS))
        if len(calls) == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return replace(self, target)

    Path.replace = killed
    inline(CELLS, draw, folder)


def test_killed_between_write_and_replacement_a_cell_is_not_finished_and_leaves_nothing(tmp_path):
    process = _in_a_fork(partial(_killed_at_the_replacement_of_rows, tmp_path, 2))
    process.join()
    folder = cell_folder(tmp_path, CELLS[1])
    assert [path.name[:11] for path in folder.glob(".*")] == [".rows.json."]
    assert "Begun by process" in (folder / "failed.txt").read_text()
    assert [row["n"] for row in read_rows(tmp_path)] == [10]
    assert len(inline(CELLS, draw, tmp_path)) == 3
    assert _runs(tmp_path) == [1, 2, 1]
    assert not list(folder.glob(".*")) + list(folder.glob("failed.txt"))


def _alter(path):
    content = json.loads(path.read_text())
    content["rows"][0]["torch"] = 0.123
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("damage", [_alter, lambda path: path.write_bytes(path.read_bytes()[:-40])])
def test_a_damaged_file_costs_its_own_cell_alone(tmp_path, caplog, damage):
    rows = inline(CELLS, draw, tmp_path)
    path = cell_folder(tmp_path, CELLS[1]) / ROWS
    damage(path)
    damaged = path.read_bytes()
    with pytest.raises(CellsError, match="damaged"):
        read_rows(tmp_path)
    assert inline(CELLS, draw, tmp_path) == rows
    assert _runs(tmp_path) == [1, 2, 1]
    assert "this cell alone is computed again" in caplog.text
    assert [aside.read_bytes() for aside in path.parent.glob("*.damaged-*")] == [damaged]


def test_a_failing_cell_costs_itself_and_is_tried_by_the_next_run(tmp_path):
    cells = [{"do": what, "n": 1} for what in ("fail", "fail once", "rows", "work")]
    with pytest.raises(CellsFailedError, match=r"3 cell\(s\) failed.*\n.*failed.txt: ValueError: always\n") as failed:
        inline(cells, Trouble(), tmp_path)
    assert [row["do"] for row in failed.value.rows] == ["work"]
    assert list(failed.value.failures) == [cell_folder(tmp_path, cell) for cell in cells[:3]]
    assert "cellwork.py" in (cell_folder(tmp_path, cells[0]) / "failed.txt").read_text()
    copied = pickle.loads(pickle.dumps(failed.value))
    assert (copied.rows, copied.failures, str(copied)) == (
        failed.value.rows,
        failed.value.failures,
        str(failed.value),
    )
    with pytest.raises(CellsFailedError, match=r"2 cell\(s\) failed"):
        inline(cells, Trouble(), tmp_path)
    assert _runs(tmp_path, cells) == [2, 2, 2, 1]
    assert not (cell_folder(tmp_path, cells[1]) / "failed.txt").exists()


def test_an_interruption_keeps_what_is_finished(tmp_path):
    cells = [{"do": what, "n": 1} for what in ("work", "stop", "fail")]
    with pytest.raises(KeyboardInterrupt):
        inline(cells, Trouble(), tmp_path)
    assert len(read_rows(tmp_path)) == 1
    assert _runs(tmp_path, cells) == [1, 1, 0]
    inline(cells[:1], Trouble(), tmp_path)  # the lock is free


def test_two_runs_in_one_folder_refuse_each_other(tmp_path):
    def nested(cell, folder):
        with pytest.raises(CellsLockedError, match=r"Another run is at work in .*Wait for it or stop it first"):
            inline(CELLS, draw, tmp_path / "a")
        return [{"rows": len(inline(CELLS, draw, tmp_path / "b"))}]

    assert inline([{"n": 1}], nested, tmp_path / "a")[0]["rows"] == 3


def test_results_of_different_settings_do_not_mix(tmp_path):
    cells = [{"do": "work", "n": 1}]
    inline(cells, Trouble(factor=1, place="here"), tmp_path)
    assert inline(cells, Trouble(factor=1, place="there"), tmp_path)[0]["product"] == 1
    with pytest.raises(CellsError, match=r"The 1 finished cell.* were made otherwise: `factor` was 1 and is 2\. Res"):
        inline(cells, Trouble(factor=2), tmp_path)
    with pytest.raises(CellsError, match="`work` was Trouble and is draw"):
        inline(cells, draw, tmp_path)
    assert _runs(tmp_path, cells) == [1]


def test_a_disk_that_is_full_is_the_reason_in_one_error(tmp_path, monkeypatch):
    def full(self, *args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.write_bytes", full)
        with pytest.raises(CellsFailedError, match=r"3 cell\(s\) failed.*\n.*No space left on device"):
            inline(CELLS, draw, tmp_path)
    assert len(inline(CELLS, draw, tmp_path)) == 3


def test_expensive_cells_run_first_and_lines_tell_what_is_left(tmp_path, capsys):
    cells = [{"do": "work", "n": n} for n in (1, 3, 2)] + [{"do": "fail", "n": 4}]
    with pytest.raises(CellsFailedError):
        run_cells(cells, Trouble(), tmp_path, executor=Inline(), cost=lambda cell: cell["n"] ** 2)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "[1/4] do=fail n=4",
        "[2/4] do=work n=3",
        "[3/4] do=work n=2",
        "[4/4] do=work n=1",
    ]
    assert [", about 0:" in line for line in lines] == [True, True, True, False]
    assert lines[0].startswith("[1/4] do=fail n=4: failed: ValueError: always, about")
    run_cells([*cells[:3], {"do": "work", "n": 9}], Trouble(), tmp_path, executor=Inline())
    assert capsys.readouterr().err.splitlines()[0].endswith(": 3 of 4 cells are finished already")


def test_a_terminal_has_a_bar(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    run_cells(CELLS, draw, tmp_path, executor=Inline())
    text = capsys.readouterr().err
    assert "3/3 cells" in text
    assert "n=10" not in text


def test_without_progress_nothing_is_printed(tmp_path, capsys):
    inline(CELLS, draw, tmp_path)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"cells": []}, "`cells`"),
        ({"work": "train"}, "`work` to be a function"),
        ({"workers": 0}, "`workers`"),
        ({"threads": 0}, "`threads`"),
        ({"cost": lambda cell: 0.0}, r"`cost\(n=10\)` to be a number greater than 0"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_runs(tmp_path, options, says):
    arguments = {"cells": CELLS, "work": draw, **options}
    with pytest.raises((TypeError, ValueError), match=says):
        inline(arguments.pop("cells"), arguments.pop("work"), tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()
