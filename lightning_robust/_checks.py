"""Checks of arguments, said once: every error names the argument, the expectation and the value.

Each function returns the value it was given as the plain Python object that is meant, so that a sweep over numpy arrays
works and a `repr` or a configuration file shows `5` where `numpy.int64(5)` was passed.
"""

import math
import numbers
from collections.abc import Iterable, Sequence
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
    if not inside or math.isnan(plain) or (finite and math.isinf(plain)):
        raise ValueError(f"{wanted}{' and finite' if finite and math.isinf(plain) else ''}, but got {_shown(value)}.")
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
    if value < least or (most is not None and value > most):
        raise ValueError(f"{wanted}, but got {_shown(value)}.")
    return int(value)


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


def text(name: str, value: Any) -> str:
    """A string that is not empty."""
    if not isinstance(value, str) or not value:
        raise TypeError(f"Expected argument `{name}` to be a string that is not empty, but got {_shown(value)}.")
    return value


def function(name: str, value: _T, signature: str) -> _T:
    """Something callable that is no class: a class in its place was most likely not called.

    Args:
        name: The argument.
        value: What was given.
        signature: What it is called with and returns, such as `(logits, y) -> (N,)`.
    """
    if isinstance(value, type):
        raise TypeError(
            f"Expected argument `{name}` to be a function {signature}, but got the class {value.__name__}. "
            f"Did you mean {value.__name__}(...)?"
        )
    if not callable(value):
        raise TypeError(f"Expected argument `{name}` to be a function {signature}, but got {_shown(value)}.")
    return value


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
        value: What was given: a list, a tuple, an array.
        wanted: What it is to be, such as "a pair (low, high)".
        length: How many; None: any number.
    """
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise TypeError(f"Expected argument `{name}` to be {wanted}, but got {_shown(value)}.")
    entries = tuple(value)
    if length is not None and len(entries) != length:
        raise ValueError(f"Expected argument `{name}` to be {wanted}, but got {_shown(value)}.")
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
