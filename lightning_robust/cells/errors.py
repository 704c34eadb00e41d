"""What can go wrong with a study, as a small tree of exceptions; a command line shows them without a traceback."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from lightning_robust.cells.cells import Row


class StudyError(Exception):
    """Anything a study refuses or cannot finish; the message says what to do."""


class StudyArgumentError(StudyError, ValueError):
    """An argument is wrong; raised before anything runs."""


class StudyLockedError(StudyError):
    """Another run is at work in the same folder."""


class WorkersError(StudyError):
    """The workers cannot be started."""


class RowsError(StudyError, TypeError):
    """The work gave back something that is not a sequence of flat rows; trying again would not help."""


class DamagedFileError(StudyError, ValueError):
    """A file of a study is not what was written: cut short, altered, or of another cell."""


class CellsFailedError(StudyError):
    """Some cells failed on every attempt; the others are finished and stay.

    Attributes:
        rows: the rows of all cells that are finished.
        failures: for each cell that failed, by its folder, the last line of its traceback.
    """

    def __init__(self, rows: Sequence[Row], failures: Mapping[Path, str]):
        self.rows = list(rows)
        self.failures = dict(failures)
        lines = [f"  {folder / 'failed.txt'}: {reason}" for folder, reason in failures.items()]
        super().__init__(
            f"{len(failures)} cell(s) failed; all others are finished and kept. Tracebacks:\n"
            + "\n".join(lines)
            + "\nRun the same again to compute only what is missing."
        )

    def __reduce__(self) -> tuple[type, tuple[list[Row], dict[Path, str]]]:
        return type(self), (self.rows, self.failures)
