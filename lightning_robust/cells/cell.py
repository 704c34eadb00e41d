"""Cells: flat mappings of names to JSON scalars, and the folder that belongs to each."""

import hashlib
import itertools
import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeAlias

from lightning_robust import _checks

Scalar: TypeAlias = str | int | float | bool | None
"""What an entry of a cell or a row may be."""
Cell: TypeAlias = Mapping[str, Scalar]
"""The settings of one piece of work, by name."""
Row: TypeAlias = dict[str, Scalar]
"""A row of a table of results: the settings of its cell and what was measured."""

_NAME_LENGTH = 80


def expand(**axes: Iterable[Scalar]) -> list[Row]:
    """The product of axes as cells, the last axis fastest.

    Args:
        **axes: for each name its values, in order; none twice.

    Example:
        >>> expand(scheme=["normal", "on-true"], n=[500, 2500])[:3]
        [{'scheme': 'normal', 'n': 500}, {'scheme': 'normal', 'n': 2500}, {'scheme': 'on-true', 'n': 500}]
    """
    if not axes:
        raise ValueError("Expected at least one axis, such as expand(n=[500, 2500]), but got none.")
    values = {name: _checks.sequence(name, axis, "a sequence of values") for name, axis in axes.items()}
    for name, axis in values.items():
        if not axis:
            raise ValueError(f"Expected argument `{name}` to hold at least one value, but got none.")
        checked_cells([{name: value} for value in axis], name)
    return [dict(zip(values, point, strict=True)) for point in itertools.product(*values.values())]


def checked_cells(cells: Iterable[Cell], name: str = "cells") -> list[Row]:
    """The cells as plain dictionaries: at least one, each a mapping of texts to finite scalars, none twice."""
    checked: dict[str, Row] = {}
    for cell in _checks.sequence(name, cells, "a sequence of cells, such as expand(n=[500, 2500])"):
        if not isinstance(cell, Mapping) or not cell or not all(isinstance(key, str) and key for key in cell):
            raise TypeError(f"Expected argument `{name}` to hold mappings of names to scalars, but got {cell!r}.")
        for key, value in cell.items():
            if not isinstance(value, Scalar) or (isinstance(value, float) and not math.isfinite(value)):
                raise TypeError(
                    f"Expected argument `{name}` to hold text, finite numbers, True, False and None, "
                    f"but `{key}` is {value!r}."
                )
        if canonical(cell) in checked:
            raise ValueError(f"Expected argument `{name}` to hold each cell once, but got {dict(cell)} twice.")
        checked[canonical(cell)] = dict(cell)
    if not checked:
        raise ValueError(f"Expected argument `{name}` to hold at least one cell, but got none.")
    return list(checked.values())


def canonical(cell: Cell) -> str:
    """The text that identifies a cell: names sorted, and a float without a fraction written as its integer.

    So neither the order of the names nor `8` against `8.0` makes a second cell; `True` and `1` differ.

    Example:
        >>> canonical({"n": 500.0, "eps": 0.3})
        '{"eps":0.3,"n":500}'
    """
    named = {name: _plain(cell[name]) for name in sorted(cell)}
    return json.dumps(named, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(cell: Cell) -> str:
    """The first 12 hexadecimal digits of the SHA-256 of the cell's text."""
    return hashlib.sha256(canonical(cell).encode()).hexdigest()[:12]


def cell_folder(folder: str | Path, cell: Cell) -> Path:
    """Where the files of a cell lie: a folder named after its values, for people, and its digest, for certain.

    Example:
        >>> cell_folder("models", {"scheme": "on true", "n": 500, "seed": 0}).name
        'n=500_scheme=on-true_seed=0-9190c92888cb'
    """
    readable = "_".join(f"{name}={_shown(_plain(cell[name]))}" for name in sorted(cell))
    return Path(folder) / f"{re.sub(r'[^A-Za-z0-9.=_+-]+', '-', readable)[:_NAME_LENGTH]}-{digest(cell)}"


def label(cell: Cell) -> str:
    """The cell on one line, for people, in the order it was written.

    Example:
        >>> label({"scheme": "normal", "n": 500, "eps": None})
        'scheme=normal n=500 eps=none'
    """
    return " ".join(f"{name}={_shown(value)}" for name, value in cell.items())


def _plain(value: Scalar) -> Scalar:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _shown(value: Scalar) -> str:
    return value if isinstance(value, str) else json.dumps(value).replace("null", "none")
