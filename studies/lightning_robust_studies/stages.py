"""What the studies share: what they need before they run, how stages are run, and shares with their interval."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from torch import Tensor

from lightning_robust._command import SettingsError
from lightning_robust._lightning import pl
from lightning_robust.cells import Cell, Executor, Inline, Ray, Row, run_cells
from lightning_robust.metrics import wilson_interval
from lightning_robust_studies.settings import RunSettings


def run_stage(
    cells: list[Row],
    work: Callable[[Row, Path], list[Row]],
    options: RunSettings,
    stage: str,
    cost: Callable[[Cell], float] | None = None,
) -> list[Row]:
    """Compute the cells of a stage that are not finished, and give the rows of all; see `run_cells`.

    Args:
        cells: those of the stage.
        work: `(cell, folder) -> rows`.
        options: settings of the study.
        stage: its name, that of the folder within `options.out`.
        cost: the cost of a cell, in any unit.
    """
    executors: dict[str, Executor | None] = {
        "processes": None,
        "ray": Ray(num_cpus=options.threads or 1, num_gpus=options.gpus),
        "inline": Inline(),
    }
    return run_cells(
        cells,
        work,
        Path(options.out) / stage,
        executor=executors[options.launcher],
        workers=options.workers,
        threads=options.threads or None,
        progress=options.progress,
        cost=cost,
    )


def ready_data(make: Callable[[int], pl.LightningDataModule], argument: str, n: int) -> pl.LightningDataModule:
    """Download a data set where it is not there, and see that it has n training images, before anything is computed.

    Args:
        make: from n to the data module.
        argument: what n is called among the settings.
        n: number of training images.

    Raises:
        SettingsError: the data set is smaller.
        OSError: it can be neither read nor downloaded.
    """
    try:
        data = make(n)
        data.prepare_data()
        data.setup("fit")
    except ValueError as error:
        raise SettingsError(
            f"Expected argument `{argument}` to be numbers of images that the data has, but got {n}. {error}"
        ) from error
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
