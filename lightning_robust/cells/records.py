"""What is kept of a finished cell: one JSON file with its rows and a checksum."""

import hashlib
import json
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lightning_robust.cells.cells import Cell, Row, Scalar, canonical, folder_name, label
from lightning_robust.cells.errors import DamagedFileError, RowsError
from lightning_robust.cells.files import replacing

FILE = "rows.json"


@dataclass(frozen=True, kw_only=True)
class Record:
    """A finished cell.

    Args:
        cell: the cell.
        rows: its rows, each with the names of the cell first.
        seconds: how long the attempt that succeeded took.
        work: what computed it, see `describe`.
        versions: of Python, torch and this package.
    """

    cell: Row
    rows: list[Row]
    seconds: float
    work: str
    versions: dict[str, str] = field(default_factory=dict)


def versions() -> dict[str, str]:
    """The versions that results may depend on."""
    from lightning_robust import __version__

    return {"python": platform.python_version(), "torch": str(torch.__version__), "lightning_robust": __version__}


def cell_folder(out: str | Path, stage: str, cell: Cell) -> Path:
    """Where a cell's files lie, for a later stage that reads what an earlier one left there."""
    return Path(out) / stage / folder_name(cell)


def tidy(cell: Cell, rows: object) -> list[Row]:
    """The rows of a cell, each with the cell's names first; zero-dimensional arrays and tensors become scalars.

    Raises:
        RowsError: `rows` is not a sequence of flat rows, or one contradicts the cell.

    Example:
        >>> tidy({"n": 500}, [{"attack": "pgd", "acc": np.float32(0.5)}])
        [{'n': 500, 'attack': 'pgd', 'acc': 0.5}]
    """
    if not isinstance(rows, Sequence) or isinstance(rows, str):
        raise RowsError(f"Expected the work to give a sequence of rows, but for {label(cell)} it gave {rows!r:.200}.")
    return [_tidy_row(cell, row) for row in rows]


def encode(record: Record) -> bytes:
    """The record as JSON text with the SHA-256 of its content. Python's `NaN` and `Infinity` are written as such."""
    content = asdict(record)
    return (json.dumps({"checksum": _checksum(content), **content}, indent=1, ensure_ascii=False) + "\n").encode()


def decode(data: bytes, cell: Cell | None = None) -> Record:
    """The record in a text that `encode` gave.

    Args:
        data: the text.
        cell: the cell it must be of; None accepts any.

    Raises:
        DamagedFileError: it is no JSON, its content does not match its checksum, or it is of another cell.
    """
    try:
        content = json.loads(data)
    except ValueError as error:
        raise DamagedFileError(f"it is not whole JSON ({error})") from error
    if not isinstance(content, dict) or set(content) != {"checksum", *(each.name for each in fields(Record))}:
        raise DamagedFileError("it is not the record of a cell")
    if content.pop("checksum") != _checksum(content):
        raise DamagedFileError("its content does not match its checksum")
    record = Record(**content)
    if cell is not None and canonical(cell) != canonical(record.cell):
        raise DamagedFileError(f"it is of another cell, {label(record.cell)}")
    return record


def write_record(folder: Path, record: Record) -> None:
    """Write the record into its cell's folder, whole or not at all."""
    with replacing(folder / FILE) as new:
        new.write_bytes(encode(record))


def read_record(folder: Path, cell: Cell | None = None) -> Record | None:
    """The record in a cell's folder; None where there is none yet.

    Raises:
        DamagedFileError: there is one and it is damaged; the message names the file and says how.
    """
    path = folder / FILE
    try:
        return decode(path.read_bytes(), cell)
    except FileNotFoundError:
        return None
    except DamagedFileError as error:
        raise DamagedFileError(f"{path} is damaged: {error}") from error


def _checksum(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _tidy_row(cell: Cell, row: object) -> Row:
    if not isinstance(row, Mapping):
        raise RowsError(f"Expected a row to be a mapping, but for {label(cell)} got {row!r:.200}.")
    scalars = {name: _scalar(cell, name, value) for name, value in row.items()}
    for name in cell.keys() & scalars.keys():
        if canonical({name: cell[name]}) != _text(name, scalars[name]):
            raise RowsError(
                f"Expected a row of {label(cell)} to leave `{name}` as it is, but got {scalars[name]!r}. Rename it."
            )
    return {**cell, **scalars}


def _text(name: str, value: Scalar) -> str | None:
    finite = not isinstance(value, float) or math.isfinite(value)
    return canonical({name: value}) if finite else None


def _scalar(cell: Cell, name: object, value: object) -> Scalar:
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray | torch.Tensor) and value.ndim == 0):
        value = value.item()
    if not isinstance(name, str) or not isinstance(value, Scalar):
        raise RowsError(
            f"Expected the rows of {label(cell)} to hold scalars, but `{name}` is {value!r:.200}. "
            "Write arrays into the cell's folder."
        )
    return value
