"""What a container holds, and how a part of it is read."""

import collections
import copy
import functools
import numbers
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

ABSENT: Any = object()
SEQUENCES = (list, tuple, collections.deque, collections.UserList)
_NO_RECORDS = (str, bytes, numbers.Number, np.generic, type, nn.Module, Dataset, DataLoader, torch.optim.Optimizer)


def is_graph(value: Any) -> bool:
    """Is it a `Data`, `HeteroData` or `Batch` of PyG? Where there is one, its library is imported."""
    module = sys.modules.get("torch_geometric.data.data")
    return module is not None and isinstance(value, module.BaseData)


def is_tensordict(value: Any) -> bool:
    """Is it a TensorDict or a tensorclass?"""
    module = sys.modules.get("tensordict")
    return module is not None and not isinstance(value, Tensor) and bool(module.is_tensor_collection(value))


def is_array(value: Any) -> bool:
    """Is it a tensor or an array of numpy?"""
    return isinstance(value, Tensor | np.ndarray)


def is_list(value: Any) -> bool:
    """Is it a list or tuple of things in a row, which a named tuple is not?"""
    return isinstance(value, SEQUENCES) and not hasattr(value, "_fields")


def attributes(value: Any) -> dict[str, Any] | None:
    """What an object holds in its `__dict__` and `__slots__`; None where it is no record of data.

    Records are objects of classes that users and their libraries write. Modules, data sets and arrays of all kinds are
    not, nor are objects of Python and torch, whose attributes are their own affair.
    """
    kind: Any = type(value)
    if isinstance(value, _NO_RECORDS) or not _is_record(kind):
        return None
    slots = _slots(kind)
    if not slots and not hasattr(value, "__dict__"):
        return None
    filled = {name: getattr(value, name) for name in slots if hasattr(value, name)}
    return {**getattr(value, "__dict__", {}), **filled}


@functools.cache
def _is_record(kind: Any) -> bool:
    if any(hasattr(kind, name) for name in ("__array__", "__dataframe__", "shape")):
        return False
    home = kind.__module__.split(".")[0]
    if home in sys.stdlib_module_names:
        # A package of the user's may be called `test` or `code`, too.
        file = getattr(sys.modules.get(home), "__file__", None) or os.__file__
        return "Namespace" in kind.__name__ or not Path(file).is_relative_to(Path(os.__file__).parent)
    return home != "torch"


@functools.cache
def _slots(kind: Any) -> tuple[str, ...]:
    members = [vars(base) for base in kind.__mro__ if "__slots__" in vars(base)]
    return tuple(n for member in members for n, v in member.items() if type(v).__name__ == "member_descriptor")


@functools.cache
def _cached_properties(kind: Any) -> tuple[str, ...]:
    entries = [entry for base in kind.__mro__ for entry in vars(base).items()]
    return tuple(name for name, value in entries if isinstance(value, functools.cached_property))


def caches(value: Any) -> list[str]:
    """The results that `functools.cached_property` has kept in an object: those of its old content, in a copy."""
    kind: Any = type(value)
    return [name for name in _cached_properties(kind) if name in vars(value)]


def parts(value: Any) -> list[tuple[Any, Any]] | None:
    """What a container holds, with the part of a path that leads there; None for anything else."""
    if value is None or isinstance(value, Tensor | np.ndarray | str | bytes | numbers.Number):
        return None
    if isinstance(value, SEQUENCES):
        return list(enumerate(value))
    if is_tensordict(value):
        return list(value.items())
    if not isinstance(value, Mapping):
        held = attributes(value)
        return None if held is None else list(held.items())
    items = list(value.items())
    if type(value).__module__ in ("builtins", "collections"):
        return items
    # Attributes beside the items. What holds the items themselves is a mapping.
    more = (attributes(value) or {}).items()
    return items + [(name, v) for name, v in more if name not in value and not isinstance(v, Mapping)]


def item(value: Any, part: Any) -> Any:
    """`value[part]`, where part is a key or an index and not the number of a sample; else ABSENT."""
    if isinstance(value, SEQUENCES):
        return value[part] if isinstance(part, int) and -len(value) <= part < len(value) else ABSENT
    if isinstance(value, Mapping) and not is_tensordict(value):
        # Asked first: a defaultdict would make the entry, in the user's batch.
        return value[part] if part in value else ABSENT  # noqa: SIM401 - `get` may be another's
    if not isinstance(part, str) or isinstance(value, Tensor | np.ndarray | str | bytes):
        return ABSENT
    try:
        return value[part]
    except Exception:  # whatever a class raises for a key that it has not
        return ABSENT


def attribute(value: Any, part: Any) -> Any:
    """`value.part`, where it is data and not a method; else ABSENT."""
    if not isinstance(part, str) or value is None or isinstance(value, Tensor):
        return ABSENT
    if isinstance(value, Mapping) and part not in value and not isinstance(getattr(type(value), part, None), property):
        # Some mappings answer to any name.
        return (attributes(value) or {}).get(part, ABSENT)
    try:
        content = getattr(value, part)
    except (AttributeError, LookupError):  # `__getattr__ = dict.__getitem__` raises KeyError
        return ABSENT
    return ABSENT if callable(content) and getattr(content, "__self__", None) is value else content


def read(value: Any, part: Any) -> Any:
    """One part of a container: of a mapping the item, of an object the attribute first. Else LookupError."""
    ways = (item, attribute) if isinstance(value, Mapping) else (attribute, item)
    for way in ways:
        content = way(value, part)
        if content is not ABSENT:
            return content
    raise LookupError(part)


def _inner(value: Any) -> list[Any]:
    """The entries of a container."""
    if is_graph(value):
        entries: list[Any] = []
        copy.copy(value).apply(entries.append)
        return entries
    return [entry for _, entry in parts(value) or ()]


def contents(batch: Any, kinds: type | tuple[type, ...]) -> Iterator[Any]:
    """All objects of some kinds at any depth, each once, also where something leads back to itself."""
    seen: dict[int, Any] = {}
    stack = [batch]
    while stack:
        value = stack.pop()
        if value is None or type(value) in (int, float, bool, str) or id(value) in seen:
            continue
        if isinstance(value, kinds):
            seen[id(value)] = value
            yield value
        elif entries := _inner(value):
            seen[id(value)] = value
            stack.extend(reversed(entries))


def loops(batch: Any) -> set[int]:
    """The ids of containers that lead back to themselves: no data but objects at work, such as a Trainer."""
    ids: set[int] = set()
    done: dict[int, Any] = {}
    above: list[int] = []

    def visit(value: Any) -> None:
        if id(value) in above:
            ids.update(above[above.index(id(value)) :])
        if id(value) in done or is_graph(value):
            return
        if entries := _inner(value):
            done[id(value)] = value
            above.append(id(value))
            for entry in entries:
                visit(entry)
            above.pop()

    visit(batch)
    return ids
