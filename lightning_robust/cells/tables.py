"""The tidy table of a study: one row per measurement, one column per name, as CSV and, with pyarrow, Parquet."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_robust.cells.cells import Scalar
from lightning_robust.cells.errors import StudyArgumentError
from lightning_robust.cells.files import replacing


def columns(rows: Sequence[Mapping[str, Scalar]]) -> list[str]:
    """All names, in the order of their first appearance.

    Example:
        >>> columns([{"n": 500, "acc": 0.9}, {"n": 500, "attack": "pgd", "acc": 0.4}])
        ['n', 'acc', 'attack']
    """
    return list(dict.fromkeys(name for row in rows for name in row))


def write_table(rows: Sequence[Mapping[str, Scalar]], out: str | Path, name: str = "results") -> list[Path]:
    """Write `results.csv`, and `results.parquet` where pyarrow is installed (the extra `parquet`).

    The CSV is that of RFC 4180, in UTF-8: lines end in CR LF; quotes stand only where they must. Numbers are written so
    that reading them gives the same number; a missing value is empty, truth is `true` or `false`. In the Parquet file a
    column is boolean, int64, float64 or text, whichever is the first that holds all of its values. Both are written
    whole or not at all; a Parquet file that cannot be renewed is removed.

    Args:
        rows: flat rows of scalars; a name that a row lacks is missing there.
        out: the folder.
        name: the files' name without suffix.

    Returns:
        what was written.

    Raises:
        StudyArgumentError: there are no rows.
    """
    if not rows:
        raise StudyArgumentError("Expected argument `rows` to hold at least one row, but got none.")
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    names = columns(rows)
    comma, parquet = folder / f"{name}.csv", folder / f"{name}.parquet"
    with replacing(comma) as new, new.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\r\n")
        writer.writerow(names)
        writer.writerows([_text(row.get(each)) for each in names] for row in rows)
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        parquet.unlink(missing_ok=True)
        return [comma]
    table = pa.table({each: _column(pa, [row.get(each) for row in rows]) for each in names})
    with replacing(parquet) as new:
        pq.write_table(table, new)
    return [comma, parquet]


def _text(value: Scalar) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return json.dumps(value) if isinstance(value, bool | int) else repr(float(value))


def _column(pa: Any, values: list[Scalar]) -> Any:
    there = [value for value in values if value is not None]
    kinds = {type(value) for value in there}
    if kinds == {bool}:
        return pa.array(values, pa.bool_())
    if kinds == {int} and all(-(2**63) <= value < 2**63 for value in there if isinstance(value, int)):
        return pa.array(values, pa.int64())
    if float in kinds and kinds <= {int, float}:
        return pa.array([float(v) if isinstance(v, int | float) else None for v in values], pa.float64())
    return pa.array([None if value is None else _text(value) for value in values], pa.string())
