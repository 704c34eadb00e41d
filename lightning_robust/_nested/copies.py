"""A copy of a container with other parts, verified."""

import copy
import functools
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import FunctionType
from typing import Any

import torch
from torch import Tensor

from lightning_robust._nested.containers import (
    ABSENT,
    SEQUENCES,
    attribute,
    attributes,
    caches,
    contents,
    is_tensordict,
    item,
    parts,
    read,
)

_Write = Callable[[Any, Any, Any], None]
_Views = dict[Any, tuple[Any, Any]]
"""Of some parts, what they are as items and as attributes."""


def rebuilt(batch: Any, changes: dict[Any, Any]) -> Any:
    """A shallow copy of a container in which some parts are others.

    Classes copy in many ways: `copy.copy` of a dictionary with attributes may leave these what they were, and that of
    an object with an inner store shares the store. So several ways are tried, and each copy is looked at: an item and
    an attribute that were one must both be the new part, and the batch must have kept its own.

    Raises:
        TypeError: If no way makes such a copy.
    """
    before = _views(batch, changes)
    reason: Exception | None = None
    equal: Any = ABSENT
    for make, write in _ways(batch, changes):
        try:
            new = make()
            if write is not None and new is not batch:
                for part, value in changes.items():
                    write(new, part, value)
        except Exception as error:  # the classes are the user's: another way may do
            reason, new = error, batch
        if write is not None and _reached(batch, changes, before):
            # The copy shares with the batch what was written to: put it back the same way.
            for part, (entry, seen) in before.items():
                write(batch, part, seen if entry is ABSENT else entry)
        elif new is not batch and _is_wanted(batch, new, changes, before, operator.is_):
            return new
        elif equal is ABSENT and new is not batch and _is_wanted(batch, new, changes, before, _same):
            equal = new
    if equal is not ABSENT:
        return equal
    raise TypeError(
        f"Expected a batch that can be copied with another {', '.join(map(repr, changes))}, but a "
        f"{type(batch).__name__} cannot: no copy shows the new one as item and as attribute and leaves the batch as it "
        "was. Give the class a `__copy__`, or return a dict from the collate function."
    ) from reason


def remade(batch: Any, entries: list[Any]) -> Any:
    """A list or tuple of the same class with other entries."""
    new: Any
    if isinstance(batch, tuple):
        new = tuple.__new__(type(batch), entries)
        if hasattr(batch, "__dict__"):
            vars(new).update(vars(batch))
        return new
    new = copy.copy(batch)
    new.clear()
    new.extend(entries)
    return new


def _views(batch: Any, changes: Iterable[Any]) -> _Views:
    return {part: (item(batch, part), attribute(batch, part)) for part in changes}


def _reached(batch: Any, changes: dict[Any, Any], before: _Views) -> bool:
    """Has something that was written to a copy reached the batch?"""
    return any(
        now is not once and _same(now, changes[part]) and not _same(once, changes[part])
        for part, views in _views(batch, changes).items()
        for now, once in zip(views, before[part], strict=True)
    )


def _is_wanted(batch: Any, new: Any, changes: dict[Any, Any], before: _Views, same: Callable[[Any, Any], bool]) -> bool:
    """Is it of the same class, and are the changed parts the new ones in every view?"""
    if type(new) is not type(batch):
        return False
    for part, value in changes.items():
        entry, seen = before[part]
        both = entry is not ABSENT and seen is not ABSENT and _same(entry, seen)
        try:
            views = _views(new, (part,))[part] if both else (read(new, part),)
        except LookupError:
            return False
        if not all(same(view, value) for view in views):
            return False
    return True


def _same(a: Any, b: Any) -> bool:
    """One object, or the same in another where a class hands out a new one each time."""
    if a is b:
        return True
    if a is ABSENT or b is ABSENT or isinstance(a, Tensor) is not isinstance(b, Tensor):
        return False
    if isinstance(a, Tensor):
        kind = [(t.shape, t.dtype, t.device, t.requires_grad) for t in (a, b)]
        return kind[0] == kind[1] and torch.equal(a, b)
    of_a, of_b = list(contents(a, Tensor)), list(contents(b, Tensor))
    if of_a or of_b:
        return len(of_a) == len(of_b) and all(x is y for x, y in zip(of_a, of_b, strict=True))
    try:
        return bool(a == b)
    except Exception:  # what cannot be compared is not the same
        return False


def _ways(batch: Any, changes: dict[Any, Any]) -> Iterator[tuple[Callable[[], Any], _Write | None]]:
    """Ways to copy a container and to write to the copy, the most faithful first."""
    kind: Any = type(batch)
    if isinstance(batch, tuple):
        names = list(getattr(batch, "_fields", getattr(kind, "__match_args__", ())))
        entries = list(batch)
        for part, value in changes.items():
            if not isinstance(part, str):
                entries[part] = value
            elif part in names:
                entries[names.index(part)] = value
        for make in (functools.partial(remade, batch, entries), lambda: kind(entries), lambda: kind(*entries)):
            yield make, _write_behind
        return
    copies: list[Callable[[], Any]] = [functools.partial(_copied, batch)]
    if is_tensordict(batch):
        copies = [functools.partial(batch.clone, recurse=False)]
    if getattr(batch, "__dict__", None) is batch:
        copies = [functools.partial(_linked, batch), *copies]
    held = attributes(batch)
    if held and (isinstance(kind.__setattr__, FunctionType) or not changes.keys() <= held.keys()):
        # The class may keep elsewhere what it shows.
        copies = [functools.partial(_copied_with_stores, batch), *copies]
    copies.append(functools.partial(_copied_by_hand, batch))
    for make in copies:
        for write in (_write, _write_both, _write_behind):
            yield make, write
    if isinstance(batch, Mapping):
        yield lambda: kind({**batch, **changes}), None


def _linked(batch: Any) -> Any:
    """A dictionary that is its own `__dict__`. A copy by `copy.copy` is so no more."""
    new = dict.__new__(type(batch))
    dict.update(new, batch)
    object.__setattr__(new, "__dict__", new)
    return new


def _copied(batch: Any) -> Any:
    """`copy.copy`, without what cached properties have kept."""
    new = copy.copy(batch)
    for name in caches(new) if new is not batch else ():
        del vars(new)[name]
    return new


def _copied_with_stores(batch: Any) -> Any:
    """A copy in which the mappings and lists that the object holds are copies, too."""
    new = _copied(batch)
    for name, store in _stores(new).items():
        object.__setattr__(new, name, copy.copy(store))
    return new


def _copied_by_hand(batch: Any) -> Any:
    """A copy of a class whose answers to any name confuse `copy.copy`."""
    new = object.__new__(type(batch))
    for name, value in (attributes(batch) or {}).items():
        if name not in caches(batch):
            object.__setattr__(new, name, copy.copy(value) if isinstance(value, Mapping | list) else value)
    return new


def _stores(batch: Any) -> dict[str, Any]:
    """The mappings and lists that an object holds."""
    return {name: value for name, value in (attributes(batch) or {}).items() if isinstance(value, Mapping | list)}


def _write(new: Any, part: Any, value: Any) -> None:
    """As the user would: an item where it is one, else an attribute."""
    if isinstance(new, (Mapping, *SEQUENCES)) and item(new, part) is not ABSENT:
        new[part] = value  # type: ignore[index]
    elif attribute(new, part) is ABSENT:
        new[part] = value
    else:
        setattr(new, part, value)


def _write_both(new: Any, part: Any, value: Any) -> None:
    """The item and the attribute."""
    new[part] = value
    setattr(new, part, value)


def _write_behind(new: Any, part: Any, value: Any) -> None:
    """To where the object holds it, past what its class does: frozen ones refuse, others convert, properties only read.

    That is an attribute or an entry of a store, of the same name or the only one with this content.
    """
    old = read(new, part)
    held = attributes(new) or {}
    places = [(None, name) for name, entry in held.items() if entry is old]
    places += [(s, name) for s in _stores(new).values() for name, entry in parts(s) or () if entry is old]
    named = [(store, name) for store, name in places if name in (part, f"_{part}")] or places
    if len(named) == 1:
        ((store, name),) = named
        if store is None:
            object.__setattr__(new, name, value)
        else:
            store[name] = value
