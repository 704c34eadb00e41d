"""What modules carry, kept while an attack runs: buffers, plain attributes and, see `_weights.py`, parameters.

Buffers. Those of normalization layers and observers, and all small ones, are copied before and written back after:
kernels such as `F.batch_norm` write to them without counting versions. Large ones are watched, see `_kept.py`.

Where forwards run in training mode, the buffers that are copied are swapped for clones instead, so that autograd may
save the clones. In evaluation mode they stay where they are: compiled graphs know their addresses.

Plain attributes. Whatever an attribute of a module was before, it is after, and so is the content of plain lists,
dicts, sets, counters and deques in attributes: hidden states, spikes, caches, collected features, metrics. The same
holds for what hooks write to, see `_hooks.py`. Tensors there are treated like buffers.

Inference tensors, in buffers or attributes, are swapped for clones: autograd cannot save them.

What cannot be kept: the inside of other objects (a cache in a class of its own), containers of more than 1,000 entries,
what is outside Python, and modules or parameters that a forward adds.
"""

import itertools
import operator
import types
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lightning_robust.attacks._hooks import EMPTY, global_hooks, hooks_of, reach_of, value_of
from lightning_robust.attacks._kept import SMALL, Tensors, size, tell
from lightning_robust.attacks._weights import Weights

_MOST_ENTRIES = 1000
_CONTAINERS = (list, dict, set, deque, OrderedDict, defaultdict, Counter)
INTERNAL = frozenset(vars(nn.Module()))
"""The attributes that torch gives every module."""

_PLAIN = frozenset((bool, int, float, str, bytes, complex, type(None)))
_ABSENT = object()


class _Held(NamedTuple):
    """A dict of attributes or a container: what it held before, and what it holds while the attack runs."""

    live: Any
    before: Any
    start: Any


class State:
    """The state of some modules, kept in a `with` block.

    Args:
        modules: All modules, each once.
        swap: Swap buffers for clones instead of copying them back: forwards will run in training mode.
        weights: Keep parameters, too. Whether they need a gradient may change inside, not before.

    Attributes:
        moves: Do forwards change attributes? Whoever finds out says so here.
    """

    moves = False

    def __init__(self, modules: list[nn.Module], *, swap: bool, weights: bool = True) -> None:
        self._modules, self._swap, self._keep_weights = modules, swap, weights
        self._buffers: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self._attributes: list[_Held] = []
        self._containers: list[_Held] = []
        self._cells: list[tuple[types.CellType, Any]] = []
        self._tensors = Tensors(training=swap)

    def __enter__(self) -> "State":
        for module in self._modules:
            if isinstance(module, torch.jit.ScriptModule):
                for name, buffer in module.named_buffers(recurse=False):
                    self._tensors.keep(buffer, name, always=True)
            else:
                self._keep_buffers(module)
                self._keep_attributes(module)
        elsewhere = self._keep_reach()
        self._weights = Weights([*self._modules, *elsewhere] if self._keep_weights else [], training=self._swap)
        return self

    def __exit__(self, *exception: object) -> None:
        for live, before in self._buffers:
            _set_back(live, before)
        for held in self._attributes:
            _set_back(held.live, held.before)
        self._set_cells_back()
        # Backwards: a container that two modules share was met a second time with clones in it.
        for held in reversed(self._containers):
            _refill(held.live, held.before)
        lost = [*self._tensors.put_back(), *self._weights.put_back()]
        if lost:
            tell(lost)

    def rewind(self) -> None:
        """The attributes as the attack found them, for another forward."""
        for held in self._attributes:
            _set_back(held.live, held.start)
        self._set_cells_back()
        for held in self._containers:
            _refill(held.live, held.start)
        self._tensors.rewind()

    def attributes_moved(self) -> bool:
        """Has a forward changed a plain attribute?"""
        return (
            self._tensors.moved()
            or any(not _same_entries(held.live, held.start) for held in self._attributes)
            or any(not _same_content(held.live, held.start) for held in self._containers)
            or any(value_of(cell) is not value for cell, value in self._cells)
        )

    def _set_cells_back(self) -> None:
        for cell, value in self._cells:
            if value_of(cell) is not value:
                if value is EMPTY:
                    del cell.cell_contents
                else:
                    cell.cell_contents = value

    def _keep_buffers(self, module: nn.Module) -> None:
        before = dict(module._buffers)
        self._buffers.append((module._buffers, before))
        uncounted = bool(before) and _writes_uncounted(module)
        for name, buffer in before.items():
            if buffer is None:
                continue
            if buffer.is_inference() or (self._swap and (uncounted or size(buffer) <= SMALL)):
                module._buffers[name] = buffer.clone()
            else:
                self._tensors.keep(buffer, name, always=uncounted)

    def _keep_attributes(self, module: nn.Module) -> None:
        live = vars(module)
        before = {name: live[name] for name in live.keys() - INTERNAL}
        fresh = {}
        if not _PLAIN.issuperset(map(type, before.values())):
            other = [(name, value) for name, value in before.items() if type(value) not in _PLAIN]
            fresh = {name: new for name, value in other if (new := self._keep_value(value, name)) is not value}
            live.update(fresh)
        self._attributes.append(_Held(live, before, {**before, **fresh} if fresh else before))

    def _keep_reach(self) -> list[nn.Module]:
        """Keep what hooks write to; returns the modules elsewhere among it."""
        busy = [
            part
            for part in self._modules
            if part._forward_hooks or part._forward_pre_hooks or part._backward_hooks or part._backward_pre_hooks
        ]
        hooks = [hook for part in busy if not isinstance(part, torch.jit.ScriptModule) for hook in hooks_of(part)]
        hooks += global_hooks() if self._modules else []
        if not hooks:
            return []
        known = {id(module) for module in self._modules}
        elsewhere = []
        for hook in hooks:
            reach = reach_of(hook, _CONTAINERS, _MOST_ENTRIES)
            self._cells += [(cell, value_of(cell)) for cell in reach.cells]
            for value in reach.values:
                self._keep_value(value, "hook")
            for module in (inner for part in reach.modules for inner in part.modules()):
                if id(module) not in known and not isinstance(module, torch.jit.ScriptModule):
                    known.add(id(module))
                    elsewhere.append(module)
        for module in elsewhere:
            self._keep_buffers(module)
            self._keep_attributes(module)
        return elsewhere

    def _keep_value(self, value: Any, name: str, depth: int = 0) -> Any:
        """Keep the tensors and containers in an attribute; returns it, with clones for inference tensors."""
        if type(value) in _PLAIN or (type(value) is tuple and _PLAIN.issuperset(map(type, value))):
            return value
        if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
            if value.is_inference():
                return value.clone()
            if not value.requires_grad:
                self._tensors.keep(value, name, attribute=True)
            return value
        if depth > 3 or _len_of(value) > _MOST_ENTRIES:
            return value
        if type(value) is tuple:
            entries = tuple(self._keep_value(entry, name, depth + 1) for entry in value)
            return value if all(a is b for a, b in zip(entries, value, strict=True)) else entries
        if type(value) in _CONTAINERS:
            before = start = _content(value)
            pairs = before.items() if isinstance(before, dict) else enumerate(() if isinstance(before, set) else before)
            fresh = {key: new for key, old in pairs if (new := self._keep_value(old, name, depth + 1)) is not old}
            if fresh:
                start = before.copy()
                for key, entry in fresh.items():
                    start[key] = entry
                _refill(value, start)
            self._containers.append(_Held(value, before, start))
        return value


def _writes_uncounted(module: nn.Module) -> bool:
    """Does a kernel of this layer write to its buffers without counting versions?"""
    if isinstance(module, nn.modules.batchnorm._NormBase):
        return True
    return type(module).__module__.startswith(("torch.ao.quantization", "torch.quantization"))


def _len_of(value: Any) -> int:
    """The number of entries of a container; 0 for anything else."""
    return len(value) if isinstance(value, list | tuple | dict | set | deque) else 0


def _content(container: Any) -> Any:
    """A shallow copy, as a plain dict, list or set."""
    if isinstance(container, dict):
        return dict(container)
    return set(container) if isinstance(container, set) else list(container)


def _refill(container: Any, content: Any) -> None:
    """Give a container its content back, if it has another."""
    if not _same_content(container, content):
        container.clear()
        add: Callable[[Any], None] = container.update if isinstance(container, dict | set) else container.extend
        add(content)


def _same_content(container: Any, content: Any) -> bool:
    if len(container) != len(content):
        return False
    if isinstance(container, dict):
        return all(a is b and x is y for (a, x), (b, y) in zip(container.items(), content.items(), strict=True))
    if isinstance(container, set):
        return container == content
    return all(a is b for a, b in zip(container, content, strict=True))


def _same_entries(live: dict[str, Any], before: dict[str, Any]) -> bool:
    """Are the attributes the same objects, apart from those of torch itself?"""
    return _has(live, before) and not live.keys() - before.keys() - INTERNAL


def _has(live: dict[str, Any], before: dict[str, Any]) -> bool:
    """Does a dict hold the very objects that it held, whatever else it holds?"""
    return all(map(operator.is_, map(live.get, before, itertools.repeat(_ABSENT)), before.values()))


def _set_back(live: dict[str, Any], before: dict[str, Any]) -> None:
    """Make a dict of attributes or buffers hold what it held."""
    if not _has(live, before):
        live.update({name: value for name, value in before.items() if live.get(name, _ABSENT) is not value})
    for name in live.keys() - before.keys() - INTERNAL:
        del live[name]
