"""Reading tidy tables: a list of rows, each a mapping from column name to value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
Rows = Sequence[Row]


def check_columns(rows: Rows, columns: Iterable[str]) -> None:
    """Refuses an empty table, and a row that lacks one of ``columns``."""
    if not rows:
        raise ValueError("Expected argument `rows` to hold at least one row, but got none.")
    wanted = tuple(columns)
    for i, row in enumerate(rows):
        missing = [column for column in wanted if column not in row]
        if missing:
            raise ValueError(f"Expected argument `rows` to have the columns {wanted}, but row {i} lacks {missing}.")


def distinct(rows: Rows, column: str) -> tuple[Any, ...]:
    """The distinct values of a column, in order of first appearance.

    Example:
        >>> distinct([{"model": "b"}, {"model": "a"}, {"model": "b"}], "model")
        ('b', 'a')
    """
    return tuple(dict.fromkeys(row[column] for row in rows))
