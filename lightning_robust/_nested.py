"""Nested batches as users have them: read a field, copy with another field, cut to some samples.

A batch is any nesting of tuples, lists, dictionaries and other mappings, named tuples, dataclasses, attrs and pydantic
models, `SimpleNamespace`, plain objects, TensorDicts and graphs of PyG around tensors. The user's batch is never
written to, at any depth.
"""

import collections
import copy
import difflib
import functools
import itertools
import numbers
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils.data import DataLoader, Dataset

Field = int | str | tuple[int | str, ...]
"""Where something is in a batch: an index, a key or attribute, or a path of these; () is the batch itself."""

_Path = tuple[Any, ...]
_ABSENT: Any = object()
_SEQUENCES = (list, tuple, collections.deque, collections.UserList)
_OPAQUE = (str, bytes, numbers.Number, np.generic, type, nn.Module, Dataset, DataLoader, torch.optim.Optimizer)


class MissingFieldError(KeyError):
    """A batch has not the field it was said to have; the text is shown as it is, where `KeyError` would quote it."""

    def __str__(self) -> str:
        return str(self.args[0])


# Fields


@overload
def as_field(name: str, value: None) -> None: ...
@overload
def as_field(name: str, value: Any) -> Field: ...
def as_field(name: str, value: Any) -> Field | None:
    """A field as Python's own integers, strings and tuples, and a refusal of what cannot name one.

    Args:
        name: The argument, as the user writes it. `code` and `target` may be None: not every batch has them.
        value: What was given. Integers of numpy are integers, and a list, as YAML has it, is a path.

    Example:
        >>> as_field("input", ["image", "data"])
        ('image', 'data')
    """
    if value is None and name in ("code", "target"):
        return None
    parts = tuple(value) if isinstance(value, list | tuple) else (value,)
    if not all(_is_part(part) for part in parts):
        raise TypeError(
            f"Expected argument `{name}` to be an index, a key, or a path of these such as ('image', 'data'), "
            f"but got {value!r}."
        )
    parts = tuple(part if isinstance(part, str) else int(part) for part in parts)
    return parts if isinstance(value, list | tuple) else parts[0]


def check_fields(**fields: Any) -> None:
    """Refuse what cannot name a field, see `as_field`."""
    for name, value in fields.items():
        as_field(name, value)


def _is_part(part: Any) -> bool:
    return isinstance(part, str | numbers.Integral) and not isinstance(part, bool | np.bool_)


def _path(field: Field) -> _Path:
    return tuple(field) if isinstance(field, tuple | list) else (field,)


# Reading and replacing


def get(batch: Any, field: Field, argument: str) -> Any:
    """The content of a field, which must be there and not be None.

    Args:
        batch: A batch.
        field: Where to look.
        argument: The name of the argument to blame where it is not there.

    Raises:
        MissingFieldError: If a part of the path is not there or is None.
    """
    path = _path(field)
    found = batch
    for at, part in enumerate(path):
        try:
            found = _read(found, part)
        except LookupError:
            raise _missing(found, path, at, argument) from None
    if found is None:
        raise MissingFieldError(f"{_expected(path, argument)}, but {_place(path)} is None. {_WHERE_NONE}")
    return found


def find(batch: Any, field: Field, argument: str | None = None) -> Any | None:
    """The content of a field, or None where it or a part on the way to it is None.

    `CombinedLoader("max_size")` gives None for a loader that is over. The other arguments are those of `get`.
    """
    path = _path(field)
    found = batch
    for at, part in enumerate(path):
        if found is None:
            return None
        try:
            found = _read(found, part)
        except LookupError:
            raise _missing(found, path, at, argument) from None
    return found


def put(batch: Any, field: Field, value: Any) -> Any:
    """A shallow copy of the batch with another content of a field that it has.

    Where an item and an attribute are two views of one content, both are the new one in the copy. This is verified, and
    so is that the batch itself has kept its content.

    Raises:
        MissingFieldError: If the batch has not the field.
        TypeError: If the batch is of a class that cannot be copied in this way.
    """
    return _put(batch, _path(field), value, 0)


def _put(batch: Any, path: _Path, value: Any, at: int) -> Any:
    if at == len(path):
        return value
    try:
        inner = _read(batch, path[at])
    except LookupError:
        raise _missing(batch, path, at, None) from None
    return _rebuilt(batch, {path[at]: _put(inner, path, value, at + 1)})


_WHERE_NONE = "A loader that is over gives None under CombinedLoader('max_size'); 'max_size_cycle' starts it again."


def _expected(path: _Path, argument: str | None) -> str:
    shown = path[0] if len(path) == 1 else path
    return f"Expected the batch to have the field {shown!r}" + (f" (argument `{argument}`)" if argument else "")


def _place(path: _Path) -> str:
    return "batch" + "".join(f"[{part!r}]" for part in path) if path else "the batch"


def _missing(container: Any, path: _Path, at: int, argument: str | None) -> MissingFieldError:
    """What the part at `at` of a path was looked for in, what is there, and what to write."""
    expected, place, name = _expected(path, argument), _place(path[:at]), argument or "field"
    if container is None:
        return MissingFieldError(f"{expected}, but {place} is None. {_WHERE_NONE}")
    if isinstance(container, Tensor):
        itself = path[0] if at == 1 else path[:at]
        advice = f"If it is this tensor, write {name}={itself!r}."
    else:
        names = [part for part in _names(container) if isinstance(part, str)]
        near = difflib.get_close_matches(str(path[at]), names, 1)
        if near:
            advice = f"Did you mean {near[0]!r}?"
        else:
            advice = f"Say where it is: {name}=<index or key>, or a path of these such as ({name!r}, 'data')."
    return MissingFieldError(f"{expected}, but {place} is {_describe(container)}. {advice}")


def _describe(container: Any) -> str:
    kind = type(container).__name__
    if isinstance(container, Tensor):
        return f"a single tensor of shape {tuple(container.shape)}"
    names = _names(container)
    shown = f"{names[:20]}" + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    if isinstance(container, Mapping):
        return f"a {kind} with the keys {shown}"
    if isinstance(container, _SEQUENCES):
        return f"a {kind} of {len(container)} entries" + (f", {shown}" if hasattr(container, "_fields") else "")
    return f"a {kind} with the fields {shown}" if names else f"a {kind}"


def _names(container: Any) -> list[Any]:
    """The parts of a container that a user may name."""
    if isinstance(container, tuple) and hasattr(container, "_fields"):
        return list(container._fields)
    if _is_graph(container):
        return [str(key) for key in container.keys()]  # noqa: SIM118 - not a mapping
    names = [part for part, _ in _parts(container) or ()]
    if not isinstance(container, (Mapping, *_SEQUENCES)):
        names = [
            name.removeprefix("_") if isinstance(getattr(type(container), name[1:], None), property) else name
            for name in names
        ]
        names = [name for name in names if not name.startswith("_")]
    return names


# What containers are


def _is_graph(batch: Any) -> bool:
    """Is it `Data`, `HeteroData` or `Batch` of PyG?"""
    module = sys.modules.get("torch_geometric.data.data")
    return module is not None and isinstance(batch, module.BaseData)


def _is_tensordict(batch: Any) -> bool:
    """Is it a TensorDict or a tensorclass?"""
    module = sys.modules.get("tensordict")
    return module is not None and not isinstance(batch, Tensor) and bool(module.is_tensor_collection(batch))


def _attributes(batch: Any) -> dict[str, Any] | None:
    """What an object holds in its `__dict__` and `__slots__`; None where it is no record of data.

    Records are objects of classes that users and their libraries write. Modules, data sets and arrays of all kinds are
    not, nor are objects of Python and torch, whose attributes are their own affair.
    """
    kind: type = type(batch)
    if isinstance(batch, _OPAQUE) or hasattr(kind, "__array__") or hasattr(kind, "__dataframe__") or _is_builtin(kind):
        return None
    found = dict(getattr(batch, "__dict__", ()))
    slots = False
    for base in kind.__mro__:
        if "__slots__" in vars(base):
            slots = slots or bool(vars(base)["__slots__"])
            for name, member in vars(base).items():
                if type(member).__name__ == "member_descriptor":
                    try:
                        found[name] = member.__get__(batch, kind)
                    except AttributeError:
                        continue
    return found if slots or hasattr(batch, "__dict__") else None


@functools.cache
def _is_builtin(kind: type) -> bool:
    """Is it a class of Python itself or of torch? `SimpleNamespace` and `Namespace` are the records among these."""
    home = kind.__module__.split(".")[0]
    if home in sys.stdlib_module_names:
        # A package of the user's may be called `test` or `code`, too.
        file = getattr(sys.modules.get(home), "__file__", None) or os.__file__
        return Path(file).is_relative_to(Path(os.__file__).parent) and "Namespace" not in kind.__name__
    return home == "torch"


def _caches(batch: Any) -> set[str]:
    """Names of results that `functools.cached_property` has kept in an object."""
    kept = getattr(batch, "__dict__", ())
    return {
        name
        for base in type(batch).__mro__
        for name, member in vars(base).items()
        if isinstance(member, functools.cached_property) and name in kept
    }


def _parts(batch: Any) -> list[tuple[Any, Any]] | None:
    """What a container holds, with the part of a path that leads there; None for anything else."""
    if isinstance(batch, Tensor | np.ndarray | str | bytes | None):
        return None
    if isinstance(batch, _SEQUENCES):
        return list(enumerate(batch))
    if _is_tensordict(batch) and not isinstance(batch, Mapping):
        return list(batch.items())
    if isinstance(batch, Mapping):
        items = list(batch.items())
        if type(batch).__module__ in ("builtins", "collections") or _is_tensordict(batch):
            return items
        # Attributes beside the items; what holds the items themselves is a mapping.
        more = (_attributes(batch) or {}).items()
        return items + [(name, v) for name, v in more if name not in batch and not isinstance(v, Mapping)]
    held = _attributes(batch)
    if held is None:
        return None
    caches = _caches(batch)
    return [(name, value) for name, value in held.items() if name not in caches]


def _item(batch: Any, part: Any) -> Any:
    """`batch[part]`, where part is a key or an index and not the number of a sample; else _ABSENT."""
    if isinstance(batch, _SEQUENCES):
        inside = isinstance(part, int) and -len(batch) <= part < len(batch)
        return batch[part] if inside else _ABSENT
    if _is_tensordict(batch) or not isinstance(batch, Mapping):
        if not isinstance(part, str) or isinstance(batch, Tensor | str | bytes) or not hasattr(batch, "__getitem__"):
            return _ABSENT
        try:
            return batch[part]
        except Exception:
            return _ABSENT
    # A defaultdict would make the entry in the user's batch.
    return batch[part] if part in batch else _ABSENT  # noqa: SIM401 - `get` may differ


def _attribute(batch: Any, part: Any) -> Any:
    """`batch.part`, where it is data and not a method; else _ABSENT."""
    if not isinstance(part, str) or batch is None or isinstance(batch, Tensor):
        return _ABSENT
    if isinstance(batch, Mapping) and part not in batch and not isinstance(getattr(type(batch), part, None), property):
        return (_attributes(batch) or {}).get(part, _ABSENT)
    value = getattr(batch, part, _ABSENT)
    return _ABSENT if getattr(value, "__self__", None) is batch and callable(value) else value


def _read(batch: Any, part: Any) -> Any:
    """One part of a container, or LookupError."""
    first, second = (_item, _attribute) if isinstance(batch, Mapping) else (_attribute, _item)
    value = first(batch, part)
    if value is _ABSENT:
        value = second(batch, part)
    if value is _ABSENT:
        raise LookupError(part)
    return value


# Copies


def _rebuilt(batch: Any, changes: dict[Any, Any]) -> Any:
    """A shallow copy of a container in which some parts are others, verified; see `put`."""
    before = {part: (_item(batch, part), _attribute(batch, part)) for part in changes}
    reason: Exception | None = None
    for make, write in _ways(batch, changes):
        new = _ABSENT
        try:
            new = make()
            if write is not None and new is not batch:
                for part, value in changes.items():
                    write(new, part, value)
        except Exception as error:
            reason = error
        if write is not None and not _untouched(batch, before):
            # The copy shares with the batch what it writes to: undo, the same way.
            for part, (item, attribute) in before.items():
                write(batch, part, attribute if item is _ABSENT else item)
            continue
        if new is not _ABSENT and _agrees(batch, new, changes, before):
            return new
    names = ", ".join(map(repr, changes))
    raise TypeError(
        f"Expected a batch that can be copied with another {names}, but a {type(batch).__name__} cannot: in no copy "
        f"did item and attribute both become the new one while the batch kept its own. Give the class a `__copy__`, or "
        f"return a dict from the collate function."
    ) from reason


def _agrees(batch: Any, new: Any, changes: dict[Any, Any], before: dict[Any, tuple[Any, Any]]) -> bool:
    """Is this the copy that was wanted?"""
    if new is batch or type(new) is not type(batch):
        return False
    for part, value in changes.items():
        item, attribute = before[part]
        views = [_item(new, part), _attribute(new, part)]
        if item is _ABSENT or attribute is _ABSENT or not _same(item, attribute):
            try:
                views = [_read(new, part)]
            except LookupError:
                return False
        if not all(_same(view, value) for view in views):
            return False
    kept = {part for part, _ in _parts(new) or ()}
    return all(part in kept for part, _ in _parts(batch) or ())


def _untouched(batch: Any, before: dict[Any, tuple[Any, Any]]) -> bool:
    return all(
        _same(_item(batch, part), item) and _same(_attribute(batch, part), attribute)
        for part, (item, attribute) in before.items()
    )


def _same(a: Any, b: Any) -> bool:
    """One object, or, where a class hands out a new object each time, equal tensors within."""
    if a is b:
        return True
    if a is _ABSENT or b is _ABSENT:
        return False
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        alike = a.shape == b.shape and a.dtype == b.dtype and a.device == b.device
        return alike and a.requires_grad == b.requires_grad and torch.equal(a, b)
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return False
    ours, theirs = list(leaves(a)), list(leaves(b))
    if not ours and not theirs:
        try:
            return bool(a == b)
        except Exception:
            return False
    return len(ours) == len(theirs) and all(x is y for x, y in zip(ours, theirs, strict=True))


_Way = tuple[Callable[[], Any], Callable[[Any, Any, Any], None] | None]


def _ways(batch: Any, changes: dict[Any, Any]) -> Iterator[_Way]:
    """Ways to copy a container and to write to the copy, the most faithful first."""
    kind: Any = type(batch)
    if isinstance(batch, tuple):
        entries = list(batch)
        for part, value in changes.items():
            entries[batch._fields.index(part) if isinstance(part, str) else part] = value  # type: ignore[attr-defined]
        yield functools.partial(_tuple, batch, entries), None
        yield functools.partial(kind, entries), None
        yield functools.partial(kind, *entries), None
        return
    copies: list[Callable[[], Any]] = []
    if getattr(batch, "__dict__", None) is batch:
        copies.append(functools.partial(_linked, batch))
    if _is_tensordict(batch):
        copies.append(functools.partial(batch.clone, recurse=False))
    copies.append(functools.partial(_copied, batch))
    copies += [method for name in ("copy", "clone") if callable(method := getattr(batch, name, None))]
    copies.append(functools.partial(_copied_with_stores, batch))
    for make in copies:
        for write in _WRITES:
            yield make, write
        if isinstance(batch, Mapping):
            yield functools.partial(kind, {**batch, **changes}), None


def _tuple(batch: tuple[Any, ...], entries: list[Any]) -> Any:
    """A tuple of the same class, also where its constructor takes something else."""
    new = tuple.__new__(type(batch), entries)
    if hasattr(batch, "__dict__"):
        new.__dict__.update(batch.__dict__)
    return new


def _linked(batch: Any) -> Any:
    """A dictionary that is its own `__dict__`: a copy by `copy.copy` would be so no more."""
    new = dict.__new__(type(batch))
    dict.update(new, batch)
    object.__setattr__(new, "__dict__", new)
    return new


def _copied(batch: Any) -> Any:
    """`copy.copy` without the results that cached properties have kept: they may be those of the old content."""
    new = copy.copy(batch)
    for name in _caches(new) if new is not batch else ():
        del new.__dict__[name]
    return new


def _copied_with_stores(batch: Any) -> Any:
    """A copy whose stores, the mappings and lists that it holds, are copies too."""
    new = _copied(batch)
    for name, value in (_attributes(new) or {}).items():
        if isinstance(value, Mapping | list):
            object.__setattr__(new, name, copy.copy(value))
    return new


def _write(new: Any, part: Any, value: Any) -> None:
    """As the user would: an item where it is one, else an attribute."""
    if isinstance(new, _SEQUENCES) or (isinstance(new, Mapping) and part in new):
        new[part] = value  # type: ignore[index]
    else:
        setattr(new, part, value)


def _write_both(new: Any, part: Any, value: Any) -> None:
    new[part] = value
    setattr(new, part, value)


def _write_past(new: Any, part: Any, value: Any) -> None:
    """Past what the class does to attributes, as frozen ones refuse them and checked ones convert them."""
    object.__setattr__(new, part, value)


def _write_both_past(new: Any, part: Any, value: Any) -> None:
    new[part] = value
    object.__setattr__(new, part, value)


def _write_item(new: Any, part: Any, value: Any) -> None:
    new[part] = value


_WRITES = (_write, _write_both, _write_past, _write_both_past, _write_item)


# All tensors


def leaves(batch: Any) -> Iterator[Tensor]:
    """All tensors at any depth, each once."""
    seen: dict[int, Any] = {}
    stack = [batch]
    while stack:
        value = stack.pop()
        if id(value) in seen:
            continue
        if isinstance(value, Tensor):
            seen[id(value)] = value
            yield value
        elif _is_graph(value):
            seen[id(value)] = value
            found: list[Tensor] = []
            copy.copy(value).apply(found.append)
            stack.extend(reversed(found))
        else:
            parts = _parts(value)
            if parts:
                seen[id(value)] = value
                stack.extend(entry for _, entry in reversed(parts))


def ordinary(batch: Any) -> Any:
    """The batch with a clone, which autograd may save, for every inference tensor. Call it outside inference mode.

    The same object comes back where there is no inference tensor. What leads back to itself is no batch but an object
    at work, such as a Trainer, and stays as it is.
    """
    if not any(tensor.is_inference() for tensor in leaves(batch)):
        return batch
    return _mapped(batch, lambda t: t.clone() if t.is_inference() else t, {}, {}, set())


def _mapped(
    value: Any,
    change: Callable[[Tensor], Tensor],
    done: dict[int, tuple[Any, Any]],
    above: dict[int, int],
    cyclic: set[int],
) -> Any:
    """The same with other tensors; `above` are the containers around it, `cyclic` those on a way back to themselves."""
    if id(value) in done:
        return done[id(value)][1]
    if id(value) in above:
        cyclic.update(list(above)[above[id(value)] :])
        return value
    if isinstance(value, Tensor):
        new = change(value)
    elif _is_graph(value):
        new = copy.copy(value)
        new.apply(change)
    else:
        parts = _parts(value)
        if not parts:
            return value
        above[id(value)] = len(above)
        mapped = [(part, entry, _mapped(entry, change, done, above, cyclic)) for part, entry in parts]
        del above[id(value)]
        changes = {part: other for part, entry, other in mapped if other is not entry}
        new = _rebuilt(value, changes) if changes and id(value) not in cyclic else value
    done[id(value)] = (value, new)
    return new


def plain(tensor: Tensor) -> Tensor:
    """A tensor of a subclass, such as MONAI's MetaTensor, as a `torch.Tensor` of the same memory.

    What is counted and logged must not be of a class that a checkpoint cannot load. Subclasses that hold no memory of
    their own, such as DTensor, stay what they are.
    """
    if type(tensor) is Tensor or type(tensor).__torch_dispatch__ is not Tensor.__torch_dispatch__:
        return tensor
    with torch._C.DisableTorchFunctionSubclass():
        return tensor.as_subclass(Tensor)


# Some samples


def take(
    batch: Any,
    n: int,
    rows: slice | Tensor,
    per_sample: tuple[Field, ...] | None = None,
    known: tuple[Field, ...] = (),
) -> Any:
    """The batch of some of its samples, a copy.

    Fields that are said to be per sample are cut, and all tensors and lists within them; nothing else is. Where nothing
    is said (`per_sample=None`), `samples` says what is.

    Args:
        batch: A batch, or a part of it, with `known=((),)`, such as a code.
        n: Its number of samples.
        rows: Which of them: a slice, their numbers, or a mask (N,). Where it is all of them, the batch itself comes
            back.
        per_sample: The fields that are per sample beside the known ones.
        known: Fields that the caller knows to be per sample: input, target and code.

    Raises:
        ValueError: If a field is not of N samples, cannot be cut, or may or may not be per sample.

    Example:
        >>> batch = {"image": torch.rand(4, 3, 8, 8), "label": torch.arange(4), "file": ["a", "b", "c", "d"]}
        >>> take(batch, 4, slice(2), known=("image", "label"))["file"]
        ['a', 'b']
    """
    chosen = _numbers(rows, n)
    if chosen == list(range(n)):
        return batch
    fields = (*known, *(samples(batch, n, known) if per_sample is None else per_sample))
    return _cut_at(batch, {_canonical(batch, field) for field in fields}, (), _Cut(n, chosen))


def samples(batch: Any, n: int, known: tuple[Field, ...] = ()) -> tuple[Field, ...]:
    """The fields beside the known ones that are per sample, as far as a batch can tell.

    A tensor that has not N rows is not per sample. One that has is, or has N rows by chance: weights of N classes, a
    mean of N channels. So these rules decide:

    - It is per sample if its further dimensions are found, in order, among those of a known field, as those of masks
      (N, H, W) and second views are.
    - Else it is per sample if all tensors of the batch have N rows, as those of a collated batch have, and it is
      neither a vector of floats, (N,) or (N, 1), which could be weights of N classes, nor square, (N, N, ...).
    - Else it is refused with the remedy, which is to name the fields.
    - A list of N strings or other objects without tensors is per sample; of N numbers, or of N tensors, which could be
      samples or levels, it is refused.
    - A TensorDict says itself what it has N of.

    What no batch can tell: a table (N, D) that always has as many rows as the batch has samples, such as a prototype
    for each of N classes. Name the fields where there is one.

    Raises:
        ValueError: If something may or may not be per sample, or cannot be cut at all.
    """
    guess = _Guess(n, {_canonical(batch, field) for field in known})
    guess.walk(batch, (), {})
    return guess.verdict()


def _numbers(rows: slice | Tensor, n: int) -> list[int]:
    if isinstance(rows, slice):
        return list(range(n))[rows]
    rows = rows.nonzero().flatten() if rows.dtype == torch.bool else rows
    return [range(n)[i] for i in rows.tolist()]


def _canonical(batch: Any, field: Field) -> _Path:
    """A path whose steps through sequences are indices from the front."""
    path: list[Any] = []
    for part in _path(field):
        if isinstance(batch, tuple) and isinstance(part, str) and hasattr(batch, "_fields"):
            part = batch._fields.index(part) if part in batch._fields else part
        elif isinstance(batch, _SEQUENCES) and isinstance(part, int) and part < 0:
            part += len(batch)
        try:
            batch = None if batch is None else _read(batch, part)
        except LookupError:
            raise _missing(batch, _path(field), len(path), "per_sample") from None
        path.append(part)
    return tuple(path)


def _has_rows(value: Any, n: int) -> bool:
    return isinstance(value, Tensor | np.ndarray) and value.ndim > 0 and len(value) == n


def _holds_arrays(value: Any) -> bool:
    return isinstance(value, np.ndarray) or any(True for _ in leaves(value))


def _is_list(value: Any) -> bool:
    """A list or tuple of things in a row, which a named tuple is not."""
    return isinstance(value, _SEQUENCES) and not hasattr(value, "_fields")


def _refuse_uncuttable(value: Any, path: _Path) -> None:
    if isinstance(value, PackedSequence):
        raise ValueError(  # noqa: TRY004
            f"Expected a batch that can be cut to some of its samples, but {_place(path)} is a PackedSequence. Keep "
            "padded sequences and their lengths in the batch and pack them in the model, or use whole batches."
        )
    if _is_graph(value):
        raise ValueError(
            f"Expected a batch that can be cut to some of its samples, but {_place(path)} is a {type(value).__name__} "
            "of graphs, whose nodes are not samples. Use whole batches: fraction=1.0, and max_samples=None."
        )


def _remedy(path: _Path) -> str:
    field = path[0] if len(path) == 1 else path
    return (
        f"Say which fields are: per_sample=({field!r},) if it is one of them, per_sample=() if there are none beside "
        "input, target and code."
    )


class _Guess:
    """What of a batch is per sample, by its shape alone; see `samples`."""

    def __init__(self, n: int, known: set[_Path]) -> None:
        self.n = n
        self.known = known
        self.kin: list[tuple[int, ...]] = []  # the shapes of known tensors
        self.sure: list[_Path] = []
        self.tables: list[tuple[_Path, Any]] = []  # tensors of n rows that are not known
        self.others: _Path | None = None  # a tensor of another number of rows

    def walk(self, value: Any, path: _Path, above: dict[int, Any]) -> None:
        if path in self.known:
            self.kin += [tuple(t.shape) for t in leaves(value)]
            return
        if id(value) in above:
            return
        leads_to_known = any(k[: len(path)] == path for k in self.known)
        if isinstance(value, Tensor | np.ndarray):
            if _has_rows(value, self.n):
                self.tables.append((path, value))
            elif value.ndim:
                self.others = path
            return
        if _is_tensordict(value) and value.batch_size[:1] == (self.n,):
            self.sure.append(path)
            for k in self.known:
                if k[: len(path)] == path:
                    self.kin += [tuple(t.shape) for t in leaves(get(value, k[len(path) :], "known"))]
            return
        _refuse_uncuttable(value, path)
        parts = _parts(value)
        if not parts:
            return
        if _is_list(value) and len(value) == self.n and not leads_to_known:
            self._list(value, path)
            return
        above = {**above, id(value): value}
        for part, entry in parts:
            self.walk(entry, (*path, part), above)

    def _list(self, value: Any, path: _Path) -> None:
        """A list of n entries."""
        what = ""
        if _holds_arrays(value):
            what = f"{self.n} entries with tensors, which could be samples, views or levels"
        elif all(isinstance(entry, numbers.Number) for entry in value):
            what = f"{self.n} numbers"
        elif any(_is_list(entry) and len(entry) == self.n for entry in value):
            what = f"{self.n} times {self.n} entries"
        if what:
            raise ValueError(
                f"Expected to see which fields are per sample, but {_place(path)} is a list of {what}, in a batch of "
                f"{self.n} samples. {_remedy(path)}"
            )
        self.sure.append(path)

    def verdict(self) -> tuple[Field, ...]:
        for path, table in self.tables:
            shape = tuple(table.shape)
            if any(_among(shape[1:], kin[1:]) for kin in self.kin):
                continue
            whole = (
                table.is_floating_point() or table.is_complex()
                if isinstance(table, Tensor)
                else (table.dtype.kind in "fc")
            )
            doubt = ""
            if self.others is not None:
                doubt = f"{_place(self.others)} has another number of rows, so not all is per sample"
            elif whole and all(size == 1 for size in shape[1:]):
                doubt = "it could hold a weight for each class"
            elif shape[1:2] == (self.n,):
                doubt = "it could hold something for all pairs"
            if doubt:
                raise ValueError(
                    f"Expected to see which fields are per sample, but {_place(path)} of shape {shape} may be or not, "
                    f"in a batch of {self.n} samples: {doubt}. {_remedy(path)}"
                )
        return (*self.sure, *(path for path, _ in self.tables))


def _among(sizes: tuple[int, ...], of: tuple[int, ...]) -> bool:
    """Are the sizes that are not 1 found among others, in their order, and is there one?"""
    sizes = tuple(size for size in sizes if size != 1)
    rest = iter(of)
    return bool(sizes) and all(size in rest for size in sizes)


class _Cut:
    """To some of n samples."""

    def __init__(self, n: int, chosen: list[int]) -> None:
        self.n = n
        self.chosen = chosen
        steps = {b - a for a, b in itertools.pairwise(chosen)}
        self.rows = slice(chosen[0], chosen[-1] + 1) if chosen and steps <= {1} else None

    def array(self, value: Any, path: _Path) -> Any:
        """The rows of a tensor or an array; neighbors without a copy."""
        if not _has_rows(value, self.n):
            raise ValueError(
                f"Expected {_place(path)} to be of {self.n} samples, but got shape {tuple(value.shape)}. Name the "
                "fields that are per sample, those within it by their paths: per_sample=(...)."
            )
        if isinstance(value, Tensor) and (value.layout != torch.strided or value.is_nested):
            raise ValueError(
                f"Expected a dense tensor to cut to some of its samples, but {_place(path)} is "
                f"{'nested' if value.is_nested else value.layout}. Make it dense in the collate function."
            )
        if self.rows is not None:
            return value[self.rows]
        return value[torch.tensor(self.chosen, device=value.device) if isinstance(value, Tensor) else self.chosen]

    def __call__(self, value: Any, path: _Path) -> Any:
        """All that a field of n samples holds."""
        if isinstance(value, Tensor | np.ndarray):
            return self.array(value, path)
        if _is_tensordict(value) and value.batch_size[:1] == (self.n,):
            return value[torch.tensor(self.chosen, dtype=torch.long)]
        _refuse_uncuttable(value, path)
        parts = _parts(value)
        if not parts:
            return value
        if _is_list(value) and len(value) == self.n and not self._each(value, path):
            entries = [value[i] for i in self.chosen]
            return _shorter(value, entries)
        changes = {}
        for part, entry in parts:
            if isinstance(entry, Tensor | np.ndarray) and entry.ndim == 0:
                continue
            cut = self(entry, (*path, part))
            if cut is not entry:
                changes[part] = cut
        return _rebuilt(value, changes) if changes else value

    def _each(self, value: Any, path: _Path) -> bool:
        """Are the n entries of a list of n rows each, so that it is they that are cut?"""
        each = all(
            _has_rows(entry, self.n) or (not isinstance(entry, Tensor | np.ndarray) and _all_rows(entry, self.n))
            for entry in value
        )
        shapes = {tuple(entry.shape) if isinstance(entry, Tensor | np.ndarray) else None for entry in value}
        if each and len(shapes) == 1 and self.n > 1:
            raise ValueError(
                f"Expected to see what of {_place(path)} is a sample, but it is a list of {self.n} entries of {self.n} "
                f"rows each. Name its entries, {(*path, 0)!r} and so on, if it is they that are of {self.n} samples."
            )
        return each


def _all_rows(value: Any, n: int) -> bool:
    tensors = [t for t in leaves(value) if t.ndim]
    return bool(tensors) and all(len(t) == n for t in tensors)


def _shorter(value: Any, entries: list[Any]) -> Any:
    """A sequence of the same class with fewer entries."""
    if isinstance(value, tuple):
        return _tuple(value, entries)
    new = copy.copy(value)
    new.clear()
    new.extend(entries)
    return new


def _cut_at(batch: Any, paths: Iterable[_Path], path: _Path, cut: _Cut) -> Any:
    """Cut what some paths lead to; a longer path says what of a shorter one is meant."""
    paths = set(paths)
    if not paths or batch is None:
        return batch
    if _is_tensordict(batch) and batch.batch_size[:1] == (cut.n,):
        return cut(batch, path)
    _refuse_uncuttable(batch, path)
    deeper = {p for p in paths if p}
    if not deeper:
        return cut(batch, path)
    changes = {}
    for part in dict.fromkeys(p[0] for p in deeper):
        inner = _read(batch, part)
        new = _cut_at(inner, {p[1:] for p in deeper if p[0] == part}, (*path, part), cut)
        if new is not inner:
            changes[part] = new
    return _rebuilt(batch, changes) if changes else batch
