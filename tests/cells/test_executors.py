import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from lightning_robust.cells import CellsError, CellsFailedError, Inline, Ray, cell_folder, read_rows, run_cells
from lightning_robust.cells.executors import outcomes
from tests.cells.cellwork import Trouble, draw, marks

ROOT = Path(__file__).parents[2]
GOOD = [{"do": "work", "n": n} for n in range(3)]
TROUBLE = [{"do": what, "n": 9} for what in ("kill", "leave", "exit", "fail")]


@pytest.mark.slow
def test_every_executor_gives_the_same_numbers(tmp_path):
    cells = [{"n": n} for n in range(4)]
    rows = run_cells(cells, draw, tmp_path / "inline", executor=Inline(), threads=1, progress=False)
    for workers in (1, 2):
        folder = tmp_path / str(workers)
        assert run_cells(cells, draw, folder, workers=workers, threads=1, progress=False) == rows
    with ProcessPoolExecutor(2, multiprocessing.get_context("forkserver")) as pool:
        assert run_cells(cells, draw, tmp_path / "pool", executor=pool, threads=1, progress=False) == rows


def test_a_cell_that_fails_or_exits_or_kills_its_worker_harms_no_other(tmp_path, capfd):
    with pytest.raises(CellsFailedError) as failed:
        run_cells(TROUBLE + GOOD, Trouble(), tmp_path, workers=2, threads=1)
    assert "the cell speaks" not in "".join(capfd.readouterr())
    assert [row["product"] for row in failed.value.rows] == [0, 1, 2]
    reasons = [failed.value.failures[cell_folder(tmp_path, cell)] for cell in TROUBLE]
    assert reasons[0].startswith("The worker process ended with SIGKILL(-9); ")
    assert reasons[1:] == ["The worker process ended with EXIT(3).", "SystemExit: 4", "ValueError: always"]
    # The death of a worker ends the other one too, whose cell then begins again: once for each of the two deaths.
    assert all(1 <= marks(cell_folder(tmp_path, cell)) <= 3 for cell in TROUBLE + GOOD)
    for cell in TROUBLE:
        folder = cell_folder(tmp_path, cell)
        assert (folder / "log.txt").read_text().startswith("the cell speaks\n")
        assert ("cellwork.py" if cell["do"] in ("fail", "exit") else "Begun by") in (folder / "failed.txt").read_text()
    assert run_cells(GOOD, Trouble(), tmp_path) == failed.value.rows


def test_a_broken_executor_from_outside_fails_what_it_lost_alone(tmp_path):
    cells, context = [GOOD[0], TROUBLE[0], *GOOD[1:]], multiprocessing.get_context("forkserver")
    with (
        ProcessPoolExecutor(1, context) as pool,
        pytest.raises(CellsFailedError, match="terminated abruptly") as failed,
    ):
        run_cells(cells, Trouble(), tmp_path, executor=pool, progress=False)
    assert failed.value.rows[0]["product"] == 0
    assert len(failed.value.failures) + len(failed.value.rows) == 4
    assert all((folder / "failed.txt").exists() for folder in failed.value.failures)


class _Unreadable:
    def __call__(self, cell, folder):
        return []

    def __reduce__(self):
        return sys.exit, (5,)


def test_workers_that_cannot_begin_are_an_error(tmp_path):
    with pytest.raises(CellsError, match="The worker processes ended before they began"):
        run_cells(GOOD, _Unreadable(), tmp_path, progress=False)


SCRIPT = textwrap.dedent(
    """
    import sys

    from lightning_robust.cells import run_cells
    from tests.cells.cellwork import slow

    run_cells([{"n": n, "seconds": 1.5} for n in range(6)], slow, sys.argv[1], workers=2)
    """
)


def _start(folder):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
    arguments = [sys.executable, "-c", SCRIPT, str(folder)]
    return subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, start_new_session=True, env=environment)


def _wait(condition, seconds=120.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_end_with_the_run_and_it_continues(tmp_path, how):
    run = _start(tmp_path)
    _wait(lambda: len(list(tmp_path.glob("*/rows.json"))) >= 2)
    os.killpg(run.pid, how) if how == signal.SIGINT else run.send_signal(how)  # a terminal tells the whole group
    run.communicate(timeout=60)
    workers = {int(line) for path in tmp_path.glob("*/begun") for line in path.read_text().split()}
    _wait(lambda: all(map(_gone, workers)), seconds=30)
    finished = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/rows.json")}
    assert 2 <= len(finished) < 6
    run = _start(tmp_path)
    _, err = run.communicate(timeout=240)
    assert run.returncode == 0
    assert f"{len(finished)} of 6 cells are finished already" in err
    assert [row["double"] for row in read_rows(tmp_path)] == [2 * n for n in range(6)]
    assert all(path.stat().st_mtime_ns == time for path, time in finished.items())


class _Later:
    """Futures that are done when somebody has looked at them twice."""

    def __init__(self):
        self.open, self.most = 0, 0

    def submit(self, fn, *args):
        future, looks = Future(), []

        def done():
            looks.append(1)
            if len(looks) == 3:
                future.set_result(fn(*args))
                self.open -= 1
            return Future.done(future)

        self.open += 1
        self.most = max(self.most, self.open)
        return SimpleNamespace(done=done, result=future.result)


@pytest.mark.parametrize("most", [None, 1, 3])
def test_only_so_many_calls_wait_at_once_and_all_are_made(most):
    later, calls = _Later(), [SimpleNamespace(folder=Path(str(n)), cell={}) for n in range(7)]
    found = [call for call, _ in outcomes(later, lambda call: call.folder, calls, most)]
    assert sorted(call.folder.name for call in found) == [str(n) for n in range(7)]
    assert later.most == (most or 7)


def _fake_ray(calls):
    def remote(**options):
        calls.append(options)
        return lambda fn: SimpleNamespace(remote=lambda *args: SimpleNamespace(future=lambda: _done(fn(*args))))

    return SimpleNamespace(remote=remote)


def _done(value):
    future = Future()
    future.set_result(value)
    return future


def test_ray_is_asked_for_tasks_with_its_options(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setitem(sys.modules, "ray", _fake_ray(calls))
    rows = run_cells(GOOD, Trouble(), tmp_path, executor=Ray(num_cpus=2, num_gpus=0.5), progress=False)
    assert [row["product"] for row in rows] == [0, 1, 2]
    assert calls == [{"max_retries": 0, "num_cpus": 2, "num_gpus": 0.5}] * 3


def test_without_ray_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ModuleNotFoundError, match=r"lightning-robust\[ray\]"):
        run_cells(GOOD, Trouble(), tmp_path, executor=Ray())


@pytest.mark.slow
def test_a_ray_cluster_gives_what_inline_gives_and_survives_trouble(tmp_path, monkeypatch):
    ray = pytest.importorskip("ray")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *filter(None, sys.path)]))
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        with pytest.raises(CellsFailedError) as failed:
            run_cells(TROUBLE + GOOD, Trouble(), tmp_path, executor=Ray(num_cpus=1), progress=False)
        assert [row["product"] for row in failed.value.rows] == [0, 1, 2]
        assert [marks(cell_folder(tmp_path, cell)) for cell in TROUBLE + GOOD] == [1] * 7
        rows = run_cells([{"n": 1}], draw, tmp_path / "a", executor=Ray(num_cpus=1), threads=1, progress=False)
        assert rows == run_cells([{"n": 1}], draw, tmp_path / "b", executor=Inline(), threads=1, progress=False)
    finally:
        ray.shutdown()


def threads_of(cell, folder):
    return [{"threads": torch.get_num_threads()}]


@pytest.mark.parametrize(("variable", "expected"), [("1", 1), ("", None)])
def test_processes_have_the_threads_that_the_environment_asks_for(tmp_path, monkeypatch, variable, expected):
    monkeypatch.setenv("OMP_NUM_THREADS", variable)
    (row,) = run_cells([{"n": 1}], threads_of, tmp_path, progress=False)
    assert row["threads"] == (expected or os.cpu_count())
