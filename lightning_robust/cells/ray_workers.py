"""A launcher for many machines: the same tasks as Ray tasks. Needs the extra `ray`."""

import traceback
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from lightning_robust.cells.attempt import LOG, Event, Failed, Finished, Started, Task, Work, attempt
from lightning_robust.cells.errors import StudyArgumentError
from lightning_robust.cells.workers import check_count


@dataclass(frozen=True, kw_only=True)
class Ray:
    """The machines of a Ray cluster, or this one as a cluster of its own.

    The study's folder must lie on a file system that all machines share, and the package, and the module that `work`
    comes from, must be installed on all of them. A cluster that the program has joined already, by `ray.init` with any
    options, is used and left as it is. Ray itself repeats nothing: a lost machine costs its cells an attempt.

    Args:
        address: of the cluster, such as "auto" or "ray://host:10001"; None joins the one that the environment names,
            or starts one on this machine.
        workers: how many cells at once; None means as many as the cluster has room for at the time.
        threads: cores and threads of torch for each cell.
        gpus: GPUs for each cell; a fraction shares one.

    Raises:
        StudyArgumentError: a count below one, a negative number of GPUs, or, when run, no Ray.
    """

    address: str | None = None
    workers: int | None = None
    threads: int = 1
    gpus: float = 0.0

    def __post_init__(self) -> None:
        if self.workers is not None:
            check_count("workers", self.workers, 1)
        check_count("threads", self.threads, 1)
        if self.gpus < 0:
            raise StudyArgumentError(f"Expected argument `gpus` to be >= 0, but got {self.gpus!r}.")

    def __call__(self, work: Work, pending: deque[Task]) -> Generator[Event, None, None]:
        """Keep as many tasks under way as there is room for."""
        ray = _ray()
        joined = not ray.is_initialized()
        if joined:
            ray.init(address=self.address, log_to_driver=False)
        shared = ray.put(work)
        remote = ray.remote(num_cpus=self.threads, num_gpus=self.gpus, max_retries=0)(_attempt)
        under_way: dict[Any, Task] = {}
        try:
            while pending or under_way:
                while pending and len(under_way) < self._room(ray):
                    task = pending.popleft()
                    under_way[remote.remote(shared, task, self.threads)] = task
                    yield Started(task)
                ready, _ = ray.wait(list(under_way), num_returns=1, timeout=10.0)
                for reference in ready:
                    yield _outcome(ray, reference, under_way.pop(reference))
        finally:
            for reference in under_way:
                ray.cancel(reference, force=True)
            if joined:
                ray.shutdown()

    def _room(self, ray: Any) -> int:
        if self.workers is not None:
            return self.workers
        resources = ray.cluster_resources()
        room = int(resources.get("CPU", 1.0) // self.threads)
        if self.gpus > 0:
            room = min(room, int(resources.get("GPU", 0.0) / self.gpus))
        return max(1, room)


def _attempt(work: Work, task: Task, threads: int) -> Finished | Failed:

    import torch

    torch.set_num_threads(threads)
    try:
        return attempt(work, task, log=LOG)
    except SystemExit:
        return Failed(task, traceback.format_exc())


def _outcome(ray: Any, reference: Any, task: Task) -> Finished | Failed:
    try:
        event: Finished | Failed = ray.get(reference)
    except ray.exceptions.RayError as error:
        return Failed(task, f"Ray lost the cell: {type(error).__name__}: {error}\n")
    return event


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise StudyArgumentError(
            "Expected Ray to be installed for the launcher 'ray': pip install 'lightning-robust[ray]'."
        ) from error
    return ray
