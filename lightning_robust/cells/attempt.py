"""One attempt at one cell, wherever it runs."""

import os
import random
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from lightning_robust._files import write_text
from lightning_robust.cells.cell import Row, digest, label
from lightning_robust.cells.record import Record, write_record

Work: TypeAlias = Callable[[Row, Path], Sequence[Mapping[str, Any]]]
"""What computes a cell: `(cell, folder) -> rows`."""

FAILED, LOG = "failed.txt", "log.txt"


@dataclass(frozen=True, eq=False)
class Call:
    """A cell to compute.

    Args:
        work: `(cell, folder) -> rows`.
        cell: the cell.
        folder: its folder.
        description: of the work.
        threads: CPU threads of torch; None leaves them as they are.
    """

    work: Work
    cell: Row
    folder: Path
    description: dict[str, str]
    threads: int | None


def attempt(call: Call) -> Record | str:
    """Compute a cell and write its record.

    As long as it is under way, `failed.txt` says so, and after an error it holds the traceback. So a cell whose process
    was killed can be known.

    Returns:
        the record, or the last line of the traceback. Exits and interruptions pass through.
    """
    failed = call.folder / FAILED
    try:
        call.folder.mkdir(parents=True, exist_ok=True)
        for half_written in call.folder.glob(".*.tmp"):
            half_written.unlink(missing_ok=True)
        write_text(failed, f"{label(call.cell)}\n\nBegun by process {os.getpid()}, and not ended.\n")
        with fresh_state(int(digest(call.cell)[:8], 16), call.threads):
            start = time.perf_counter()
            rows = call.work(dict(call.cell), call.folder)
            seconds = time.perf_counter() - start
        record = write_record(call.folder, call.cell, rows, seconds, call.description)
        failed.unlink()
    except BaseException as error:
        with suppress(OSError):  # the disk may be full, which the last line says too
            write_text(failed, f"{label(call.cell)}\n\n{traceback.format_exc()}")
        if not isinstance(error, Exception):
            raise
        return traceback.format_exception_only(error)[-1].strip()
    return record


def attempt_in_worker(call: Call) -> Record | str:
    """The same in a process that does nothing else: what it prints, native code included, goes to `log.txt`."""
    call.folder.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    with (call.folder / LOG).open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    return attempt(call)


@contextmanager
def fresh_state(seed: int, threads: int | None) -> Iterator[None]:
    """Seeded random streams of Python, numpy and torch and torch's default settings, put back after the block."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002  it is the global stream that is kept
    dtype, deterministic = torch.get_default_dtype(), torch.get_deterministic_debug_mode()
    threads_before = torch.get_num_threads()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices), torch.enable_grad():
        try:
            torch.set_default_dtype(torch.float32)
            torch.set_deterministic_debug_mode(0)
            torch.set_num_threads(threads or threads_before)
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            torch.manual_seed(seed)
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002
            torch.set_default_dtype(dtype)
            torch.set_deterministic_debug_mode(deterministic)
            torch.set_num_threads(threads_before)
