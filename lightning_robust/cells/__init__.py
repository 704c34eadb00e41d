"""Cells that survive being killed: compute many independent things, each once. What a cell computes is the caller's."""

from lightning_robust.cells.attempt import Work
from lightning_robust.cells.cell import Cell, Row, Scalar, cell_folder, expand
from lightning_robust.cells.executors import Executor, Inline, Ray
from lightning_robust.cells.record import CellsError, describe, load_artifact, save_artifact
from lightning_robust.cells.run import CellsFailedError, CellsLockedError, read_rows, run_cells

__all__ = [
    "Cell",
    "CellsError",
    "CellsFailedError",
    "CellsLockedError",
    "Executor",
    "Inline",
    "Ray",
    "Row",
    "Scalar",
    "Work",
    "cell_folder",
    "describe",
    "expand",
    "load_artifact",
    "read_rows",
    "run_cells",
    "save_artifact",
]
