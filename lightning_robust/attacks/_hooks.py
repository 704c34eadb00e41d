"""What hooks of modules write to: closures, arguments of partials, default arguments, globals, modules elsewhere."""

import functools
import types
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.nn.modules import module as torch_module

_DEEPEST = 3

EMPTY = object()
"""What a cell without a value holds."""


class Reach(NamedTuple):
    """What hooks reach: cells of closures, containers and tensors, modules."""

    cells: list[types.CellType]
    values: list[Any]
    modules: list[nn.Module]


def hooks_of(module: nn.Module) -> list[Any]:
    """The hooks of a module that run in a forward or in a backward."""
    parts = module._forward_pre_hooks, module._forward_hooks, module._backward_pre_hooks, module._backward_hooks
    return [hook for part in parts for hook in part.values()] if any(parts) else []


def global_hooks() -> list[Any]:
    """The hooks that run in the forwards of all modules."""
    return [*torch_module._global_forward_pre_hooks.values(), *torch_module._global_forward_hooks.values()]


def value_of(cell: types.CellType) -> Any:
    """What a cell holds."""
    try:
        return cell.cell_contents
    except ValueError:
        return EMPTY


def reach_of(hook: Any, containers: tuple[type, ...], most: int) -> Reach:
    """What a hook may write to.

    Of a function its closure, its default arguments and the global containers that its code names; of a partial its
    arguments; of a method the module that it belongs to. Not the inside of other objects, nor what torch's own hooks
    hold.

    Args:
        hook: The hook.
        containers: What are containers.
        most: Number of entries above which modules are not looked for in a container.
    """
    reach = Reach([], [], [])
    seen: set[int] = set()
    stack: list[tuple[Any, int]] = [(hook, 0)]
    while stack:
        value, depth = stack.pop()
        if depth > _DEEPEST or id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, nn.Module):
            reach.modules.append(value)
        elif isinstance(value, Tensor) or type(value) in containers:
            reach.values.append(value)
            if type(value) in containers and len(value) <= most:
                entries = value.values() if isinstance(value, dict) else value
                stack += [(entry, depth + 1) for entry in entries if isinstance(entry, nn.Module)]
        elif isinstance(value, functools.partial):
            stack += [(part, depth + 1) for part in (value.func, *value.args, *value.keywords.values())]
        elif isinstance(value, types.MethodType):
            stack += [(part, depth + 1) for part in (value.__self__, value.__func__)]
        elif isinstance(value, types.FunctionType) and not (value.__module__ or "").startswith("torch."):
            cells = value.__closure__ or ()
            reach.cells.extend(cells)
            named = [value.__globals__.get(name) for name in value.__code__.co_names]
            parts = [value_of(cell) for cell in cells]
            parts += [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
            parts += [v for v in named if type(v) in containers]
            stack += [(part, depth + 1) for part in parts]
    return reach
