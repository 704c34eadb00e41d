r"""Compute many independent cells so that nothing is lost and nothing is computed twice.

A cell is a flat mapping such as `{"scheme": "normal", "n": 500, "seed": 0}`; a `work` turns it into rows, flat mappings
too. Each finished cell is one file, `folder/<name>-<digest>/rows.json`, which is there whole or not at all, and the set
of these files is the whole state. So a run that was killed at any moment goes on when it is started again, and a larger
set of cells over the same folder computes only the new ones.

    cells = expand(scheme=["normal", "on-true"], n=[500, 2500], seed=range(5))
    rows = run_cells(cells, train, "runs/mine/models", workers=2)
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from lightning_robust import _checks
from lightning_robust._files import write_text
from lightning_robust.cells.attempt import FAILED, Call, Work, attempt
from lightning_robust.cells.cell import Cell, Row, cell_folder, checked_cells, label
from lightning_robust.cells.executors import Executor, Outcome, on_this_machine, outcomes
from lightning_robust.cells.record import ROWS, CellsError, Record, describe, differences, finished, read_record


class CellsLockedError(CellsError):
    """Another run is at work in the same folder."""


class CellsFailedError(CellsError):
    """Some cells failed; the others are finished and stay.

    Attributes:
        rows: the rows of all cells that are finished.
        failures: for each cell that failed, by its folder, the last line of its traceback.
    """

    def __init__(self, rows: Sequence[Row], failures: Mapping[Path, str]) -> None:
        self.rows, self.failures = list(rows), dict(failures)
        lines = [f"  {folder / FAILED}: {reason}" for folder, reason in failures.items()]
        super().__init__(
            f"{len(failures)} cell(s) failed; all others are finished and kept. Tracebacks:\n"
            + "\n".join(lines)
            + "\nRun the same again to compute only what is missing."
        )

    def __reduce__(self) -> tuple[type, tuple[list[Row], dict[Path, str]]]:
        return type(self), (self.rows, self.failures)


def run_cells(
    cells: Iterable[Cell],
    work: Work,
    folder: str | Path,
    *,
    executor: Executor | None = None,
    workers: int = 1,
    threads: int | None = None,
    progress: bool = True,
    cost: Callable[[Cell], float] | None = None,
) -> list[Row]:
    """Compute the cells that are not finished yet, and give the rows of all.

    Every cell starts from random streams of Python, numpy and torch that depend on the cell alone, and from torch's
    default settings. So results are the same wherever and after whatever a cell runs, at equal `threads`.

    Args:
        cells: what to compute; see `expand`.
        work: `(cell, folder) -> rows`, such as a function or a frozen dataclass. The folder is the cell's own, for
            files such as weights (`save_artifact`); it may hold what an attempt that was killed left there. A row may
            leave out the names of its cell: they are put in front.
        folder: where the folders of the cells lie. It holds cells of one work; see `describe`.
        executor: computes the cells; see `lightning_robust.cells.executors`. None: processes of this machine, in which
            a cell prints to `log.txt` in its folder.
        workers: number of these processes.
        threads: CPU threads of torch for each cell. None: these processes have `OMP_NUM_THREADS` of the environment, or
            share the cores out where it is not set; other executors keep what they have.
        progress: show a bar on a terminal, or print a line per cell elsewhere, both to the error stream.
        cost: the cost of a cell, in any unit; the most expensive cells start first, and the time left is by cost.

    Returns:
        The rows, in the order of the cells.

    Raises:
        CellsError: the folder holds finished cells of another work; nothing has run.
        CellsLockedError: another run is at work in the folder.
        CellsFailedError: cells failed. All others are finished, and the error holds their rows.

    Example:
        >>> import tempfile
        >>> from lightning_robust.cells import Inline, expand
        >>> def square(cell, folder):
        ...     return [{"square": cell["n"] ** 2}]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run_cells(expand(n=[2, 3]), square, folder, executor=Inline(), progress=False)
        [{'n': 2, 'square': 4}, {'n': 3, 'square': 9}]
    """
    tasks = {cell_folder(_checks.path("folder", folder).resolve(), cell): cell for cell in checked_cells(cells)}
    _checks.function("work", work, "(cell, folder) -> rows")
    _checks.count("workers", workers)
    if threads is not None:
        _checks.count("threads", threads)
    costs = {path: _cost(cell, cost) for path, cell in tasks.items()}
    root = Path(folder).resolve()
    root.mkdir(parents=True, exist_ok=True)
    with _locked(root):
        records = {path: record for path, cell in tasks.items() if (record := finished(path, cell)) is not None}
        description = describe(work)
        _refuse_other_work(records.values(), description, root)
        pending = sorted((path for path in tasks if path not in records), key=lambda path: -costs[path])
        calls = [Call(work, tasks[path], path, description, threads) for path in pending]
        for path in pending:
            (path / FAILED).unlink(missing_ok=True)
        failures: dict[Path, str] = {}
        if executor is None:
            results = on_this_machine(calls, workers, threads)
        else:
            results = outcomes(executor, attempt, calls)
        with closing(results), _shown(progress, len(tasks), {path: costs[path] for path in pending}, root.name) as show:
            for call, outcome in results:
                if isinstance(outcome, Record):
                    records[call.folder] = outcome
                else:
                    failures[call.folder] = str(outcome)
                    if not (call.folder / FAILED).exists():  # it was not begun
                        with suppress(OSError):
                            write_text(call.folder / FAILED, f"{label(call.cell)}\n\n{outcome}\n")
                show(call, outcome)
    rows = [row for path in tasks if path in records for row in records[path].rows]
    if failures:
        raise CellsFailedError(rows, failures)
    return rows


def read_rows(folder: str | Path) -> list[Row]:
    """The rows of all finished cells of a folder, sorted by their cells.

    Raises:
        FileNotFoundError: there is no such folder.
        CellsError: a file is damaged; running the same again computes its cell again.
    """
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"There are no cells in {folder}: it is no folder.")
    records = [read_record(path.parent) for path in Path(folder).glob(f"*/{ROWS}")]
    return [row for record in sorted(filter(None, records), key=_order) for row in record.rows]


def _order(record: Record) -> list[tuple[str, bool, bool, Any]]:
    """A key that sorts by names and values: numbers by size, then text, then None."""
    return [(name, value is None, isinstance(value, str), value or 0) for name, value in record.cell.items()]


def _refuse_other_work(records: Iterable[Record], description: dict[str, str], root: Path) -> None:
    others = [record.work for record in records if record.work != description]
    if others:
        raise CellsError(
            f"The {len(others)} finished cell(s) in {root} were made otherwise: {differences(others[0], description)}. "
            "Results of different settings do not mix: give another folder, or delete these cells."
        )


def _cost(cell: Cell, cost: Callable[[Cell], float] | None) -> float:
    return _checks.number(f"cost({label(cell)})", 1.0 if cost is None else cost(cell), 0, above=True)


def _locked(folder: Path) -> AbstractContextManager[Any]:
    """Hold the folder; the operating system lets go of it when the process ends, however it ends."""
    try:
        return FileLock(folder / ".lock").acquire(timeout=0)
    except Timeout:
        raise CellsLockedError(f"Another run is at work in {folder}. Wait for it or stop it first.") from None


@contextmanager
def _shown(
    progress: bool, total: int, costs: Mapping[Path, float], name: str
) -> Iterator[Callable[[Call, Outcome], None]]:
    """Show a bar on a terminal, else a line for each cell, and give the function that moves them."""
    console = Console(stderr=True, soft_wrap=True, highlight=False, quiet=not progress)
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("{task.fields[left]}")
    done, spent, start = total - len(costs), 0.0, time.monotonic()
    if done:
        console.print(f"{name}: {done if costs else 'all'} of {total} cells are finished already", markup=False)
    bar = Progress(*columns, console=console, disable=not (console.is_terminal and costs))
    with nullcontext() if bar.disable else bar:  # rich 13.0 ends what it does not show with an empty line
        task = bar.add_task(f"{done}/{total} cells", total=sum(costs.values()), left="")

        def show(call: Call, outcome: Outcome) -> None:
            nonlocal done, spent
            done, spent = done + 1, spent + costs[call.folder]
            seconds = (time.monotonic() - start) * (sum(costs.values()) / spent - 1)
            left = f"about {timedelta(seconds=round(seconds))} left" if done < total else ""
            bar.update(task, completed=spent, description=f"{done}/{total} cells", left=left)
            if isinstance(outcome, Record):
                text = "" if console.is_terminal else f"{outcome.seconds:.1f} s"
            else:
                text = f"failed: {outcome}"
            if text:
                text = f"[{done}/{total}] {label(call.cell)}: {text}{', ' * bool(left)}{left}"
                bar.console.print(text, markup=False)

        yield show
