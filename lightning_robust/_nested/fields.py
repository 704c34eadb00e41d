"""Where something is in a batch: read it, or copy the batch with something else there."""

import difflib
import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from lightning_robust._nested.containers import SEQUENCES, is_graph, parts, read
from lightning_robust._nested.copies import rebuilt

Field = int | str | tuple[int | str, ...]
"""An index, a key or attribute, or a path of these; () is the batch itself."""


class MissingFieldError(KeyError):
    """A batch has not the field it was said to have; the text is shown as it is, where `KeyError` would quote it."""

    def __str__(self) -> str:
        return str(self.args[0])


def as_field(name: str, value: Any) -> Any:
    """A field in Python's own integers, strings and tuples, and a refusal of what cannot name one.

    Args:
        name: The argument, as the user writes it. `code` and `target` may be None: not every batch has them.
        value: What was given. Integers of numpy are integers, and a list, as YAML has it, is a path.

    Example:
        >>> as_field("input", ["image", "data"])
        ('image', 'data')
    """
    if value is None and name in ("code", "target"):
        return None
    path = isinstance(value, list | tuple)
    found = tuple(value) if path else (value,)
    if not all(isinstance(part, str | numbers.Integral) and not isinstance(part, bool | np.bool_) for part in found):
        raise TypeError(
            f"Expected argument `{name}` to be an index, a key, or a path of these such as ('image', 'data'), "
            f"but got {value!r}."
        )
    found = tuple(part if isinstance(part, str) else int(part) for part in found)
    return found if path else found[0]


def as_fields(name: str, value: Any) -> tuple[Field, ...] | None:
    """Several fields, or None; see `as_field`.

    Example:
        >>> as_fields("per_sample", ["mask", ["views", 0]])
        ('mask', ('views', 0))
    """
    if value is None:
        return None
    if not isinstance(value, list | tuple):
        raise TypeError(f"Expected argument `{name}` to be fields such as ('mask', 'age'), but got {value!r}.")
    return tuple(as_field(name, field) for field in value)


def check_fields(**fields: Any) -> None:
    """Refuse what cannot name a field, see `as_field`."""
    for name, value in fields.items():
        as_field(name, value)


def as_path(field: Field) -> tuple[Any, ...]:
    """The steps of a field, one or more or none."""
    return tuple(field) if isinstance(field, tuple | list) else (field,)


def get(batch: Any, field: Field, argument: str) -> Any:
    """The content of a field, which must be there and not be None.

    Args:
        batch: A batch.
        field: Where to look.
        argument: The name of the argument to blame where it is not there.

    Raises:
        MissingFieldError: If a part of the path is not there or is None.
    """
    found = _follow(batch, as_path(field), argument, none_ends=False)
    if found is None:
        raise missing(None, as_path(field), len(as_path(field)), argument)
    return found


def find(batch: Any, field: Field, argument: str | None = None) -> Any | None:
    """The content of a field, or None where it or a part on the way to it is None.

    `CombinedLoader("max_size")` gives None for a loader that is over.

    Args:
        batch: A batch.
        field: Where to look.
        argument: The name of the argument to blame where it is not there.

    Raises:
        MissingFieldError: If a part of the path is not there.
    """
    return _follow(batch, as_path(field), argument, none_ends=True)


def put(batch: Any, field: Field, value: Any) -> Any:
    """A shallow copy of the batch with another content of a field that it has.

    Where an item and an attribute are two views of one content, both are the new one in the copy.

    Raises:
        MissingFieldError: If the batch has not the field.
        TypeError: If the batch is of a class of which no such copy can be made.

    Example:
        >>> batch = {"image": [1, 2], "label": 3}
        >>> put(batch, ("image", 0), 5), batch
        ({'image': [5, 2], 'label': 3}, {'image': [1, 2], 'label': 3})
    """
    return _put(batch, as_path(field), value, 0)


def _put(batch: Any, path: tuple[Any, ...], value: Any, at: int) -> Any:
    if at == len(path):
        return value
    try:
        inner = read(batch, path[at])
    except LookupError:
        raise missing(batch, path, at, None) from None
    return rebuilt(batch, {path[at]: _put(inner, path, value, at + 1)})


def _follow(batch: Any, path: tuple[Any, ...], argument: str | None, *, none_ends: bool) -> Any:
    for at, part in enumerate(path):
        if batch is None and none_ends:
            return None
        try:
            batch = read(batch, part)
        except LookupError:
            raise missing(batch, path, at, argument) from None
    return batch


def place(path: tuple[Any, ...]) -> str:
    """A path as it is written in Python.

    Example:
        >>> place(("image", 0))
        "batch['image'][0]"
    """
    return "batch" + "".join(f"[{part!r}]" for part in path) if path else "the batch"


def shown(path: tuple[Any, ...]) -> str:
    """A path as an argument: the one step where there is one."""
    return repr(path[0] if len(path) == 1 else path)


def missing(container: Any, path: tuple[Any, ...], at: int, argument: str | None) -> MissingFieldError:
    """What was looked in, what is there, and what to write."""
    name = argument or "field"
    blamed = f" (argument `{argument}`)" if argument else ""
    names = _names(container)
    near = difflib.get_close_matches(str(path[at]), [n for n in names if isinstance(n, str)], 1) if names else []
    if container is None:
        advice = "A loader that is over gives None under CombinedLoader('max_size'), but not under 'max_size_cycle'."
    elif isinstance(container, Tensor):
        advice = f"If it is this tensor, write {name}={shown(path[:at])}."
    elif near:
        advice = f"Did you mean {near[0]!r}?"
    else:
        example = f", such as {name}={shown((*path[:at], names[0]))}" if names else ""
        advice = f"Say where it is: {name}=<index, key, or path of these>{example}."
    there = f"{place(path[:at])} is {_describe(container)}"
    return MissingFieldError(f"Expected the batch to have the field {shown(path)}{blamed}, but {there}. {advice}")


def _describe(container: Any) -> str:
    if container is None:
        return "None"
    if isinstance(container, Tensor):
        return f"a single tensor of shape {tuple(container.shape)}"
    kind, names = type(container).__name__, _names(container)
    listed = f"{names[:20]}" + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    if isinstance(container, Mapping):
        return f"a {kind} with the keys {listed}"
    if isinstance(container, SEQUENCES) and not hasattr(container, "_fields"):
        return f"a {kind} of {len(container)} entries"
    return f"a {kind} with the fields {listed}" if names else f"a {kind}"


def _names(container: Any) -> list[Any]:
    """The parts of a container that a user may name."""
    if isinstance(container, tuple) and hasattr(container, "_fields"):
        return list(container._fields)
    if is_graph(container):
        return list(container.keys())
    found = [part for part, _ in parts(container) or ()]
    if isinstance(container, (Mapping, *SEQUENCES)):
        return found
    kind = type(container)
    found = [n[1:] if n[:1] == "_" and isinstance(getattr(kind, n[1:], None), property) else n for n in found]
    return [name for name in found if not name.startswith("_")]
