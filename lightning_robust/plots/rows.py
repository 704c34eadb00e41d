"""Reading tidy tables: a list of rows, each a mapping from column name to value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lightning_robust._checks import text

Row = Mapping[str, Any]
Rows = Sequence[Row]


def check_columns(rows: Rows, columns: Iterable[str]) -> None:
    """Refuses an empty table, and a row that lacks one of ``columns``."""
    if not isinstance(rows, Sequence) or not all(isinstance(row, Mapping) for row in rows):
        raise TypeError(f"Expected argument `rows` to be a list of dicts, but got {type(rows).__name__}.")
    if not rows:
        raise ValueError("Expected argument `rows` to hold at least one row, but got none.")
    wanted = tuple(columns)
    for i, row in enumerate(rows):
        missing = [column for column in wanted if column not in row]
        if missing:
            raise ValueError(f"Expected argument `rows` to have the columns {wanted}, but row {i} lacks {missing}.")


def named_columns(rows: Rows, required: Mapping[str, str], **optional: str | None) -> None:
    """Refuses names of columns that are no strings or in no table, by the arguments that name them."""
    columns = {**required, **{name: column for name, column in optional.items() if column is not None}}
    check_columns(rows, [text(name, column) for name, column in columns.items()])


def check_texts(**values: str) -> None:
    """Refuses titles and labels that are no strings; they may be empty."""
    for name, value in values.items():
        text(name, value, empty=True)


def distinct(rows: Rows, column: str) -> tuple[Any, ...]:
    """The distinct values of a column, in order of first appearance.

    Example:
        >>> distinct([{"model": "b"}, {"model": "a"}, {"model": "b"}], "model")
        ('b', 'a')
    """
    return tuple(dict.fromkeys(row[column] for row in rows))
