"""New processes that begin with everything imported: a server, one for each process of pytest, imports it and forks."""

import importlib
import logging
import multiprocessing
import os
import socket
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import torch

TESTS = Path(__file__).parent
METHOD = "forkserver" if sys.platform == "linux" else "spawn"
"""Elsewhere what is imported cannot be forked."""
IMPORTED = (
    "pytest",
    "matplotlib.pyplot",
    "torch._dynamo",
    "torch.distributed.fsdp",
    "tests.processes",
    "tests.compatibility.work",
    "callbacks_ddp",
)
"""Modules that most processes need; what is not installed is left out."""


class Ended(NamedTuple):
    """How a process ended: its exit code, below 0 the signal that killed it, and what it said."""

    code: int | None
    said: str


def run_alone(function: Callable[..., None], *args: Any, timeout: float, check: bool = True) -> Ended:
    """Run a function of a module in a process of its own, which does not outlive this call.

    Args:
        function: It is found by its name.
        args: What pickles.
        timeout: Seconds.
        check: Fail, with what it said, unless its exit code is 0.
    """
    return _run(function, args, [{}], timeout, check)[0]


def run_two_ranks(function: Callable[..., None], *args: Any, timeout: float, check: bool = True) -> list[Ended]:
    """The same in two processes, ranks 0 and 1 of one machine, each with its rank in the environment."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    world = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "NODE_RANK": "0"}
    return _run(function, args, [world | {"RANK": str(i), "LOCAL_RANK": str(i)} for i in range(2)], timeout, check)


def _run(
    function: Callable[..., None], args: tuple[Any, ...], worlds: list[dict[str, str]], timeout: float, check: bool
) -> list[Ended]:
    context = multiprocessing.get_context(METHOD)
    context.set_forkserver_preload(list(IMPORTED))
    path = os.pathsep.join([str(TESTS.parent), str(TESTS), *sys.path])
    deadline, name = time.monotonic() + timeout, (function.__module__, function.__qualname__)
    with tempfile.TemporaryDirectory() as folder:
        logs = [Path(folder) / f"{i}.txt" for i in range(len(worlds))]
        given = zip(worlds, logs, strict=True)
        processes = [context.Process(target=_begin, args=(*name, args, world, str(log))) for world, log in given]
        try:
            with mock.patch.dict(os.environ, PYTHONPATH=path, OMP_NUM_THREADS="1"):
                for process in processes:
                    process.start()
            for process in processes:
                process.join(max(0.0, deadline - time.monotonic()))
            codes = [process.exitcode for process in processes]
        finally:
            for process in processes:
                if process.pid is not None:
                    process.kill()
                    process.join()
        said = [log.read_text("utf-8", "replace") if log.exists() else "" for log in logs]
    ended = [Ended(*one) for one in zip(codes, said, strict=True)]
    assert not check or not any(code != 0 for code in codes), told(ended)
    return ended


def told(ended: list[Ended]) -> str:
    """How processes ended, for a person."""
    ways = ("ran out of its time" if code is None else f"ended with exit code {code}" for code, _ in ended)
    return "\n".join(f"process {i} {way}: {ended[i].said[-3000:]}" for i, way in enumerate(ways))


def _begin(module: str, name: str, args: tuple[Any, ...], world: Mapping[str, str], log: str) -> None:
    """What the new process does."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.environ.update(world)
    sys.path[:0] = [str(TESTS.parent), str(TESTS)]
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    getattr(importlib.import_module(module), name)(*args)
