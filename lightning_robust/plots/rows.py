"""Tidy tables, as figures and pages read them: a list of rows, each a mapping from column name to value."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from lightning_robust import _checks

if TYPE_CHECKING:
    import pandas as pd

Row = Mapping[str, Any]
Rows = Sequence[Row]
_NONE: Mapping[str, str] = MappingProxyType({})


def checked_rows(
    rows: Rows | pd.DataFrame, columns: Mapping[str, str] = _NONE, **optional: str | None
) -> list[dict[str, Any]]:
    """The rows of a table, after checking that it has some, and each has all columns that are named.

    Args:
        rows: a list of dicts or a data frame, whose index is left out and whose missing values become NaN.
        columns: the columns by the arguments of the caller that name them.
        optional: the same for arguments that may be None.

    Example:
        >>> checked_rows([{"epoch": 0, "acc": 0.5}], {"x": "epoch", "y": "error"})
        Traceback (most recent call last):
        ValueError: Expected argument `rows` to have the columns ['epoch', 'error'], but row 0 lacks ['error'].
    """
    named = {**columns, **{name: column for name, column in optional.items() if column is not None}}
    wanted = [_checks.text(name, column) for name, column in named.items()]
    if not isinstance(rows, Sequence) and hasattr(rows, "to_dict"):  # a data frame: pandas need not be imported
        rows = rows.astype(object).where(rows.notna(), math.nan).to_dict("records")
    if not isinstance(rows, Sequence) or not all(isinstance(row, Mapping) for row in rows):
        raise TypeError(
            f"Expected argument `rows` to be a list of dicts or a DataFrame, but got {type(rows).__name__}."
        )
    if not rows:
        raise ValueError("Expected argument `rows` to hold at least one row, but got none.")
    for i, row in enumerate(rows):
        missing = [column for column in wanted if column not in row]
        if missing:
            raise ValueError(f"Expected argument `rows` to have the columns {wanted}, but row {i} lacks {missing}.")
    return [dict(row) for row in rows]


def check_texts(**values: str) -> None:
    """Refuse titles and labels that are no strings; they may be empty."""
    for name, value in values.items():
        _checks.text(name, value, empty=True)
