"""What the studies share: what they need before they run, how stages are run, and how shares of images are told."""

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, Protocol

from rich.console import Console
from torch import Tensor

from lightning_robust._lightning import pl
from lightning_robust.cells import Ray, StudyArgumentError, StudyError, run_grid
from lightning_robust.cells.cells import Cell, Row
from lightning_robust.metrics.intervals import wilson_interval

LAUNCHERS = ("processes", "ray", "inline")


class Running(Protocol):
    """The settings that say where and how a study runs."""

    @property
    def out(self) -> str:
        """The folder of the results."""

    @property
    def workers(self) -> int:
        """How many cells at once."""

    @property
    def threads(self) -> int:
        """CPU threads for each; 0 shares the cores out."""

    @property
    def launcher(self) -> Literal["processes", "ray", "inline"]:
        """What runs them."""

    @property
    def gpus(self) -> float:
        """GPUs for each cell on a Ray cluster."""

    @property
    def progress(self) -> bool:
        """Whether to show progress."""


def run_stage(
    cells: list[Row],
    work: Callable[[Row, Path], list[Row]],
    options: Running,
    stage: str,
    cost: Callable[[Cell], float] | None = None,
) -> list[Row]:
    """Compute the cells of a stage that are not finished, and give the rows of all; see `run_grid`.

    Args:
        cells: of the stage.
        work: `(cell, folder) -> rows`.
        options: of the study.
        stage: its name.
        cost: what a cell costs, in any unit.
    """
    workers = 1 if options.launcher == "inline" else min(options.workers, len(cells))
    on_ray = options.launcher == "ray"
    return run_grid(
        cells,
        work,
        options.out,
        stage=stage,
        workers=workers,
        threads=options.threads or None,
        launcher=Ray(workers=workers, threads=options.threads or 1, gpus=options.gpus) if on_ray else options.launcher,
        progress=options.progress,
        cost=cost,
    )


def ready_folder(out: str | Path) -> Path:
    """The folder of a study, made and found to take files, before anything is computed.

    Raises:
        StudyArgumentError: it cannot be made or written.
    """
    folder = Path(out).resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(2**16))
    except OSError as error:
        raise StudyArgumentError(
            f"Expected argument `out` to be a folder that can be written, but got {folder}: {error.strerror}."
        ) from error
    return folder


def ready_data(make: Callable[[int], pl.LightningDataModule], argument: str, n: int) -> pl.LightningDataModule:
    """Download a data set where it is not there, and see that it has n training images, before anything is computed.

    Args:
        make: from n to the data module.
        argument: what n is called among the settings.
        n: of training images.

    Raises:
        StudyArgumentError: it has not so many.
        StudyError: it can be neither read nor downloaded.
    """
    try:
        data = make(n)
        data.prepare_data()
        data.setup("fit")
    except ValueError as error:
        raise StudyArgumentError(
            f"Expected argument `{argument}` to be numbers of images that the data has, but got {n}. {error}"
        ) from error
    except OSError as error:
        raise StudyError(str(error)) from error
    return data


def note(text: str) -> None:
    """Print a sentence to the error stream."""
    Console(stderr=True, soft_wrap=True, highlight=False).print(text, markup=False)


def share_of(hits: Tensor) -> dict[str, Any]:
    """The share of samples that were hit, (N,) bool, as value, low, high and count, with its 95 % Wilson interval.

    Example:
        >>> import torch
        >>> {name: round(value, 3) for name, value in share_of(torch.tensor([True, False, False, True])).items()}
        {'value': 0.5, 'low': 0.15, 'high': 0.85, 'count': 4}
    """
    low, high = wilson_interval(int(hits.sum()), len(hits))
    return {"value": float(hits.double().mean()), "low": float(low), "high": float(high), "count": len(hits)}


def filled(lines: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines of a table with the columns of all of them, empty where a line has none.

    Example:
        >>> filled([{"n": 1, "a": 2}, {"n": 2, "b": 3}])
        [{'n': 1, 'a': 2, 'b': ''}, {'n': 2, 'a': '', 'b': 3}]
    """
    found = list(lines)
    columns = dict.fromkeys(name for line in found for name in line)
    return [{name: line.get(name, "") for name in columns} for line in found]
