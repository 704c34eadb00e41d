import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import deque
from pathlib import Path

import pytest
import torch

from lightning_robust.cells import CellsFailedError, read_rows, run_grid
from lightning_robust.cells.attempt import Failed, Finished, Started, Task
from lightning_robust.cells.errors import StudyArgumentError, WorkersError
from lightning_robust.cells.workers import Inline, Processes, _environment, share
from tests.cells.cellwork import Trouble, draw, marks

TESTS = Path(__file__).parents[1]


def test_inline_tells_of_each_task_in_order_and_puts_the_threads_back(tmp_path):
    tasks = [Task({"do": "threads", "n": n}, tmp_path / str(n)) for n in range(2)]
    before = torch.get_num_threads()
    events = list(Inline(threads=2)(Trouble(), deque(tasks)))
    assert [(type(event), event.task) for event in events] == [
        (Started, tasks[0]),
        (Finished, tasks[0]),
        (Started, tasks[1]),
        (Finished, tasks[1]),
    ]
    assert events[1].record.rows[0]["threads"] == 2
    assert torch.get_num_threads() == before


def test_a_task_put_back_is_tried_again(tmp_path):
    pending = deque([Task({"do": "fail once", "n": 1}, tmp_path)])
    seen = []
    for event in Inline()(Trouble(), pending):
        seen.append(type(event))
        if isinstance(event, Failed):
            pending.append(event.task)
    assert seen == [Started, Failed, Started, Finished]


def test_processes_survive_every_kind_of_trouble(tmp_path, capfd):
    """Processes give what inline gives, and a cell that fails, exits or kills its worker harms no other."""
    cells = [{"do": "work", "n": n} for n in range(3)]
    trouble = [{"do": what, "n": 9} for what in ("die once", "fail once", "fail", "exit", "threads")]
    with pytest.raises(CellsFailedError) as failed:
        run_grid(trouble + cells, Trouble(), tmp_path / "a", workers=2, threads=1)
    out, err = capfd.readouterr()
    assert "the cell speaks" not in out + err
    assert "ended with signal 9" in err
    assert multiprocessing.active_children() == []
    inline = run_grid(cells, Trouble(), tmp_path / "b", launcher="inline", progress=False)
    assert [row for row in failed.value.rows if row["do"] == "work"] == inline
    runs = {
        folder.name.split("_")[0]: marks(folder, "runs")
        for folder in (tmp_path / "a" / "models").iterdir()
        if folder.is_dir()
    }
    assert runs == {"do=work": 1, "do=die-once": 2, "do=fail-once": 2, "do=fail": 2, "do=exit": 2, "do=threads": 1}
    assert [row["threads"] for row in failed.value.rows if row["do"] == "threads"] == [1]
    reasons = {folder.name.split("_")[0]: reason for folder, reason in failed.value.failures.items()}
    assert reasons == {"do=fail": "ValueError: always", "do=exit": "SystemExit: 3"}
    for folder in failed.value.failures:
        text = (folder / "failed.txt").read_text()
        assert "attempt 1 of 2" in text
        assert "attempt 2 of 2" in text
        assert "cellwork.py" in text
        assert (folder / "log.txt").read_text() == "the cell speaks\n" * 2


def test_gpus_are_dealt_out():
    assert share(["0", "1", "2", "3"], 2) == ["0,2", "1,3"]
    assert share(["0"], 3) == ["0", "0", "0"]
    assert share(["GPU-a", "GPU-b"], 1) == [None]


def test_the_environment_is_put_back(monkeypatch):
    monkeypatch.setenv("OLD", "1")
    monkeypatch.delenv("NEW", raising=False)
    with _environment({"OLD": "2", "NEW": "3"}):
        assert (os.environ["OLD"], os.environ["NEW"]) == ("2", "3")
    assert os.environ["OLD"] == "1"
    assert "NEW" not in os.environ


@pytest.mark.parametrize("options", [{"workers": 0}, {"workers": True}, {"workers": 1.5}, {"threads": 0}])
def test_counts_are_checked(options):
    with pytest.raises(StudyArgumentError, match=f"`{next(iter(options))}` to be an integer >= 1"):
        Processes(**options)


def test_a_work_that_other_processes_cannot_read_is_refused(tmp_path):
    with pytest.raises(StudyArgumentError, match="at the top of a module"):
        run_grid([{"n": 1}], lambda cell, folder: [], tmp_path)


SCRIPT = textwrap.dedent(
    """
    import sys
    sys.path.insert(0, {tests!r})
    from tests.cells.cellwork import slow
    from lightning_robust.cells import run_grid

    {guard}
        run_grid([{{"n": n, "seconds": 1.5}} for n in range(8)], slow, sys.argv[1], workers=2)
    """
)


def _start(tmp_path, guard='if __name__ == "__main__":'):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(tests=str(TESTS), guard=guard))
    arguments = [sys.executable, str(script), str(tmp_path / "out")]
    return subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, start_new_session=True)


def _wait(condition, seconds=60.0):
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
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_end_with_the_study_and_it_continues(tmp_path, how):
    out = tmp_path / "out"
    study = _start(tmp_path)
    _wait(lambda: len(list(out.glob("models/*/rows.json"))) >= 2)
    time.sleep(0.3)  # so that the worker which has just finished is at its next cell
    if how == signal.SIGINT:
        os.killpg(study.pid, how)  # as a terminal does
    else:
        study.send_signal(how)
    study.wait(timeout=30)
    time.sleep(0.2)  # less than the rest of a cell, which a worker left alone would finish
    finished = {path: path.stat().st_mtime_ns for path in out.glob("models/*/rows.json")}
    workers = {int(line) for path in out.glob("models/*/begun") for line in path.read_text().split()}
    assert workers
    _wait(lambda: all(map(_gone, workers)), seconds=10)
    assert set(finished) == set(out.glob("models/*/rows.json"))
    assert 2 <= len(finished) < 8
    _, err = study.communicate(timeout=30)
    if how == signal.SIGINT:
        assert study.returncode != 0
        assert f"Stopped with {len(finished)} of 8 cells finished" in err
        assert err.count("KeyboardInterrupt") == 1
    study = _start(tmp_path)
    _, err = study.communicate(timeout=120)
    assert study.returncode == 0
    assert f"{len(finished)} of 8 cells are finished already" in err
    assert [row["double"] for row in read_rows(out)] == [2 * n for n in range(8)]
    assert all(path.stat().st_mtime_ns == time for path, time in finished.items())
    assert all(marks(path.parent, "ended") == 1 for path in finished)


@pytest.mark.slow
def test_a_script_without_a_guard_is_told(tmp_path):
    study = _start(tmp_path, guard="if True:")
    _, err = study.communicate(timeout=120)
    assert study.returncode != 0
    assert WorkersError.__name__ in err
    assert 'if __name__ == "__main__":' in err


@pytest.mark.slow
def test_processes_and_inline_draw_the_same_numbers(tmp_path):
    cells = [{"n": n} for n in range(4)]
    assert run_grid(cells, draw, tmp_path / "a", workers=2) == run_grid(cells, draw, tmp_path / "b", launcher="inline")
