"""A model behind the map of a space, as one function of the perturbation, and by what two such maps are told apart."""

import types
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

Decode = Callable[[Tensor], Tensor]
"""A perturbation (N, ...) to adversarial inputs, as in `Chart.decode`."""

_DEEPEST = 4
_PLAIN = (bool, int, float, str, bytes, type(None))


def joined(model: Any, decode: Decode) -> Callable[[Tensor], Any]:
    """`delta -> model(decode(delta))`; a model with a method `after_decode(decode)` makes one function of both."""
    join = getattr(model, "after_decode", None)
    return join(decode) if join is not None else lambda delta: model(decode(delta))


Whole = Callable[[Tensor, Any, float, int], tuple[Tensor, Any] | None]
"""`(delta, state, size, number) -> (delta, state)`: one step of the ascent; None: this one is to be made as usual."""


def in_one(answer: Any, *course: Any) -> Whole | None:
    """A whole step of the ascent as one function.

    Args:
        answer: What `joined` gave. One that can make it has a method `in_one` with the same arguments.
        course: The goal, the threat, the chart and the rule of a run, and its number of steps.
    """
    make = getattr(answer, "in_one", None)
    return None if make is None else make(*course)


def kind_of(value: Any, *, shapes: bool = True, depth: int = 0) -> Any:
    """What a graph of a function may depend on: its code, and what its closure holds; to be looked up.

    Args:
        value: The function, or what one holds: tensors by type, layout and all dimensions but the first, numbers and
            texts by value, tuples, lists and dataclasses by their entries, networks and other objects by identity.
        shapes: Look at tensors; without, the kind is the same for all batches of a space.
        depth: How deep it is held.
    """
    if isinstance(value, Tensor):
        return (value.dtype, value.device, value.shape[1:], value.stride()[1:]) if shapes else Tensor
    if isinstance(value, _PLAIN):
        return value
    if depth > _DEEPEST or isinstance(value, nn.Module):
        return id(value)
    if isinstance(value, types.MethodType):
        held: Any = (value.__func__.__code__, value.__self__)
    elif isinstance(value, partial):
        held = (value.func, value.args, *value.keywords.items())
    elif isinstance(value, types.FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or () if cell != types.CellType()]
        held = (value.__code__, *cells)
    elif isinstance(value, tuple | list):
        held = value
    elif is_dataclass(value) and not isinstance(value, type):
        held = (type(value), *(getattr(value, f.name) for f in fields(value)))
    else:
        return id(value)
    return tuple(kind_of(part, shapes=shapes, depth=depth + 1) for part in held)
