"""Where cells are computed: anything with `submit(function, *arguments) -> future`.

Executors of `concurrent.futures` (processes, not threads, since a cell uses the global random streams), submitit's
`AutoExecutor` and dask's `Client` do as they are. All machines must share the file system of the folder.
"""

import os
import re
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Future
from contextlib import contextmanager
from typing import Any, Protocol, TypeAlias

from lightning_robust._optional import optional
from lightning_robust.cells.attempt import FAILED, Call, attempt_in_worker
from lightning_robust.cells.record import CellsError, Record, finished

Outcome: TypeAlias = Record | str | BrokenExecutor
"""The record of a cell, else the reason why there is none; where a worker has died, the error of its executor."""
Outcomes: TypeAlias = Generator[tuple[Call, Outcome], None, None]

_POLL = 0.05  # seconds between two looks at the futures


class Executor(Protocol):
    """Anything with `submit`; a future has `done()` and `result()`."""

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Any:
        """Call `fn(*args)` now or later, here or elsewhere."""


class Inline:
    """Calls in this process, one after the other."""

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Future[Any]:
        """Call it now; an interruption by the keyboard or an exit passes through."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args))
        except Exception as error:
            future.set_exception(error)
        return future


class Ray:
    """Tasks of the Ray cluster that the program has joined by `ray.init`, or of one started on this machine.

    Args:
        **options: of `ray.remote`, such as `num_cpus=2` and `num_gpus=0.5` for each cell.
    """

    def __init__(self, **options: Any) -> None:
        self.options = {"max_retries": 0, **options}

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Future[Any]:
        """Start a task."""
        ray = optional("ray", "ray")
        future: Future[Any] = ray.remote(**self.options)(fn).remote(*args).future()
        return future


def outcomes(
    executor: Executor, function: Callable[[Call], Outcome], calls: Sequence[Call], most: int | None = None
) -> Outcomes:
    """Submit all calls, of which at most so many wait at once, and give what becomes of each as soon as it is known."""
    left, waiting = deque(calls), list[tuple[Any, Call]]()
    while left or waiting:
        while left and (most is None or len(waiting) < most):
            call = left.popleft()
            try:
                future = executor.submit(function, call)
            except BrokenExecutor as error:
                yield call, error
                continue
            if future.done():
                yield call, _outcome(future, call)
            else:
                waiting.append((future, call))
        done = [pair for pair in waiting if pair[0].done()]
        waiting = [pair for pair in waiting if pair not in done]
        for future, call in done:
            yield call, _outcome(future, call)
        if waiting and not done:
            time.sleep(_POLL)


def _outcome(future: Any, call: Call) -> Outcome:
    try:
        outcome: Outcome = future.result()
    except (Exception, SystemExit) as error:
        record = finished(call.folder, call.cell)  # a worker may die just after its cell is finished
        return record or (error if isinstance(error, BrokenExecutor) else f"{type(error).__name__}: {error}")
    return outcome


def on_this_machine(calls: Sequence[Call], workers: int, threads: int | None) -> Outcomes:
    """Compute in processes. The death of one ends all: then the cells that were begun run again, each alone."""
    loky = optional("joblib.externals.loky", "report")
    asked = os.environ.get("OMP_NUM_THREADS", "")
    threads = threads or (int(asked) if asked.isdigit() and int(asked) else max(1, loky.cpu_count() // workers))
    while calls:
        broken: list[Call] = []
        with _processes(loky, min(workers, len(calls)), threads) as pool:
            # What loky has not handed to a worker when it is told to stop ends in a traceback of a thread of its own.
            for call, outcome in outcomes(pool, attempt_in_worker, calls, most=2 * workers):
                if isinstance(outcome, BrokenExecutor):
                    broken.append(call)
                    error = outcome
                else:
                    yield call, outcome
        begun = [call for call in broken if (call.folder / FAILED).exists()]
        if broken and not begun:
            raise CellsError(f"The worker processes ended before they began: {error}") from error
        for call in begun:
            if len(begun) == 1:
                codes = ", ".join(re.findall(r"[A-Z]+\(-?\d+\)", str(error)))
                hint = "; SIGKILL(-9) often means out of memory: try fewer workers" if "-9" in codes else ""
                yield call, f"The worker process ended with {codes}{hint}."
            else:
                yield from on_this_machine([call], 1, threads)
        calls = [call for call in broken if call not in begun]


@contextmanager
def _processes(loky: Any, workers: int, threads: int) -> Iterator[Executor]:
    """Processes of loky. They end with this process, however it ends, and with the block."""
    variables = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    pool = loky.ProcessPoolExecutor(workers, env=variables, initializer=_begin_worker, initargs=(os.getpid(),))
    try:
        yield pool
        pool.shutdown()
    finally:
        pool.shutdown(kill_workers=True)


def _begin_worker(parent: int) -> None:
    """Leave Ctrl-C to the parent, and end when it ends: a worker left alone would compute what a new run computes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def end_with_parent() -> None:
        while os.getppid() == parent or os.name == "nt":
            time.sleep(0.1)
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
