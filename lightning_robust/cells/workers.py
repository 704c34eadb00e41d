"""Launchers: where the attempts of a grid run, in this process or in others of this machine.

A launcher is a function `(work, pending) -> events`. It takes tasks from the left of `pending` until none is left and
none is under way, and tells what happens to each. Whoever reads the events may put a task back for another attempt.
Closing the iterator stops everything.
"""

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Protocol

import torch

from lightning_robust.cells.attempt import LOG, Event, Failed, Finished, Started, Task, Work, attempt
from lightning_robust.cells.errors import StudyArgumentError, WorkersError

_GRACE = 2.0  # seconds between asking a worker to end and ending it
_STILLBORN = 3  # workers in a row that end before they begin, which ends the study


class Launcher(Protocol):
    """Where attempts run; see the head of this file."""

    def __call__(self, work: Work, pending: deque[Task]) -> Generator[Event, None, None]:
        """Run until nothing is pending and nothing under way."""
        ...


@dataclass(frozen=True, kw_only=True)
class Inline:
    """One cell after the other in this process, with `threads` threads of torch; None leaves them as they are."""

    threads: int | None = None

    def __post_init__(self) -> None:
        if self.threads is not None:
            check_count("threads", self.threads, 1)

    def __call__(self, work: Work, pending: deque[Task]) -> Generator[Event, None, None]:
        """Run the tasks here."""
        threads = torch.get_num_threads()
        torch.set_num_threads(self.threads or threads)
        try:
            while pending:
                task = pending.popleft()
                yield Started(task)
                yield attempt(work, task)
        finally:
            torch.set_num_threads(threads)


@dataclass(frozen=True, kw_only=True)
class Processes:
    """Fresh processes on this machine, each with a cell at a time.

    A worker that dies (out of memory, a crash in native code) costs its cell an attempt and is replaced. When this
    process ends, however it ends, so do its workers. What a cell prints goes to `log.txt` in its folder. Where there is
    more than one worker, the GPUs are dealt out among them.

    A script must start the study under `if __name__ == "__main__":`, as `multiprocessing` demands.

    Args:
        workers: how many at once.
        threads: threads of torch and BLAS in each; None shares the cores out.

    Raises:
        StudyArgumentError: a count below one; or, when run, a `work` that cannot be pickled.
    """

    workers: int = 1
    threads: int | None = None

    def __post_init__(self) -> None:
        check_count("workers", self.workers, 1)
        if self.threads is not None:
            check_count("threads", self.threads, 1)

    def __call__(self, work: Work, pending: deque[Task]) -> Generator[Event, None, None]:
        """Run the tasks in as many processes as are needed at once."""
        payload = _pickled(work)
        threads = self.threads or max(1, cores() // self.workers)
        devices = share(_visible_devices(), self.workers)
        lanes: dict[int, _Lane] = {}
        begun, stillborn = False, 0
        try:
            while True:
                for lane in lanes.values():
                    if pending and lane.idle:
                        yield Started(lane.hand(pending.popleft()))
                if not pending and not any(lane.task for lane in lanes.values()):
                    return
                starting = sum(not lane.ready for lane in lanes.values())
                vacant = [slot for slot in range(self.workers) if slot not in lanes]
                for slot in vacant[: max(0, len(pending) - starting)]:
                    with _deaf_to_the_keyboard():
                        lanes[slot] = _Lane(payload, threads, devices[slot])
                heard = wait([lane.connection for lane in lanes.values() if not lane.idle])
                for slot, lane in [each for each in lanes.items() if each[1].connection in heard]:
                    try:
                        said = lane.connection.recv()
                    except (EOFError, OSError):
                        del lanes[slot]
                        ended = lane.bury()
                        if lane.task is not None:
                            yield Failed(lane.task, ended)
                            continue
                        stillborn += 1
                        if stillborn == _STILLBORN or not begun:
                            raise WorkersError(
                                f"{ended.strip()} It had not begun; what it printed is above. A script must start the"
                                ' study under `if __name__ == "__main__":`, and its work must lie in a file or module.'
                            ) from None
                        continue
                    match said:
                        case str():
                            raise WorkersError(f"The workers cannot read the work:\n{said}")
                        case Finished() | Failed():
                            lane.task = None
                            yield said
                        case _:
                            lane.ready = begun = True
                            stillborn = 0
        finally:
            stop([lane.process for lane in lanes.values()])


class _Lane:
    """A worker process, the line to it, whether it has begun, and the task it is at."""

    def __init__(self, payload: bytes, threads: int, devices: str | None):
        spawn = multiprocessing.get_context("spawn")
        self.connection, theirs = spawn.Pipe()
        self.process: SpawnProcess = spawn.Process(target=_serve, args=(theirs, threads), name="study-worker")
        self.task: Task | None = None
        self.ready = False
        count = str(threads)
        variables = {"OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count, "OPENBLAS_NUM_THREADS": count}
        if devices is not None:
            variables["CUDA_VISIBLE_DEVICES"] = devices
        with _environment(variables):
            self.process.start()
        theirs.close()
        with suppress(OSError):
            self.connection.send_bytes(payload)

    @property
    def idle(self) -> bool:
        """Whether it has begun and waits for a task."""
        return self.ready and self.task is None

    def hand(self, task: Task) -> Task:
        """Give the worker a task; where it has died meanwhile, `receive` says so."""
        with suppress(OSError):
            self.connection.send(task)
        self.task = task
        return task

    def bury(self) -> str:
        """Say how the worker ended, and see that it has."""
        self.process.join(_GRACE)
        stop([self.process])
        code = self.process.exitcode
        ended = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        hint = " Often that is the system, out of memory: try fewer workers." if code == -9 else ""
        return f"The worker process {self.process.pid} ended with {ended}.{hint}\n"


def _serve(connection: Connection, threads: int) -> None:
    """What a worker does: read the work, then answer each task with its outcome until the line is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    try:
        work: Work = pickle.loads(connection.recv_bytes())
    except Exception:
        connection.send(traceback.format_exc())
        return
    connection.send(None)
    while True:
        try:
            task: Task = connection.recv()
        except EOFError:
            return
        try:
            event = attempt(work, task, log=LOG)
        except SystemExit:
            event = Failed(task, traceback.format_exc())
        connection.send(event)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def stop(processes: Sequence[SpawnProcess]) -> None:
    """End processes, by force where they do not end when asked; what they were writing is dropped whole."""
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(_GRACE)
        if process.is_alive():
            process.kill()
            process.join()


def cores() -> int:
    """The cores this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def share(devices: Sequence[str], workers: int) -> list[str | None]:
    """For each worker the devices it may see, as `CUDA_VISIBLE_DEVICES` wants them; None leaves it as it is.

    More devices than workers: each has its own. Fewer: they take turns. A single worker sees all.

    Example:
        >>> share(["0", "1", "2"], 2), share(["0", "1"], 3), share(["0", "1"], 1), share([], 2)
        (['0,2', '1'], ['0', '1', '0'], [None], [None, None])
    """
    if not devices or workers == 1:
        return [None] * workers
    return [",".join(devices[at % len(devices) :: workers]) for at in range(workers)]


def check_count(argument: str, value: int, least: int) -> None:
    """Refuse what is not an integer of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise StudyArgumentError(f"Expected argument `{argument}` to be an integer >= {least}, but got {value!r}.")


def _pickled(work: Work) -> bytes:
    try:
        return pickle.dumps(work)
    except Exception as error:
        raise StudyArgumentError(
            "Expected argument `work` to be a function at the top of a module or a frozen dataclass, so that other"
            f" processes can read it, but got {work!r} ({error})."
        ) from error


def _visible_devices() -> list[str]:
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [device.strip() for device in chosen.split(",") if device.strip()]
    return [str(device) for device in range(torch.cuda.device_count())]


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Set variables of the environment for processes started in the block."""
    with ExitStack() as back:
        for name, value in variables.items():
            old = os.environ.get(name)
            back.callback(os.environ.pop, name, None) if old is None else back.callback(os.environ.update, {name: old})
            os.environ[name] = value
        yield


@contextmanager
def _deaf_to_the_keyboard() -> Iterator[None]:
    """Let processes started in the block inherit a blocked SIGINT: Ctrl-C speaks to this process alone, after it."""
    if sys.platform == "win32":
        yield
        return
    old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)
