"""Batches as users have them: read a field, copy with another field. The user's object is never written to."""

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

from torch import Tensor

Field = int | str | tuple[int | str, ...]
"""Where something is in a batch: an index, a key or attribute, or a path of these."""


def _path(field: Field) -> tuple[int | str, ...]:
    return field if isinstance(field, tuple) else (field,)


def check_field(name: str, field: Any) -> None:
    """Refuse what cannot name a field."""
    if not all(isinstance(part, int | str) and not isinstance(part, bool) for part in _path(field)) or not _path(field):
        raise TypeError(f"Expected argument `{name}` to be an index, a key, or a path of these, but got {field!r}.")


def _describe(batch: Any) -> str:
    if isinstance(batch, Mapping):
        return f"a {type(batch).__name__} with the keys {list(batch)}"
    if isinstance(batch, Tensor):
        return "a single tensor"
    if isinstance(batch, tuple | list):
        return f"a {type(batch).__name__} of {len(batch)} entries"
    if dataclasses.is_dataclass(batch):
        return f"a {type(batch).__name__} with the fields {[f.name for f in dataclasses.fields(batch)]}"
    return f"a {type(batch).__name__}"


def _get(batch: Any, part: int | str) -> Any:
    if isinstance(batch, Mapping) or (isinstance(batch, tuple | list) and isinstance(part, int)):
        return batch[part]  # type: ignore[index]
    if isinstance(part, str):
        return getattr(batch, part)
    raise KeyError(part)


def get(batch: Any, field: Field, argument: str) -> Any:
    """The content of a field; `argument` is the name of the argument to blame where it is not there."""
    found = batch
    for part in _path(field):
        try:
            found = _get(found, part)
        except (KeyError, IndexError, AttributeError):
            raise KeyError(
                f"Expected the batch to have the field {field!r} (argument `{argument}`), but it is "
                f"{_describe(batch)}. "
                f"Say where it is: {argument}=<index or key>."
            ) from None
    return found


def put(batch: Any, field: Field, value: Any) -> Any:
    """A shallow copy of the batch with another content of the field."""
    part, *rest = _path(field)
    if rest:
        value = put(_get(batch, part), tuple(rest), value)
    if isinstance(batch, tuple):
        at = batch._fields.index(part) if isinstance(part, str) and hasattr(batch, "_fields") else part
        entries = list(batch)
        entries[at] = value  # type: ignore[index]
        return type(batch)(*entries) if hasattr(batch, "_fields") else tuple(entries)
    new = copy.copy(batch)
    if isinstance(new, Mapping | list):
        new[part] = value  # type: ignore[index]
    else:
        object.__setattr__(new, str(part), value)
    return new


def take(batch: Any, n: int, rows: slice) -> Any:
    """The batch of some of its samples: every tensor or list of length `n` at any depth is cut."""
    if isinstance(batch, Tensor):
        return batch[rows] if batch.ndim and len(batch) == n else batch
    if isinstance(batch, tuple):
        entries = [take(entry, n, rows) for entry in batch]
        return type(batch)(*entries) if hasattr(batch, "_fields") else tuple(entries)
    if isinstance(batch, list):
        if len(batch) == n and not any(
            isinstance(entry, Tensor) and len(entry.shape) and len(entry) == n for entry in batch
        ):
            return batch[rows]
        return [take(entry, n, rows) for entry in batch]
    if isinstance(batch, Mapping):
        new = copy.copy(batch)
        for key, entry in batch.items():
            new[key] = take(entry, n, rows)  # type: ignore[index]
        return new
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        cut = copy.copy(batch)
        for part in dataclasses.fields(batch):
            object.__setattr__(cut, part.name, take(getattr(batch, part.name), n, rows))
        return cut
    return batch
