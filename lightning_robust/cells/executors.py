"""Where cells are computed: anything with `submit(function, *arguments) -> future`.

Executors of `concurrent.futures` (processes, not threads, since a cell uses the global random streams), submitit's
`AutoExecutor` and dask's `Client` do as they are. All machines must share the file system of the folder.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Protocol


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
        import ray

        future: Future[Any] = ray.remote(**self.options)(fn).remote(*args).future()
        return future


@contextmanager
def local_processes(workers: int, threads: int) -> Iterator[Executor]:
    """Processes of this machine: joblib's loky. They end with this process, however it ends, and with the block."""
    from joblib.externals.loky import ProcessPoolExecutor

    variables = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    pool = ProcessPoolExecutor(workers, env=variables, initializer=_begin_worker, initargs=(os.getpid(),))
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
