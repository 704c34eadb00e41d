"""The law of arguments: a bad value is refused by the argument's own name, and numpy's numbers are numbers.

`tests/test_arguments.py` and its like give tables of constructors with valid arguments; what is bad follows from the
valid value and the annotation.
"""

import dataclasses
import importlib
import inspect
import math
import re
import types
from collections.abc import Callable, Iterable, Mapping, Set
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor


@dataclasses.dataclass
class Case:
    """A constructor, and valid arguments of it.

    Args:
        make: The constructor.
        given: Valid values by argument; where there is none, the default stands.
        free: Names of numbers that may be negative, and of sequences of anything.
        infinite: Names of numbers that may be infinite.
        empty: Names of sequences that may be empty.
        skip: Names of arguments that are somebody else's to check.
    """

    make: Callable[..., Any]
    given: dict[str, Any]
    free: str = ""
    infinite: str = ""
    empty: str = ""
    skip: str = ""

    def __post_init__(self) -> None:
        self.parameters = parameters_of(self.make)
        default = {name: p.default for name, p in self.parameters.items() if p.default is not p.empty}
        self.valid = {**default, **self.given}

    def __call__(self, **changed: Any) -> Any:
        """What the constructor makes of the valid arguments with some changed."""
        torch.default_generator.manual_seed(0)
        values = {**self.valid, **changed}
        many = [name for name, p in self.parameters.items() if p.kind is p.VAR_POSITIONAL]
        return self.make(*(values.pop(many[0]) if many else ()), **values)


def case(make: Callable[..., Any], free: str = "", infinite: str = "", empty: str = "", skip: str = "", **given: Any):
    return Case(make, given, free, infinite, empty, skip)


def parameters_of(make: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The arguments, those that `**kwargs` hands on to a base class of ours among them."""
    found: dict[str, inspect.Parameter] = {}
    for function in [c.__init__ for c in make.__mro__ if "__init__" in vars(c)] if inspect.isclass(make) else [make]:
        if not getattr(function, "__module__", "").startswith("lightning_robust"):
            break
        parameters = inspect.signature(function).parameters
        found = {**parameters, **found}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            break
    return {name: p for name, p in found.items() if p.kind is not p.VAR_KEYWORD and name != "self"}


def kind_of(name: str, annotation: str, value: Any) -> str:
    """What an argument is, by its name, its annotation and a valid value of it."""
    if isinstance(value, bool):
        return "boolean"
    if "int | str | tuple[int | str, ...]" in annotation and not isinstance(value, list):
        return "key"
    if isinstance(value, int | float):
        number = isinstance(value, float) or "float" in annotation or "Real" in annotation
        return "number" if number else "seed" if "seed" in name else "count"
    if isinstance(value, str | Path):
        return "path" if "Path" in annotation else "choice" if "Literal" in annotation else "text"
    if isinstance(value, types.FunctionType | partial) or "Callable" in annotation:
        return "function"
    if isinstance(value, list | tuple):
        return "several"
    return "object"


def bad_values(case: Case, name: str) -> list[Any]:
    """Values that an argument may not have."""
    parameter, value = case.parameters[name], case.valid[name]
    annotation = str(parameter.annotation)
    kind = kind_of(name, annotation, value)
    thing = object()
    bad: list[Any] = [thing, [thing]]
    if "None" not in annotation and parameter.default is not None:
        bad.append(None)
    if name not in case.empty.split() and kind not in ("text", "key"):
        bad.append([])
    if kind in ("number", "count", "seed"):
        bad += ["0.5", True, np.bool_(True), math.nan, 1j, float]
        bad += [] if name in case.infinite.split() else [math.inf]
        bad += [] if kind == "seed" or name in case.free.split() else [-1]
        bad += [1.5, 2.0] if kind in ("count", "seed") else []
    elif kind == "key":
        bad += [1.5, True]
    elif kind == "boolean":
        bad += ["no", 0, 1, math.nan]
    elif kind == "choice":
        bad += ["no such choice", 3, True]
    elif kind in ("text", "path"):
        bad += [3, True]
    elif kind == "function":
        bad += ["no function", 3, dict]
    elif kind == "several":
        bad += ["no sequence", 3, True, *([] if name in case.free.split() else [[thing] * len(value)])]
        bad += [[math.nan] * len(value)] if value and isinstance(value[0], int | float) else []
    else:
        bad += ["no such thing", True, type(value)]
    return bad


def outcome(case: Case, name: str, bad: Any) -> str | None:
    """What is wrong with how a bad value is met; None: it is refused by the name of its argument."""
    many = case.parameters[name].kind is inspect.Parameter.VAR_POSITIONAL
    try:
        case(**{name: [bad, *case.valid[name][1:]] if many else bad})
    except (TypeError, ValueError) as error:
        named = re.search(rf"argument `{name}[`\[.]|arguments .*`{name}`", str(error))
        return None if named else f"{bad!r}: without the name: {str(error)[:200]}"
    except Exception as error:
        return f"{bad!r}: {type(error).__name__}: {str(error)[:200]}"
    return f"{bad!r}: taken"


def arguments(table: Mapping[str, Case], *kinds: str) -> list[Any]:
    """Each case with the names of its arguments, of all kinds or of some."""
    names = {
        title: [
            name
            for name, parameter in case.parameters.items()
            if name not in case.skip.split() and case.valid.get(name) is not None
            if not kinds or kind_of(name, str(parameter.annotation), case.valid[name]) in kinds
        ]
        for title, case in table.items()
    }
    return [pytest.param(table[title], some, id=title) for title, some in names.items() if some]


def described(value: Any, seen: frozenset[int] = frozenset()) -> Any:
    """A value as something that can be compared; numpy's scalars have no place in it."""
    assert not isinstance(value, np.generic), f"a numpy scalar is kept: {value!r}"
    if isinstance(value, Tensor):
        return value.dtype, tuple(value.shape), value.detach().double().nan_to_num().sum().item()
    if value is None or isinstance(value, bool | int | float | str | bytes | Path | type | torch.dtype | torch.device):
        return type(value).__name__, repr(value)
    if isinstance(value, Figure | types.FunctionType | types.MethodType | torch.Generator) or id(value) in seen:
        return type(value).__name__
    seen = seen | {id(value)}
    if isinstance(value, Mapping):
        return [(str(key), described(entry, seen)) for key, entry in value.items()]
    if isinstance(value, list | tuple):
        return type(value).__name__, [described(entry, seen) for entry in value]
    if isinstance(value, Set):
        return type(value).__name__, sorted(map(repr, value))
    if isinstance(value, np.ndarray):
        return described(torch.as_tensor(value))
    return type(value).__name__, described(vars(value), seen) if hasattr(value, "__dict__") else None


def public(home: str, packages: Iterable[str]) -> dict[str, Any]:
    """Everything public that takes numbers or flags."""
    found = {}
    for package in packages:
        module = importlib.import_module(f"{home}.{package}")
        for name in module.__all__:
            thing = getattr(module, name)
            called = isinstance(thing, types.FunctionType) or (
                inspect.isclass(thing) and not getattr(thing, "_is_protocol", False) and not hasattr(thing, "_fields")
            )
            if called and any(
                re.search(r"\b(int|float|bool|Real|Numbers)\b", inspect.formatannotation(p.annotation))
                for p in parameters_of(thing).values()
            ):
                found[f"{package}.{name}"] = thing
    return found


def assert_numpy_scalars_are_numbers(one: Case, names: Iterable[str], generator: torch.Generator) -> None:
    """Arguments that are numpy's numbers make what Python's make; `generator` is one that is among the arguments."""
    for name in names:
        value = one.valid[name]
        kind = np.bool_ if isinstance(value, bool) else np.int64 if isinstance(value, int) else np.float32
        scalar = kind(value)
        generator.manual_seed(0)
        plain = described(one(**{name: scalar.item()}))
        generator.manual_seed(0)
        assert described(one(**{name: scalar})) == plain, name
