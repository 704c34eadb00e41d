"""What is kept of a finished cell: `rows.json` with a checksum, and files of tensors beside it."""

import dataclasses
import functools
import hashlib
import json
import logging
import platform
import re
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FunctionType
from typing import Any

import torch

from lightning_robust import __version__
from lightning_robust._files import replacing, write_text
from lightning_robust.cells.cell import Cell, Row, Scalar, canonical, label

_log = logging.getLogger(__name__)

ROWS = "rows.json"


class CellsError(Exception):
    """Cells cannot be computed or read; the message says what to do."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """A finished cell: its rows, the seconds it took, what computed it (see `describe`), and versions."""

    cell: Row
    rows: list[Row]
    seconds: float
    work: dict[str, str]
    versions: dict[str, str]


def write_record(folder: Path, cell: Row, rows: object, seconds: float, work: dict[str, str]) -> Record:
    """Write the rows of a cell into its folder. Python's `NaN` and `Infinity` are written as such.

    Raises:
        TypeError: `rows` is no sequence of flat rows.
        ValueError: a row contradicts its cell.
    """
    versions = {"python": platform.python_version(), "torch": str(torch.__version__), "lightning_robust": __version__}
    record = Record(cell=cell, rows=tidy(cell, rows), seconds=round(seconds, 3), work=work, versions=versions)
    content = dataclasses.asdict(record)
    text = json.dumps({"checksum": _checksum(content), **content}, indent=1, ensure_ascii=False)
    write_text(folder / ROWS, f"{text}\n")
    return record


def read_record(folder: Path, cell: Cell | None = None) -> Record | None:
    """The record in the folder of a cell; None where there is none yet.

    Raises:
        CellsError: it is damaged, or of another cell than `cell`.
    """
    path = folder / ROWS
    try:
        content = json.loads(path.read_bytes())
        checksum = content.pop("checksum")
        record = Record(**content)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CellsError(f"{path} is damaged: it is no whole record ({error}).") from error
    if checksum != _checksum(content):
        raise CellsError(f"{path} is damaged: its content does not match its checksum.")
    if cell is not None and canonical(cell) != canonical(record.cell):
        raise CellsError(f"{path} is damaged: it is of another cell, {label(record.cell)}.")
    return record


def finished(folder: Path, cell: Cell) -> Record | None:
    """The record of a cell, if it is there and whole; a damaged one is set aside with a warning."""
    try:
        return read_record(folder, cell)
    except CellsError as error:
        aside = folder / f"{ROWS}.damaged-{uuid.uuid4().hex[:8]}"
        (folder / ROWS).rename(aside)
        _log.warning("%s It is kept as %s, and this cell alone is computed again.", error, aside.name)
        return None


def tidy(cell: Cell, rows: object) -> list[Row]:
    """The rows, each with the names of its cell first; zero-dimensional arrays and tensors become scalars.

    Example:
        >>> tidy({"n": 500}, [{"attack": "pgd", "acc": torch.tensor(0.5)}])
        [{'n': 500, 'attack': 'pgd', 'acc': 0.5}]
    """
    if not isinstance(rows, Sequence) or not all(isinstance(row, Mapping) for row in rows):
        raise TypeError(f"Expected the work to return a sequence of rows, but for {label(cell)} got {rows!r:.200}.")
    tidied: list[Row] = []
    for row in rows:
        scalars = {name: value.item() if getattr(value, "ndim", None) == 0 else value for name, value in row.items()}
        for name, value in scalars.items():
            if not isinstance(name, str) or not isinstance(value, Scalar):
                raise TypeError(
                    f"Expected the rows of {label(cell)} to hold scalars, but `{name}` is {value!r:.200}. "
                    "Write arrays into the cell's folder."
                )
            if name in cell and cell[name] != value:
                raise ValueError(
                    f"Expected a row of {label(cell)} to leave `{name}` as it is, but got {value!r}. Rename it."
                )
        tidied.append({**cell, **scalars})
    return tidied


def describe(work: Any) -> dict[str, str]:
    """What computes the cells: its name and, of a dataclass, the values of its fields, nested ones by dotted names.

    Two works with equal descriptions count as the same. Declare a field that cannot change a result, such as the device
    or the folder of the data, with `field(repr=False)`: it is left out. Addresses in memory are left out too.

    Example:
        >>> describe(functools.partial(describe, 3, work="x"))
        {'work': 'describe', '0': '3', 'work.work': "'x'"}
    """
    match work:
        case functools.partial():
            arguments = {str(place): repr(value) for place, value in enumerate(work.args)}
            arguments |= {f"work.{name}": repr(value) for name, value in work.keywords.items()}
            description = describe(work.func) | arguments
        case FunctionType():
            description = {"work": work.__qualname__}
        case _:
            description = {"work": type(work).__qualname__, **_fields(work)}
    return {name: re.sub(r" at 0x[0-9a-fA-F]+", "", value) for name, value in description.items()}


def _fields(work: Any, prefix: str = "") -> dict[str, str]:
    values: dict[str, str] = {}
    for field in dataclasses.fields(work) if dataclasses.is_dataclass(work) else ():
        value, name = getattr(work, field.name), prefix + field.name
        if field.repr:
            nested = _fields(value, f"{name}.") if not isinstance(value, type) else {}
            values |= nested or {name: repr(value)}
    return values


def differences(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """What differs between two descriptions of `describe`.

    Example:
        >>> differences({"work": "Train", "options.steps": "20"}, {"work": "Train", "options.steps": "7"})
        '`options.steps` was 20 and is 7'
    """
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    texts = [f"`{n}` was {before.get(n, 'not there'):.100} and is {now.get(n, 'not there'):.100}" for n in names]
    return ", ".join(texts[:5]) + (" and so on" if len(texts) > 5 else "")


def save_artifact(path: Path, obj: Mapping[str, Any] | list[Any] | torch.Tensor) -> None:
    """Write tensors, or nested dicts and lists of tensors and scalars such as a state dict, whole or not at all.

    It is read back safely before it counts as written, so that what is saved can be loaded.

    Raises:
        TypeError: `obj` holds something that `load_artifact` would refuse, such as a whole module.
        OSError: it could not be written.
    """
    with replacing(path) as temporary:
        try:
            torch.save(obj, temporary)
        except RuntimeError as error:  # torch's error for a write that failed
            raise OSError(f"{path} could not be written. Is the disk full? ({error})") from error
        try:
            torch.load(temporary, map_location="cpu", weights_only=True, mmap=True)
        except Exception:  # torch's own text advises to load it unsafely
            raise TypeError(
                f"Expected argument `obj` to hold tensors, dicts, lists and scalars alone, but got "
                f"{type(obj).__name__} that cannot be read back safely. Save `module.state_dict()`."
            ) from None


def load_artifact(path: Path, *, map_location: str | torch.device = "cpu") -> Any:
    """Read what `save_artifact` wrote; nothing in the file is executed.

    Raises:
        FileNotFoundError: there is none.
        CellsError: it is there and cannot be read.
    """
    try:
        return torch.load(path, map_location=map_location, weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:  # torch's own text advises to load it unsafely
        raise CellsError(
            f"{path} cannot be read ({type(error).__name__}): it is damaged, or holds objects that are never loaded. "
            "Delete the folder it lies in and run the same again: only this cell is computed again."
        ) from None


def _checksum(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
