"""Batches as users have them: read a field, copy with another field. The user's object is never written to."""

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

from torch import Tensor


class MissingFieldError(KeyError):
    """A batch has not the field it was said to have; the text is shown as it is, where `KeyError` would quote it."""

    def __str__(self) -> str:
        return str(self.args[0])


Field = int | str | tuple[int | str, ...]
"""Where something is in a batch: an index, a key or attribute, or a path of these."""


def _path(field: Field) -> tuple[int | str, ...]:
    return field if isinstance(field, tuple) else (field,)


def check_fields(**fields: Any) -> None:
    """Refuse what cannot name a field; None is allowed for `code`, which not every batch has."""
    for name, field in fields.items():
        if name == "code" and field is None:
            continue
        path = _path(field)
        if not path or not all(isinstance(part, int | str) and not isinstance(part, bool) for part in path):
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
            raise MissingFieldError(
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


def _entries(batch: Any) -> list[Any] | None:
    """What a container holds; None for anything else."""
    if isinstance(batch, Mapping):
        return list(batch.values())
    if isinstance(batch, tuple | list):
        return list(batch)
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        return [getattr(batch, part.name) for part in dataclasses.fields(batch)]
    return None


def _rebuild(batch: Any, entries: list[Any]) -> Any:
    """A shallow copy of a container that holds other entries."""
    if isinstance(batch, tuple):
        return type(batch)(*entries) if hasattr(batch, "_fields") else tuple(entries)
    new = copy.copy(batch)
    if isinstance(batch, list):
        new[:] = entries
    elif isinstance(batch, Mapping):
        for key, entry in zip(batch, entries, strict=True):
            new[key] = entry  # type: ignore[index]
    else:
        for part, entry in zip(dataclasses.fields(batch), entries, strict=True):
            object.__setattr__(new, part.name, entry)
    return new


def _holds_samples(batch: Any, n: int) -> bool:
    """Is there a tensor of `n` samples at any depth?"""
    if isinstance(batch, Tensor):
        return batch.ndim > 0 and len(batch) == n
    return any(_holds_samples(entry, n) for entry in _entries(batch) or ())


def take(batch: Any, n: int, rows: slice) -> Any:
    """The batch of some of its samples.

    Every tensor of length `n` at any depth is cut, and so is every list or tuple of `n` entries without such a tensor,
    as collated strings are.
    """
    if isinstance(batch, Tensor):
        return batch[rows] if _holds_samples(batch, n) else batch
    entries = _entries(batch)
    if entries is None:
        return batch
    plain_sequence = isinstance(batch, tuple | list) and not hasattr(batch, "_fields")
    if plain_sequence and len(batch) == n and not _holds_samples(batch, n):
        return batch[rows]
    return _rebuild(batch, [take(entry, n, rows) for entry in entries])


def ordinary(batch: Any) -> Any:
    """The batch with a clone, which autograd may save, for every inference tensor. Call it outside inference mode."""
    if isinstance(batch, Tensor):
        return batch.clone() if batch.is_inference() else batch
    entries = _entries(batch)
    return batch if entries is None else _rebuild(batch, [ordinary(entry) for entry in entries])
