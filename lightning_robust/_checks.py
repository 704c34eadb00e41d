"""Checks of arguments, said once: every error names the argument, the expectation and the value.

Each function returns the value it was given as the plain Python object that is meant, so that a sweep over numpy arrays
works and a `repr` or a configuration file shows `5` where `numpy.int64(5)` was passed.
"""

import inspect
import math
import numbers
import os
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path
from types import FunctionType
from typing import Any, TypeVar

import numpy as np

_T = TypeVar("_T")


def number(
    name: str,
    value: Any,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    above: bool = False,
    below: bool = False,
    finite: bool = True,
) -> float:
    """A real number in [low, high].

    Args:
        name: The argument, as the user writes it.
        value: What was given: Python's or numpy's integers and floats; booleans, strings and NaN are refused.
        low: The least value allowed.
        high: The greatest value allowed.
        above: Is `low` itself refused?
        below: Is `high` itself refused?
        finite: Is infinity refused?

    Returns:
        An int where an integer was given, else a float.

    Example:
        >>> number("fraction", np.float32(0.5), 0, 1, above=True)
        0.5
    """
    wanted = f"Expected argument `{name}` to be {_range('a number', low, high, above=above, below=below)}"
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real):
        raise TypeError(f"{wanted}, but got {_shown(value)}.")
    plain = int(value) if isinstance(value, numbers.Integral) else float(value)
    inside = (plain > low if above else plain >= low) and (plain < high if below else plain <= high)
    infinite = inside and finite and plain in (math.inf, -math.inf)
    if not inside or infinite or plain != plain:  # NaN alone differs from itself
        raise ValueError(f"{wanted}{' and finite' if infinite else ''}, but got {_shown(value)}.")
    return plain


def count(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """An integer of at least `least`.

    Example:
        >>> count("steps", np.int64(10))
        10
    """
    wanted = f"Expected argument `{name}` to be an integer of at least {least}"
    wanted += "" if most is None else f" and at most {most}"
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{wanted}, but got {_shown(value)}.")
    plain = int(value)
    if plain < least or (most is not None and plain > most):
        raise ValueError(f"{wanted}, but got {_shown(value)}.")
    return plain


def seed(name: str, value: Any) -> int:
    """An integer of any size and sign."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Integral):
        raise TypeError(f"Expected argument `{name}` to be an integer, but got {_shown(value)}.")
    return int(value)


def boolean(name: str, value: Any) -> bool:
    """True or False, and nothing that merely counts as one: "no" would be true.

    Example:
        >>> boolean("to_disk", "no")
        Traceback (most recent call last):
        TypeError: Expected argument `to_disk` to be True or False, but got 'no'.
    """
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"Expected argument `{name}` to be True or False, but got {_shown(value)}.")
    return bool(value)


def choice(name: str, value: _T, among: Sequence[_T]) -> _T:
    """One of several values."""
    if not any(type(value) is type(one) and value == one for one in among):
        shown = ", ".join(f'"{one}"' if isinstance(one, str) else repr(one) for one in among)
        raise ValueError(f"Expected argument `{name}` to be one of {shown}, but got {_shown(value)}.")
    return value


def text(name: str, value: Any, *, empty: bool = False) -> str:
    """A string that is not empty, or may be."""
    if not isinstance(value, str) or not (value or empty):
        wanted = "a string" if empty else "a string that is not empty"
        raise TypeError(f"Expected argument `{name}` to be {wanted}, but got {_shown(value)}.")
    return value


def function(name: str, value: _T, signature: str, makes: type | None = None, takes: int | None = None) -> _T:
    """Something callable that is no class: a class, or a function that makes what is wanted, was not called.

    Args:
        name: The argument.
        value: What was given.
        signature: What it is called with and returns, such as `(logits, y) -> (N,)`.
        makes: What it returns, where classes of that kind are welcome, such as optimizers.
        takes: The number of positional arguments that it is called with; a function that takes another number is
            refused. None: that is not checked.
    """
    if isinstance(value, type) and not (makes is not None and issubclass(value, makes)):
        raise TypeError(
            f"Expected argument `{name}` to be a function {signature}, but got the class {value.__name__}. "
            f"Did you mean {value.__name__}(...)?"
        )
    if not callable(value):
        raise TypeError(f"Expected argument `{name}` to be a function {signature}, but got {_shown(value)}.")
    if takes is not None and isinstance(value, FunctionType) and not _binds(value, takes):
        called = f" Did you mean {value.__name__}(...)?" if _binds(value, 0) else ""
        raise TypeError(
            f"Expected argument `{name}` to be a function {signature}, but got {value.__name__}"
            f"{inspect.signature(value)}.{called}"
        )
    return value


def _binds(value: FunctionType, arguments: int) -> bool:
    """Whether a function can be called with this number of positional arguments."""
    try:
        inspect.signature(value).bind(*[None] * arguments)
    except TypeError:
        return False
    return True


def instance(name: str, value: Any, kinds: type | tuple[type, ...], wanted: str) -> Any:
    """An object of one of some classes.

    Args:
        name: The argument.
        value: What was given.
        kinds: The classes.
        wanted: What it is to be, such as "a Ball (Linf, L2, L1, Box)".
    """
    if isinstance(value, type):
        raise TypeError(
            f"Expected argument `{name}` to be {wanted}, but got the class {value.__name__}. "
            f"Did you mean {value.__name__}(...)?"
        )
    if not isinstance(value, kinds):
        raise TypeError(f"Expected argument `{name}` to be {wanted}, but got {_shown(value)}.")
    return value


def sequence(name: str, value: Any, wanted: str, length: int | None = None) -> tuple[Any, ...]:
    """Several things in order, as a tuple; a string is one thing.

    Args:
        name: The argument.
        value: What was given: a list, a tuple, an array, a tensor.
        wanted: What it is to be, such as "a pair (low, high)".
        length: How many; None: any number.
    """
    array = hasattr(value, "tolist") and not isinstance(value, type)
    entries = value.tolist() if array else value  # an array of no dimensions is a number
    if isinstance(entries, str | bytes | Mapping | Set) or not isinstance(entries, Iterable):
        raise TypeError(f"Expected argument `{name}` to be {wanted}, but got {_shown(value)}.")
    entries = tuple(entries)
    if length is not None and len(entries) != length:
        raise ValueError(f"Expected argument `{name}` to be {wanted}, but got {_shown(value)}.")
    return entries


def counts(name: str, value: Any, least: int = 1, *, empty: bool = False) -> tuple[int, ...]:
    """Integers of at least `least`, as a tuple; may there be none?

    Example:
        >>> counts("hidden", [64, 0])
        Traceback (most recent call last):
        ValueError: Expected argument `hidden[1]` to be an integer of at least 1, but got 0.
    """
    entries = _entries(name, value, "integer", empty=empty)
    return tuple(count(f"{name}[{i}]", entry, least) for i, entry in enumerate(entries))


def values(name: str, value: Any, low: float = -math.inf, high: float = math.inf, **ends: bool) -> tuple[float, ...]:
    """Numbers, one or more, as a tuple; the other arguments are those of `number`."""
    entries = _entries(name, value, "number")
    return tuple(number(f"{name}[{i}]", entry, low, high, **ends) for i, entry in enumerate(entries))


def one_or_more(
    name: str, value: Any, low: float = -math.inf, high: float = math.inf, **ends: bool
) -> float | tuple[float, ...]:
    """A number for all or one for each; the other arguments are those of `number`.

    Example:
        >>> one_or_more("std", 0.5), one_or_more("std", [0.5, 0.25])
        (0.5, (0.5, 0.25))
    """
    many = isinstance(value, Iterable) and not isinstance(value, str | bytes) and getattr(value, "ndim", 1) > 0
    return values(name, value, low, high, **ends) if many else number(name, value, low, high, **ends)


def interval(name: str, value: Any, *, finite: bool = True) -> tuple[float, float]:
    """Two numbers that rise.

    Example:
        >>> interval("value_range", [0, 255])
        (0, 255)
    """
    wanted = "a pair of numbers (low, high) with low < high"
    low, high = sequence(name, value, wanted, 2)
    low, high = number(f"{name}[0]", low, finite=finite), number(f"{name}[1]", high, finite=finite)
    if not low < high:
        raise ValueError(f"Expected argument `{name}` to be {wanted}, but got {_shown(value)}.")
    return low, high


def path(name: str, value: Any) -> Path:
    """The name of a file or folder."""
    if not isinstance(value, str | os.PathLike) or not str(value):
        raise TypeError(f"Expected argument `{name}` to be a path, but got {_shown(value)}.")
    return Path(value)


def _entries(name: str, value: Any, noun: str, *, empty: bool = False) -> tuple[Any, ...]:
    """The entries of a sequence that holds at least one, or may be empty."""
    entries = sequence(name, value, f"a sequence of {noun}s")
    if not entries and not empty:
        raise ValueError(f"Expected argument `{name}` to hold at least one {noun}, but got none.")
    return entries


def _range(noun: str, low: float, high: float, *, above: bool, below: bool) -> str:
    """The words for a range."""
    if low == -math.inf and high == math.inf:
        return noun
    if high == math.inf:
        return f"{noun} {'greater than' if above else 'of at least'} {low:g}"
    if low == -math.inf:
        return f"{noun} {'less than' if below else 'of at most'} {high:g}"
    return f"{noun} in {'(' if above else '['}{low:g}, {high:g}{')' if below else ']'}"


def _shown(value: Any) -> str:
    """What was given, short enough for a line."""
    if isinstance(value, np.generic):
        value = value.item()
    shown = repr(value)
    return shown if len(shown) <= 120 else f"{shown[:100]}... ({type(value).__name__})"
