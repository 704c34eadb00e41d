"""What something is, in words that are the same in every run, and other words where its content is another."""

import dataclasses
import dis
import functools
import hashlib
import inspect
import logging
import re
import types
from collections.abc import Iterator, Mapping
from enum import Enum
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lightning_robust.evaluation._data import fingerprint

_FEW = 16  # numbers that are shown
_OURS = ("lightning_robust", "torch")
_PLAIN = (type(None), bool, int, float, complex, str, bytes, type(...), np.generic)
_NAMED = (Enum, Fraction, range, slice, torch.dtype, torch.Size)
_CALLED = (types.FunctionType, types.MethodType, types.BuiltinFunctionType, functools.partial)
_TOLD = (types.FunctionType, nn.Module, Tensor, np.ndarray)  # once in a call, for their words are a digest
_CHANGES = frozenset(("append", "extend", "insert", "add", "update", "setdefault", "pop", "popitem", "remove", "clear"))
_OF_THE_RUN = frozenset(  # words in names of settings that say how and where, and not what is computed
    [
        *("checkpoint", "checkpointing", "debug", "device", "devices", "dir", "file", "folder", "logger", "memory"),
        *("name", "path", "rank", "root", "verbose", "workers"),
    ]
)
_AROUND = _OF_THE_RUN - {"name", "rank"}  # around a function these may choose what is computed


def described(value: Any) -> str:
    """What something is, as text.

    Tensors are told by their content, in full where they have few numbers. Functions of the user are told by their
    code, their defaults, and what they take from around them: numbers, texts, tensors, networks, functions and objects
    made of these. What a function changes itself, such as a counter, is left out, and so are numbers and texts whose
    names say where and how to compute, such as a device. Of other objects counts what their constructor took and they
    keep under the same name. Addresses in memory are left out.

    Example:
        >>> described((0.5, torch.tensor([0.1], dtype=torch.float64), {"b", "a"}))
        "(0.5, float64[0.1], {'a', 'b'})"
        >>> at = lambda steps: lambda x: x + steps
        >>> described(at(1)) == described(at(1)), described(at(1)) == described(at(2))
        (True, False)
    """
    return _text(value, _Above(), inner=False)


def settings_of(owner: Any) -> dict[str, str]:
    """What the constructor of an object took and the object keeps under the same name, but for networks and for what
    only says where and how to compute.
    """
    return _settings(owner, _Above())


class _Above:
    """What a value is part of, and the words that were found so far in the same call.

    Args:
        ids: Of what it is part of.
        words: Of functions, networks and tensors by their id, with themselves, so that no other takes their id.
    """

    def __init__(self, ids: tuple[int, ...] = (), words: dict[int, tuple[Any, str]] | None = None) -> None:
        self.ids, self.words = ids, {} if words is None else words

    def and_of(self, value: Any) -> "_Above":
        """What a part of the value is part of."""
        return _Above((*self.ids, id(value)), self.words)


def _text(value: Any, above: _Above, *, inner: bool) -> str:
    """The text; `above`: what it is part of; `inner`: is it around a function, which may keep a state there?"""
    if id(value) in above.ids:
        return "..."
    if not isinstance(value, _TOLD):
        return _new(value, above.and_of(value), inner=inner)
    if id(value) not in above.words:
        above.words[id(value)] = value, _new(value, above.and_of(value), inner=inner)
    return above.words[id(value)][1]


def _new(value: Any, above: _Above, *, inner: bool) -> str:
    """The text of what was not met yet, itself above its parts."""

    def of(part: Any) -> str:
        return _text(part, above, inner=inner)

    match value:
        case Tensor() | np.ndarray():
            return _numbers(value)
        case functools.partial():
            words = [of(value.func), *map(of, value.args), *(f"{k}={of(v)}" for k, v in value.keywords.items())]
            return f"partial({', '.join(words)})"
        case types.MethodType():
            return f"{of(value.__self__)}.{value.__func__.__name__}"
        case types.FunctionType():
            return _function(value, above)
        case nn.Module():
            tensors = [*value.named_parameters(), *value.named_buffers()]
            return f"{type(value).__qualname__} #{fingerprint(tensors)}"
        case tuple() | list():
            words = list(map(of, value))
            kind = "" if type(value) in (tuple, list) else type(value).__qualname__
            inside = ", ".join(words) + ("," if isinstance(value, tuple) and len(words) == 1 else "")
            return f"{kind}({inside})" if isinstance(value, tuple) else f"{kind}[{inside}]"
        case set() | frozenset():
            inside = ", ".join(sorted(map(of, value)))
            return f"{{{inside}}}" if isinstance(value, set) else f"frozenset({{{inside}}})"
        case Mapping():
            return f"{{{', '.join(f'{of(k)}: {of(v)}' for k, v in value.items() if not (inner and _aside(k, v)))}}}"
        case logging.Logger():
            return type(value).__qualname__
        case type() | types.ModuleType():
            return f"<{value.__name__}>" if isinstance(value, types.ModuleType) else repr(value)
    if isinstance(value, (*_PLAIN, *_NAMED)):
        return repr(value)
    if dataclasses.is_dataclass(value):
        pairs = [(f.name, getattr(value, f.name, None)) for f in dataclasses.fields(value) if f.repr]
        words = [f"{name}={of(part)}" for name, part in pairs if not (inner and _aside(name, part))]
        return f"{type(value).__qualname__}({', '.join(words)})"
    own = "" if inner or type(value).__repr__ is object.__repr__ else re.sub(" at 0x[0-9a-f]+", "", repr(value))
    words = [f"{name}={text}" for name, text in _settings(value, above).items()]
    kept = f"{type(value).__qualname__}({', '.join(words)})" if words or not own else ""
    return " ".join(filter(None, (own, kept)))


def _numbers(value: Any) -> str:
    """A tensor or an array."""
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "biufc":
            return f"{value.dtype}{value.tolist()}"
        value = torch.as_tensor(np.ascontiguousarray(value).astype(value.dtype.newbyteorder("=")))
    kind, size = str(value.dtype).removeprefix("torch."), "x".join(map(str, value.shape))
    if value.is_meta:
        return f"{kind}[{size}]"
    if value.numel() <= _FEW and value.layout == torch.strided and not value.is_quantized:
        content = value.detach().tolist()
        return f"{kind}{content}" if value.ndim else f"{kind} {content}"
    return f"{kind}[{size} #{fingerprint([('', value)])}]"


def _function(function: types.FunctionType, above: _Above) -> str:
    """A function: those of this package and of torch by name, others by content too."""
    original = getattr(function, "_torchdynamo_orig_callable", None)
    if original is not None:
        return _text(original, above, inner=True)
    name = function.__qualname__
    if function.__module__ and function.__module__.split(".")[0] in _OURS and "<" not in name:
        return f"<function {name}>"
    codes = list(_codes(function.__code__))
    steps = [step for code in codes for step in dis.get_instructions(code)]
    stored = {step.argval for step in steps if step.opname in ("STORE_DEREF", "STORE_GLOBAL", "STORE_NAME")}
    changes = any(
        step.opname in ("STORE_SUBSCR", "DELETE_SUBSCR", "STORE_SLICE")
        or (step.opname in ("LOAD_ATTR", "LOAD_METHOD") and step.argval in _CHANGES)
        for step in steps
    )
    kinds: tuple[type, ...] = (list, dict, set) if changes else ()
    changed = {step.argval for step in steps if step.opname in ("STORE_ATTR", "DELETE_ATTR")}
    around = {**_cells(function), **_globals(function, steps)}
    parts: list[Any] = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).items()]
    parts += [
        (one, type(held).__qualname__ if isinstance(held, kinds) or changed & _shown(held) else held)
        for one, held in sorted(around.items())
        if one not in stored
    ]
    digest = hashlib.blake2b(digest_size=8)
    for code in codes:
        words = [_text(c, above, inner=True) for c in code.co_consts if not isinstance(c, types.CodeType)]
        digest.update(code.co_code + repr((code.co_names, words)).encode())
    digest.update(repr([_text(part, above, inner=True) for part in parts]).encode())
    return f"<function {name} #{digest.hexdigest()}>"


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """The code, and that of the functions in it."""
    yield code
    for part in code.co_consts:
        if isinstance(part, types.CodeType):
            yield from _codes(part)


def _cells(function: types.FunctionType) -> dict[str, Any]:
    """What a function takes from the functions around it."""
    pairs = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    held = {name: cell.cell_contents for name, cell in pairs if cell != types.CellType()}
    return {name: value for name, value in held.items() if not _aside(name, value)}


def _globals(function: types.FunctionType, steps: list[dis.Instruction]) -> dict[str, Any]:
    """What it takes from its module; of other modules' functions and classes the names alone."""
    names = {step.argval for step in steps if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    found = {name: function.__globals__[name] for name in names if name in function.__globals__}
    return {
        name: f"{value.__module__}.{value.__qualname__}"
        if isinstance(value, types.FunctionType) and value.__module__ != function.__module__
        else value
        for name, value in found.items()
        if not _aside(name, value)
    }


def _aside(name: Any, value: Any) -> bool:
    """Does it only say where and how to compute?"""
    ones = value if isinstance(value, tuple | list) else [value]
    named = isinstance(name, str) and _AROUND & set(name.lower().split("_"))
    return bool(named) and all(isinstance(one, _PLAIN) for one in ones)


def _shown(value: Any) -> set[str]:
    """The attributes of an object that its words would show."""
    if isinstance(value, (*_PLAIN, *_CALLED, nn.Module, type)):
        return set()
    return {f.name for f in dataclasses.fields(value)} if dataclasses.is_dataclass(value) else taken_by(value)


def taken_by(owner: Any) -> set[str]:
    """The names of what the constructor of an object takes."""
    try:
        return set(inspect.signature(type(owner).__init__).parameters)
    except (TypeError, ValueError):  # written in C
        return set()


def _settings(owner: Any, above: _Above) -> dict[str, str]:
    taken = taken_by(owner)
    kept = {name: value for name, value in getattr(owner, "__dict__", {}).items() if name in taken}
    wanted = (*_PLAIN, *_NAMED, *_CALLED, Tensor, np.ndarray)
    return {
        name: _text(value, above.and_of(owner), inner=True)
        for name, value in sorted(kept.items())
        if not _OF_THE_RUN & set(name.split("_"))
        and (isinstance(value, wanted) or (isinstance(value, tuple) and all(isinstance(v, wanted) for v in value)))
    }
