import multiprocessing
import os
import signal
import time

import pytest

from lightning_robust.cells.errors import StudyLockedError
from lightning_robust.cells.locks import LOCK, folder_lock

pytestmark = pytest.mark.skipif(os.name == "nt", reason="no flock")


def _hold(folder):
    with folder_lock(folder):
        (folder / "held").touch()
        time.sleep(60)


@pytest.fixture
def holder(tmp_path):
    process = multiprocessing.get_context("fork").Process(target=_hold, args=(tmp_path,))
    process.start()
    deadline = time.monotonic() + 10
    while not (tmp_path / "held").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    yield process
    process.kill()
    process.join()


def test_a_second_run_is_refused_and_told_by_whom(tmp_path, holder):
    with pytest.raises(StudyLockedError, match=f"process {holder.pid} on "), folder_lock(tmp_path):
        pass


def test_the_lock_of_a_killed_run_does_not_count(tmp_path, holder):
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    assert str(holder.pid) in (tmp_path / LOCK).read_text()
    with folder_lock(tmp_path):
        assert str(os.getpid()) in (tmp_path / LOCK).read_text()


def test_the_lock_is_free_again_after_the_block_and_after_an_exception(tmp_path):
    with pytest.raises(RuntimeError), folder_lock(tmp_path):
        raise RuntimeError
    with folder_lock(tmp_path), pytest.raises(StudyLockedError), folder_lock(tmp_path):
        pass
    with folder_lock(tmp_path):
        pass


def test_without_locks_a_warning_is_given_and_the_block_runs(tmp_path, monkeypatch, caplog):
    import fcntl

    def unsupported(*args):
        raise OSError("Function not implemented")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with folder_lock(tmp_path):
        pass
    assert "Function not implemented" in caplog.text
