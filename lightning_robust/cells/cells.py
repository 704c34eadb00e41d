"""Cells: the points of a study's grid, each a flat mapping of names to JSON scalars, and what identifies one."""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from typing import TypeAlias

Scalar: TypeAlias = str | int | float | bool | None
Cell: TypeAlias = Mapping[str, Scalar]
Row: TypeAlias = dict[str, Scalar]

_NAME_LENGTH = 80


def canonical(cell: Cell) -> str:
    """The one text of a cell: names sorted, and a float without a fraction written as its integer.

    Two cells are the same where their texts are, so neither the order of the names nor `8` against `8.0` makes a
    second cell; `True` and `1` differ.

    Example:
        >>> canonical({"n": 500.0, "eps": 0.3})
        '{"eps":0.3,"n":500}'
    """
    named = {name: _without_fraction(cell[name]) for name in sorted(cell)}
    return json.dumps(named, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(cell: Cell) -> str:
    """The first 12 hexadecimal digits of the SHA-256 of the cell's text."""
    return hashlib.sha256(canonical(cell).encode()).hexdigest()[:12]


def folder_name(cell: Cell) -> str:
    """A name for the cell's folder: what it is, for people, and its digest, for certain.

    Example:
        >>> folder_name({"scheme": "on true", "n": 500, "seed": 0})
        'n=500_scheme=on-true_seed=0-9190c92888cb'
    """
    readable = "_".join(f"{name}={_shown(_without_fraction(cell[name]))}" for name in sorted(cell))
    safe = re.sub(r"[^A-Za-z0-9.=_+-]+", "-", readable)[:_NAME_LENGTH]
    return f"{safe}-{digest(cell)}"


def label(cell: Cell) -> str:
    """The cell on one line, for people, in the order it was written.

    Example:
        >>> label({"scheme": "normal", "n": 500, "eps": None})
        'scheme=normal n=500 eps=none'
    """
    return " ".join(f"{name}={_shown(value)}" for name, value in cell.items())


def problem(cell: object) -> str | None:
    """What keeps an object from being a cell, or None: names are text, values are finite JSON scalars.

    Example:
        >>> problem({"n": [1, 2]})
        'the value of `n` is [1, 2], not text, a finite number, true, false or None'
    """
    if not isinstance(cell, Mapping) or not cell:
        return f"it is {cell!r}, not a mapping with at least one name"
    for name, value in cell.items():
        if not isinstance(name, str) or not name:
            return f"the name {name!r} is not text"
        if not isinstance(value, Scalar) or (isinstance(value, float) and not math.isfinite(value)):
            return f"the value of `{name}` is {value!r}, not text, a finite number, true, false or None"
    return None


def _without_fraction(value: Scalar) -> Scalar:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _shown(value: Scalar) -> str:
    return value if isinstance(value, str) else json.dumps(value).replace("null", "none")
