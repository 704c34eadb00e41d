"""Grids of cells that survive being killed: the machinery of the studies. It knows nothing of what a cell computes."""

from lightning_robust.studies.grid.attempt import Work
from lightning_robust.studies.grid.axes import choose, expand
from lightning_robust.studies.grid.cells import Cell, Row
from lightning_robust.studies.grid.errors import (
    CellsFailedError,
    DamagedFileError,
    RowsError,
    StudyArgumentError,
    StudyError,
    StudyLockedError,
    WorkersError,
)
from lightning_robust.studies.grid.files import load_artifact, save_artifact
from lightning_robust.studies.grid.ray_workers import Ray
from lightning_robust.studies.grid.records import Record, cell_folder
from lightning_robust.studies.grid.run import read_rows, run_grid
from lightning_robust.studies.grid.tables import write_table
from lightning_robust.studies.grid.workers import Inline, Launcher, Processes

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
