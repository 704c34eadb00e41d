"""Grids of cells that survive being killed: the machinery of the studies. It knows nothing of what a cell computes."""

from lightning_robust.cells.attempt import Work
from lightning_robust.cells.axes import choose, expand
from lightning_robust.cells.cells import Cell, Row
from lightning_robust.cells.errors import (
    CellsFailedError,
    DamagedFileError,
    RowsError,
    StudyArgumentError,
    StudyError,
    StudyLockedError,
    WorkersError,
)
from lightning_robust.cells.files import load_artifact, save_artifact
from lightning_robust.cells.ray_workers import Ray
from lightning_robust.cells.records import Record, cell_folder
from lightning_robust.cells.run import read_rows, run_grid
from lightning_robust.cells.tables import write_table
from lightning_robust.cells.workers import Inline, Launcher, Processes

__all__ = [
    "Cell",
    "CellsFailedError",
    "DamagedFileError",
    "Inline",
    "Launcher",
    "Processes",
    "Ray",
    "Record",
    "Row",
    "RowsError",
    "StudyArgumentError",
    "StudyError",
    "StudyLockedError",
    "Work",
    "WorkersError",
    "cell_folder",
    "choose",
    "expand",
    "load_artifact",
    "read_rows",
    "run_grid",
    "save_artifact",
    "write_table",
]
