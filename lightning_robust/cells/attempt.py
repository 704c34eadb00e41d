"""One attempt at one cell, wherever it runs: here, in a process of this machine, or on another machine."""

import ast
import dataclasses
import functools
import os
import random
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import Any, TypeAlias

import numpy as np
import torch

from lightning_robust.cells.cells import Row, digest
from lightning_robust.cells.errors import RowsError
from lightning_robust.cells.files import remove_leftovers
from lightning_robust.cells.records import Record, tidy, versions, write_record

Work: TypeAlias = Callable[[Row, Path], Sequence[Row]]

LOG = "log.txt"


@dataclass(frozen=True)
class Task:
    """A cell to compute, and the folder its files go to."""

    cell: Row
    folder: Path


@dataclass(frozen=True)
class Started:
    """A cell is being computed."""

    task: Task


@dataclass(frozen=True)
class Finished:
    """A cell is computed and on the disk."""

    task: Task
    record: Record


@dataclass(frozen=True)
class Failed:
    """An attempt failed; `hopeless` where another one would fail the same way."""

    task: Task
    traceback: str
    hopeless: bool = False

    @property
    def reason(self) -> str:
        """The last line of the traceback, which names the error."""
        return self.traceback.strip().rpartition("\n")[2]


Event: TypeAlias = Started | Finished | Failed


def attempt(work: Work, task: Task, *, log: str | None = None) -> Finished | Failed:
    """Compute a cell and write its record.

    The global random streams of Python, numpy and torch start from a seed made of the cell alone and are put back
    afterwards. So a result depends neither on what ran before in the same process nor on where it ran, as far as
    `work` draws from these streams or seeds itself.

    Args:
        work: gives the rows of a cell; files of its own go into the folder. The folder may hold what an earlier
            attempt left there.
        task: the cell and its folder.
        log: the name of a file in the folder that takes what is printed, on the level of the operating system; None
            prints as usual.

    Returns:
        what came of it. An exit or an interruption by the keyboard passes through.
    """
    try:
        task.folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(task.folder)
        with ExitStack() as around:
            if log is not None:
                around.enter_context(_printing_to(task.folder / log))
            around.enter_context(own_streams(int(digest(task.cell)[:8], 16)))
            start = time.perf_counter()
            rows = work(dict(task.cell), task.folder)
            seconds = time.perf_counter() - start
        record = Record(
            cell=task.cell,
            rows=tidy(task.cell, rows),
            seconds=round(seconds, 3),
            work=describe(work),
            versions=versions(),
        )
        write_record(task.folder, record)
    except Exception as error:
        return Failed(task, traceback.format_exc(), hopeless=isinstance(error, RowsError))
    return Finished(task, record)


def describe(work: Callable[..., Any]) -> str:
    """What computes the cells, in words that change when its settings do.

    A function is its name, a dataclass its `repr`; addresses in memory are left out. Declare a field that cannot
    change a result, such as the device or the folder of the data, with `field(repr=False)`.

    Example:
        >>> describe(functools.partial(describe, 3))
        'partial(describe, 3)'
    """
    match work:
        case functools.partial():
            parts = [describe(work.func), *map(repr, work.args), *(f"{k}={v!r}" for k, v in work.keywords.items())]
            text = f"partial({', '.join(parts)})"
        case FunctionType():
            text = work.__qualname__
        case _ if dataclasses.is_dataclass(work):
            text = repr(work)
        case _:
            text = type(work).__qualname__
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text)


def told_apart(was: str, now: str) -> str:
    """What differs between two descriptions of `describe`, by the names of the fields.

    Example:
        >>> told_apart("Train(options=Options(steps=20, eps=0.1))", "Train(options=Options(steps=7, eps=0.1))")
        '`steps` was 20 and is 7'
        >>> told_apart("square", "cube")
        'by square, not by cube'
    """
    before, after = _fields(was), _fields(now)
    words = [
        f"`{path[-1]}` was {before.get(path, 'not there')} and is {after.get(path, 'not there')}"
        for path in dict.fromkeys((*before, *after))
        if path and before.get(path) != after.get(path)
    ]
    if not words:
        return f"by {_short(was)}, not by {_short(now)}"
    return ", ".join(dict.fromkeys(words[:_MOST_TOLD])) + (" and so on" if len(words) > _MOST_TOLD else "")


_MOST_TOLD = 5


def _fields(text: str) -> dict[tuple[str, ...], str]:
    """The values of all named fields of a description, however deep, each by the names that lead to it."""
    found: dict[tuple[str, ...], str] = {}

    def visit(node: ast.expr, path: tuple[str, ...]) -> None:
        if isinstance(node, ast.Call) and (node.args or node.keywords):
            for at, part in enumerate(node.args):
                visit(part, (*path, f"{ast.unparse(node.func)}[{at}]"))
            for keyword in node.keywords:
                visit(keyword.value, (*path, str(keyword.arg)))
        else:
            found[path] = _short(ast.unparse(node))

    # What has no text that Python would read, such as <function f>, is read as one word.
    with suppress(SyntaxError):
        visit(ast.parse(re.sub(r"<[^<>]*>", lambda match: repr(match.group()), text), mode="eval").body, ())
    return found


def _short(text: str) -> str:
    return text if len(text) <= 100 else f"{text[:97]}..."


@contextmanager
def own_streams(seed: int) -> Iterator[None]:
    """Seed the global random streams for the length of a block, then put them back as they were."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002  it is the global stream that is kept
    with torch.random.fork_rng(devices=devices):
        try:
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            torch.manual_seed(seed)
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002


@contextmanager
def _printing_to(path: Path) -> Iterator[None]:
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    with path.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for old, stream in zip(kept, (1, 2), strict=True):
            os.dup2(old, stream)
            os.close(old)
