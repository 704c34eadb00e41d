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
    """A batch has no such field. The text is shown as it is, where `KeyError` would quote it."""

    def __str__(self) -> str:
        return str(self.args[0])


def as_field(name: str, value: Any) -> Any:
    """A field in Python's own integers, strings and tuples; a list, as YAML has it, is a path.

    Args:
        name: The argument, as the user writes it. `code` and `target` may be None: not every batch has them.
        value: The value of the argument.

    Example:
        >>> as_field("input", ["image", "data"])
        ('image', 'data')
    """
    if value is None and name in ("code", "target"):
        return None
    path = as_path(value)
    if not all(isinstance(part, str | numbers.Integral) and not isinstance(part, bool | np.bool_) for part in path):
        raise TypeError(
            f"Expected argument `{name}` to be an index, a key, or a path of these such as ('image', 'data'), "
            f"but got {value!r}."
        )
    path = tuple(part if isinstance(part, str) else int(part) for part in path)
    return path if isinstance(value, list | tuple) else path[0]


def as_path(field: Field) -> tuple[Any, ...]:
    """The steps of a field."""
    return tuple(field) if isinstance(field, tuple | list) else (field,)


def get(batch: Any, field: Field, argument: str) -> Any:
    """The content of a field, which must be there and not be None; errors blame the argument.

    Raises:
        MissingFieldError: If a part of the path is not there or is None.
    """
    value, path = _follow(batch, as_path(field), argument, none_ends=False), as_path(field)
    if value is None:
        raise missing(None, path, len(path), argument)
    return value


def find(batch: Any, field: Field, argument: str | None = None) -> Any | None:
    """As `get`, but None if the content or a part on the way to it is None.

    `CombinedLoader("max_size")` gives None for a loader that is over.
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
    """A path as it is written in Python: `batch['image'][0]`."""
    return "batch" + "".join(f"[{part!r}]" for part in path) if path else "the batch"


def shown(path: tuple[Any, ...]) -> str:
    """A path as an argument: the one step where there is one."""
    return repr(path[0] if len(path) == 1 else path)


def missing(container: Any, path: tuple[Any, ...], at: int, argument: str | None) -> MissingFieldError:
    """The error for step `at` of a path: where it is not, what is there, and what to write."""
    name, blamed = argument or "field", f" (argument `{argument}`)" if argument else ""
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
    names = [part for part, _ in parts(container) or ()]
    if isinstance(container, (Mapping, *SEQUENCES)):
        return names
    kind = type(container)
    names = [n[1:] if n[:1] == "_" and isinstance(getattr(kind, n[1:], None), property) else n for n in names]
    return [name for name in names if not name.startswith("_")]
