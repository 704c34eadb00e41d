"""What modules carry besides their parameters, kept while an attack runs: buffers and plain attributes.

Buffers. Those of normalisation layers and observers, and all small ones, are copied before and written back after:
kernels such as `F.batch_norm` write to them without counting versions. A large buffer is copied the first time it is
met. If nothing wrote to it then, it is only watched by its version counter from then on, which costs nothing. Should it
be written to later all the same, this is said, and it is copied again from then on.

Where forwards run in training mode, the buffers that are copied are swapped for clones instead, so that autograd may
save the clones. In evaluation mode they stay where they are: compiled graphs know their addresses.

Plain attributes. Whatever an attribute of a module was before, it is after, and so is the content of plain lists,
dicts, sets, counters and deques in attributes and in the closures of forward hooks: hidden states, spikes, caches,
collected features, metrics. Tensors there are treated like buffers.

Inference tensors, in buffers or attributes, are swapped for clones: autograd cannot save them.

What cannot be kept: the inside of other objects (a cache in a class of its own), containers of more than 1,000 entries,
what is outside Python, and modules or parameters that a forward makes.
"""

import types
import warnings
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

_SMALL = 1 << 16
"""Bytes up to which a tensor is always copied."""

_MOST_ENTRIES = 1000
_CONTAINERS = (list, dict, set, deque, OrderedDict, defaultdict, Counter)
INTERNAL = frozenset(vars(nn.Module()))
"""The attributes that torch gives every module."""

_PLAIN = frozenset((bool, int, float, str, bytes, complex, type(None)))

_watched: Any = WeakIdKeyDictionary()
"""Large tensors that have been met: are they only watched?"""


def _writes_uncounted(module: nn.Module) -> bool:
    """Does a kernel of this layer write to its buffers without counting versions?"""
    if isinstance(module, nn.modules.batchnorm._NormBase):
        return True
    return type(module).__module__.startswith(("torch.ao.quantization", "torch.quantization"))


def _writable(tensor: Tensor) -> bool:
    """Can a copy be written back? Not where several entries share one place, as in an expanded tensor."""
    if tensor.layout != torch.strided or tensor.device.type == "meta":
        return False
    return not any(step == 0 and size > 1 for step, size in zip(tensor.stride(), tensor.shape, strict=True))


class State:
    """The state of some modules, kept in a `with` block.

    Args:
        modules: All modules, each once.
        swap: Swap buffers for clones instead of copying them back: forwards will run in training mode.
    """

    def __init__(self, modules: list[nn.Module], *, swap: bool) -> None:
        self._modules, self._swap = modules, swap
        self._buffers: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self._attributes: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self._containers: list[tuple[Any, Any]] = []
        self._copies: list[tuple[Tensor, Tensor]] = []
        self._versions: list[tuple[Tensor, int, Tensor | None, str]] = []
        self._held: list[tuple[Tensor, int, Tensor | None]] = []
        self._start: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self._start_containers: list[tuple[Any, Any]] = []

    def __enter__(self) -> "State":
        for module in self._modules:
            if isinstance(module, torch.jit.ScriptModule):
                for name, buffer in module.named_buffers(recurse=False):
                    self._keep(buffer, True, name)
                continue
            self._keep_buffers(module)
            self._keep_attributes(module)
        return self

    def __exit__(self, *exception: object) -> None:
        for live, before in (*self._buffers, *self._attributes):
            _set_back(live, before)
        # Backwards: a container that two modules share was met a second time with clones in it.
        for container, content in reversed(self._containers):
            _refill(container, content)
        with torch.no_grad():
            if self._copies:
                # Through `.data`: a graph that has saved the buffer stays valid, since nothing has changed for it.
                tensors, copies = zip(*self._copies, strict=True)
                torch._foreach_copy_([t.data for t in tensors], list(copies))
            self._put_large_back()

    def rewind(self) -> None:
        """The attributes as the attack found them, for another forward."""
        for live, start in self._start:
            _set_back(live, start)
        for container, content in self._start_containers:
            _refill(container, content)
        for tensor, version, copy in self._held:
            if copy is not None and tensor._version != version:
                tensor.data.copy_(copy)

    def attributes_moved(self) -> bool:
        """Has a forward changed a plain attribute?"""
        if any(tensor._version != version for tensor, version, _ in self._held):
            return True
        if any(not _same_entries(live, start) for live, start in self._start):
            return True
        return any(not _same_content(container, content) for container, content in self._start_containers)

    def _keep_buffers(self, module: nn.Module) -> None:
        before = dict(module._buffers)
        uncounted = _writes_uncounted(module)
        self._buffers.append((module._buffers, before))
        for name, buffer in before.items():
            if buffer is None:
                continue
            if buffer.is_inference() or (self._swap and (uncounted or _size(buffer) <= _SMALL)):
                module._buffers[name] = buffer.clone()
            else:
                self._keep(buffer, uncounted, name)

    def _keep_attributes(self, module: nn.Module) -> None:
        live = vars(module)
        before = {name: value for name, value in live.items() if name not in INTERNAL}
        self._attributes.append((live, before))
        start = before
        for name, value in before.items():
            fresh = self._keep_value(value, name, 0)
            if fresh is not value:
                start = dict(start) if start is before else start
                start[name] = live[name] = fresh
        self._start.append((live, start))
        for hook in (*module._forward_pre_hooks.values(), *module._forward_hooks.values()):
            for container in _containers_of(hook):
                self._keep_value(container, "hook", 0)

    def _keep_value(self, value: Any, name: str, depth: int) -> Any:
        """Keep the tensors and containers in an attribute; returns it, with clones for inference tensors."""
        if type(value) in _PLAIN:
            return value
        if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
            if value.is_inference():
                return value.clone()
            if not value.requires_grad:
                self._held.append((value, value._version, self._keep(value, False, name)))
            return value
        if depth > 3 or _len_of(value) > _MOST_ENTRIES:
            return value
        if type(value) is tuple:
            fresh = tuple(self._keep_value(entry, name, depth + 1) for entry in value)
            return value if all(a is b for a, b in zip(fresh, value, strict=True)) else fresh
        if type(value) in _CONTAINERS:
            content = _content(value)
            self._containers.append((value, content))
            fresh_content = content
            if not isinstance(value, set):
                entries = content.items() if isinstance(content, dict) else enumerate(content)
                changed = {k: f for k, e in entries if (f := self._keep_value(e, name, depth + 1)) is not e}
                if changed:
                    fresh_content = content.copy()
                    for key, entry in changed.items():
                        fresh_content[key] = entry
                    _refill(value, fresh_content)
            self._start_containers.append((value, fresh_content))
        return value

    def _keep(self, tensor: Tensor, uncounted: bool, name: str) -> Tensor | None:
        """Copy a tensor, or watch it; returns the copy."""
        if not _writable(tensor):
            return None
        small = uncounted or _size(tensor) <= _SMALL
        copy = None if not small and _watched.get(tensor, False) else tensor.detach().clone()
        if small and copy is not None:
            self._copies.append((tensor, copy))
        else:
            self._versions.append((tensor, tensor._version, copy, name))
        return copy

    def _put_large_back(self) -> None:
        """Write to the large tensors that have changed; of those of which there is no copy, tell at the end."""
        lost = []
        for tensor, version, copy, name in self._versions:
            if tensor._version == version:
                _watched[tensor] = True
            elif copy is not None:
                tensor.data.copy_(copy)
                _watched[tensor] = False
            else:
                _watched[tensor] = False
                lost.append(f"`{name}` {tuple(tensor.shape)}")
        for what in lost:
            warnings.warn(
                f"The forward wrote to {what} while an attack ran. It had not done so before and is large, so no copy "
                "was kept: it is not what it was. From now on it is copied.",
                stacklevel=2,
            )


def _containers_of(function: Any) -> list[Any]:
    """The plain containers that a function writes to: in its closure, and global ones that its code names."""
    if not isinstance(function, types.FunctionType):
        return []
    cells = [cell.cell_contents for cell in function.__closure__ or () if cell != types.CellType()]
    named = [function.__globals__.get(name) for name in function.__code__.co_names]
    return [value for value in (*cells, *named) if type(value) in _CONTAINERS]


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


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
    if _same_content(container, content):
        return
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
    if any(live.get(name, _ABSENT) is not value for name, value in before.items()):
        return False
    return len(live) == len(before) or all(name in before or name in INTERNAL for name in live)


_ABSENT = object()


def _set_back(live: dict[str, Any], before: dict[str, Any]) -> None:
    """Make a dict of attributes or buffers hold what it held."""
    for name, value in before.items():
        if live.get(name, _ABSENT) is not value:
            live[name] = value
    if len(live) != len(before):
        for name in [name for name in live if name not in before and name not in INTERNAL]:
            del live[name]
