r"""Run a grid of cells so that nothing is lost and nothing is computed twice.

A study is a grid: cells, which are flat mappings such as `{"scheme": "normal", "n": 500, "seed": 0}`, and a work that
turns a cell into rows. Each finished cell is a file `out/<stage>/<name>-<digest>/rows.json`, written in one step of the
file system; the set of these files is the whole state of the study. So a study that was killed at any point, by
whatever, continues when it is started again, and a larger grid over the same folder computes only its new cells.

    rows = run_grid(expand(scheme=["normal", "on-true"], n=[500, 2500], seed=range(5)), train, "out", workers=2)
    write_table(rows, "out")
"""

import logging
import math
from collections import Counter, deque
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from pathlib import Path
from typing import Literal

from rich.console import Console

from lightning_robust.cells.attempt import Failed, Finished, Started, Task, Work, describe, told_apart
from lightning_robust.cells.axes import check_cells
from lightning_robust.cells.cells import Cell, Row, Scalar, canonical, folder_name, label
from lightning_robust.cells.errors import (
    CellsFailedError,
    DamagedFileError,
    StudyArgumentError,
)
from lightning_robust.cells.files import replacing, set_aside
from lightning_robust.cells.locks import folder_lock
from lightning_robust.cells.progress import Account, Display
from lightning_robust.cells.ray_workers import Ray
from lightning_robust.cells.records import FILE, Record, read_record, write_record
from lightning_robust.cells.workers import Inline, Launcher, Processes, check_count

__all__ = ["read_rows", "run_grid"]

_log = logging.getLogger(__name__)

FAILED = "failed.txt"


def run_grid(
    cells: Iterable[Cell],
    work: Work,
    out: str | Path,
    *,
    workers: int = 1,
    threads: int | None = None,
    launcher: Literal["processes", "ray", "inline"] | Launcher = "processes",
    retries: int = 1,
    progress: bool = True,
    stage: str = "models",
    cost: Callable[[Cell], float] | None = None,
) -> list[Row]:
    """Compute the cells that are not finished yet and give the rows of all.

    Args:
        cells: what to compute; see `expand`.
        work: `(cell, folder) -> rows`, a function at the top of a module or a frozen dataclass. The folder is the
            cell's own, for weights and arrays (`save_artifact`); it may hold what an attempt that was killed left
            there. A row may leave out the names of its cell: they are put in front. Two works count as the same where
            `describe` gives the same words.
        out: the study's folder.
        workers: how many cells at once.
        threads: threads of torch for each; None shares the cores out among processes, is 1 with Ray, and changes
            nothing inline.
        launcher: "processes" on this machine, "ray" for a cluster, "inline" for this process; or a launcher with
            options of its own, such as `Ray(address="auto", gpus=1)`, which then has its own `workers` and `threads`.
        retries: further attempts at a cell that failed.
        progress: show a bar on a terminal, or print a line per cell elsewhere, both to the error stream.
        stage: the folder within `out`, for studies of more than one stage.
        cost: what a cell costs, in any unit; makes the time left meaningful and runs the dearest cells first.

    Returns:
        the rows, in the order of the cells.

    Raises:
        StudyArgumentError: an argument is wrong, or the folder holds finished cells of this grid that another work
            made; nothing has run.
        StudyLockedError: another run is at work in the folder.
        CellsFailedError: cells failed on every attempt. All others are finished, and the error holds their rows. The
            tracebacks are in `failed.txt` in the cells' folders.
        WorkersError: the workers cannot be started.

    Example:
        >>> import tempfile
        >>> from lightning_robust.cells import expand
        >>> def square(cell, folder):
        ...     return [{"square": cell["n"] ** 2}]
        >>> with tempfile.TemporaryDirectory() as out:
        ...     run_grid(expand(n=[2, 3]), square, out, launcher="inline", progress=False)
        [{'n': 2, 'square': 4}, {'n': 3, 'square': 9}]
    """
    checked = check_cells(cells)
    check_count("retries", retries, 0)
    if not callable(work):
        raise StudyArgumentError(f"Expected argument `work` to be callable, but got {work!r}.")
    launch, lanes = _launcher(launcher, workers, threads)
    costs = {canonical(cell): _cost(cell, cost) for cell in checked}
    root = _root(out, stage)
    root.mkdir(parents=True, exist_ok=True)
    with folder_lock(root):
        tasks = [Task(cell, root / folder_name(cell)) for cell in checked]
        records = _finished(tasks)
        _refuse_other_work(records, work, root)
        todo = [task for task in tasks if task.folder not in records]
        if cost is not None:
            todo.sort(key=lambda task: -costs[canonical(task.cell)])
        spent = {canonical(record.cell): record.seconds for record in records.values()}
        account = Account(costs, lanes=max(1, min(lanes, len(todo))), spent=spent)
        display = Display(account, Console(stderr=True), quiet=not progress)
        failures = _compute(work, deque(todo), launch, retries, display, records) if todo else {}
    rows = [row for task in tasks if task.folder in records for row in records[task.folder].rows]
    if failures:
        raise CellsFailedError(rows, failures)
    return rows


def read_rows(out: str | Path, stage: str = "models") -> list[Row]:
    """The rows of all finished cells of a stage, whatever grid they came from, sorted by their cells.

    Raises:
        FileNotFoundError: there is no such stage.
        DamagedFileError: a cell's file is damaged; running the study again computes that cell again.
    """
    root = _root(out, stage)
    if not root.is_dir():
        raise FileNotFoundError(f"There is no stage {stage!r} of a study in {out}: {root} is no folder.")
    found = [read_record(path.parent) for path in root.glob(f"*/{FILE}")]
    records = sorted((record for record in found if record is not None), key=lambda record: _order(record.cell))
    return [row for record in records for row in record.rows]


def _compute(
    work: Work, pending: deque[Task], launch: Launcher, retries: int, display: Display, records: dict[Path, Record]
) -> dict[Path, str]:
    """Run what is pending, add to `records`, and give the last lines of what failed for good, by folder."""
    failures: dict[Path, str] = {}
    tracebacks: dict[Path, list[str]] = {task.folder: [] for task in pending}
    try:
        with display.shown(), closing(launch(work, pending)) as events:
            for event in events:
                task = event.task
                match event:
                    case Started():
                        display.started(task.cell)
                    case Finished(record=record):
                        if not (task.folder / FILE).exists():
                            task.folder.mkdir(parents=True, exist_ok=True)
                            write_record(task.folder, record)
                        (task.folder / FAILED).unlink(missing_ok=True)
                        records[task.folder] = record
                        display.finished(task.cell, record.seconds)
                    case Failed():
                        told = tracebacks[task.folder]
                        told.append(event.traceback)
                        last = event.hopeless or len(told) > retries
                        if last:
                            failures[task.folder] = event.reason
                            with suppress(OSError):  # the disk may be full, which the reason says too
                                _write_failure(task, told)
                        else:
                            pending.append(task)
                        display.failed(task.cell, event.reason, last=last)
    except (KeyboardInterrupt, SystemExit):
        done, total = len(display.account.spent), len(display.account.costs)
        display.note(f"Stopped with {done} of {total} cells finished. Run the same again to continue from there.")
        raise
    return failures


def _finished(tasks: Iterable[Task]) -> dict[Path, Record]:
    """The records that are there; a damaged one is set aside with a warning, so that its cell is computed again."""
    records: dict[Path, Record] = {}
    for task in tasks:
        try:
            record = read_record(task.folder, task.cell)
        except DamagedFileError as error:
            aside = set_aside(task.folder / FILE)
            _log.warning("%s. It is kept as %s, and this cell alone is computed again.", error, aside.name)
            continue
        if record is not None:
            records[task.folder] = record
    return records


def _refuse_other_work(records: dict[Path, Record], work: Work, root: Path) -> None:
    others = Counter(record.work for record in records.values() if record.work != describe(work))
    for made_by, count in others.most_common(1):
        raise StudyArgumentError(
            f"The {count} finished cell(s) in {root} were made otherwise: {told_apart(made_by, describe(work))}. "
            "Results of different settings do not mix: give another `out`, or delete these cells."
        )


def _launcher(launcher: str | Launcher, workers: int, threads: int | None) -> tuple[Launcher, int]:
    check_count("workers", workers, 1)
    match launcher:
        case "processes":
            return Processes(workers=workers, threads=threads), workers
        case "ray":
            return Ray(workers=workers, threads=1 if threads is None else threads), workers
        case "inline" if workers == 1:
            return Inline(threads=threads), 1
        case "inline":
            raise StudyArgumentError(
                f"Expected argument `workers` to be 1 for the launcher 'inline', but got {workers}."
            )
        case Processes() | Ray():
            return launcher, launcher.workers or workers
        case str():
            raise StudyArgumentError(
                f"Expected argument `launcher` to be 'processes', 'ray', 'inline' or a launcher, but got {launcher!r}."
            )
    return launcher, workers


def _cost(cell: Row, cost: Callable[[Cell], float] | None) -> float:
    if cost is None:
        return 1.0
    value = float(cost(cell))
    if not (math.isfinite(value) and value > 0):
        raise StudyArgumentError(
            f"Expected argument `cost` to give positive numbers, but got {value} for {label(cell)}."
        )
    return value


def _root(out: str | Path, stage: str) -> Path:
    folder = Path(out).resolve()
    if folder.exists() and not folder.is_dir():
        raise StudyArgumentError(f"Expected argument `out` to be a folder, but {folder} is a file.")
    if stage in ("", "..") or Path(stage).name != stage:
        raise StudyArgumentError(f"Expected argument `stage` to be the plain name of a folder, but got {stage!r}.")
    return folder / stage


def _write_failure(task: Task, tracebacks: list[str]) -> None:
    parts = [f"attempt {at} of {len(tracebacks)}\n{text}" for at, text in enumerate(tracebacks, start=1)]
    task.folder.mkdir(parents=True, exist_ok=True)
    with replacing(task.folder / FAILED) as new:
        new.write_text(f"{label(task.cell)}\n\n" + "\n".join(parts), encoding="utf-8")


def _order(cell: Row) -> list[tuple[str, int, float, str]]:
    """What sorts cells by name and value: numbers by size, then text, then none."""
    return [(name, *_rank(cell[name])) for name in cell]


def _rank(value: Scalar) -> tuple[int, float, str]:
    if value is None:
        return 2, 0.0, ""
    return (1, 0.0, value) if isinstance(value, str) else (0, float(value), "")
