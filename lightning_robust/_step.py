"""What stands in place of a module's own methods for a while: something around its step, something before its logging.

Lightning gives callbacks no way to replace a batch, and its hooks run outside the precision context and outside the DDP
or FSDP forward. Inside the step both are right. Lightning looks the step up at every call, so an attribute of the
instance is honored (its own `torch.compile` support does the same). It is set at the start of a batch and removed at
its end. A copy or a pickle of the module that is made in between has its own methods.
"""

import copy
import functools
import inspect
import operator
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from lightning_robust._lightning import pl

Step = Callable[..., Any]
Around = Callable[..., Any]
"""`(step, batch, *args) -> output`: calls the step or not, with the batch or another."""

_ABSENT = object()


class _Instead:
    """A callable in place of a method of one module, as an attribute of the instance; by itself it is that method.

    Everything but the call is answered by the innermost function: Lightning unwraps once to see which arguments a step
    takes and whether it is the module's own. A deep copy and a pickle of the module have the method of their own
    instead of this. The module is held weakly, so that a copy of it is freed as soon as nobody uses it.
    """

    def __init__(self, module: nn.Module, name: str, previous: Any) -> None:
        self._module, self._name, self._previous = weakref.ref(module), name, previous

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._original()(*args, **kwargs)

    @torch.compiler.disable
    def _original(self) -> Step:
        """What the module has without this: an attribute of the instance, else the method of its class."""
        if self._previous is not _ABSENT:
            return self._previous
        module = self._owner()
        kind = type(module)
        method = inspect.getattr_static(kind, self._name)
        return method.__get__(module, kind) if hasattr(method, "__get__") else method

    def _owner(self) -> nn.Module:
        module = self._module()
        if module is None:
            raise ReferenceError(f"The module whose `{self._name}` this was is gone.")
        return module

    @property
    def __wrapped__(self) -> Step:
        return inspect.unwrap(self._original())

    def __getattr__(self, name: str) -> Any:
        return getattr(inspect.unwrap(self._original()), name)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if self._previous is not _ABSENT:
            return copy.deepcopy(self._previous, memo)
        module = self._owner()
        with_module = id(module) in memo
        copied = _Instead(copy.deepcopy(module, memo), self._name, _ABSENT)
        return copied if with_module else copied._original()

    def __reduce__(self) -> Any:
        # Both forms are built in: reading such a file needs nothing of this package.
        if self._previous is not _ABSENT:
            return operator.getitem, ((self._previous,), 0)
        return getattr, (self._owner(), self._name)

    def put(self) -> None:
        """Take the place."""
        vars(self._owner())[self._name] = self

    def remove(self) -> None:
        """Give the place back, unless somebody has taken it since, or the module is gone."""
        module = self._module()
        attributes = {} if module is None else vars(module)
        if attributes.get(self._name) is self:
            if self._previous is _ABSENT:
                del attributes[self._name]
            else:
                attributes[self._name] = self._previous


class _Step(_Instead):
    """A step and all that is put around it, first come, innermost."""

    def __init__(self, module: nn.Module, name: str, previous: Any) -> None:
        super().__init__(module, name, previous)
        self.handles: list[Handle] = []

    def __call__(self, batch: Any, *args: Any, **kwargs: Any) -> Any:
        step = self._original()
        for handle in self.handles:
            step = functools.partial(handle.run, step)
        return step(batch, *args, **kwargs)


def _alone(step: Step, *args: Any, **kwargs: Any) -> Any:
    """The step with nothing around it."""
    return step(*args, **kwargs)


class Handle:
    """Something that is put around a step; see `put_around`.

    Attributes:
        reached: Was it called? If not, although the batch is over, then Lightning has called another step than ours.
    """

    def __init__(self, step: _Step, around: Around) -> None:
        self._step = step
        self._around: Around = around
        self.reached = False
        step.handles.append(self)

    def run(self, step: Step, batch: Any, *args: Any, **kwargs: Any) -> Any:
        """Call what is put around, with the step that is inside."""
        self.reached = True
        return self._around(step, batch, *args, **kwargs)

    def undo(self) -> None:
        """Take it away, in any order, any number of times.

        If somebody has put something on top since, what is left below does nothing. To leave no trace of that either,
        call this again when the other one has gone, at the latest at the end of the fit.
        """
        if self in self._step.handles:
            self._step.handles.remove(self)
        # What was put around may hold a batch, and the handle is kept.
        self._around = _alone
        if not self._step.handles:
            self._step.remove()


def put_around(module: nn.Module, name: str, around: Around) -> Handle:
    """Put `around` around the method `name` of one module, until the handle's `undo`.

    Example:
        >>> class Module(nn.Module):
        ...     def step(self, batch):
        ...         return batch + 1
        >>> module = Module()
        >>> handle = put_around(module, "step", lambda step, batch: step(10 * batch))
        >>> module.step(2)
        21
        >>> handle.undo()
        >>> module.step(2)
        3
    """
    step = vars(module).get(name, _ABSENT)
    if not isinstance(step, _Step):
        step = _Step(module, name, step)
        step.put()
    return Handle(step, around)


class _Mute(_Instead):
    """Logging that does nothing."""

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        return None


_MUTES: weakref.WeakKeyDictionary[nn.Module, dict[str, _Mute]] = weakref.WeakKeyDictionary()
"""Those that a module has had: graphs that older releases of torch have compiled know them by their identity."""


def _mute(module: nn.Module, name: str, previous: Any) -> _Mute:
    """The same object each time."""
    kept = _MUTES.setdefault(module, {})
    if name not in kept or kept[name]._previous is not previous:
        kept[name] = _Mute(module, name, previous)
    return kept[name]


class _Record(_Instead):
    """Logging that notes the names of what it logs."""

    names: set[str]

    @torch.compiler.disable
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        # A module may log a dictionary through a `log` of its own.
        named: Any = args[0] if args else kwargs.get("name")
        self.names.update(named if isinstance(named, Mapping) else [named])
        return self._original()(*args, **kwargs)


@contextmanager
def muted(module: nn.Module) -> Iterator[None]:
    """Within, `log` and `log_dict` of the module and of all LightningModules in it do nothing.

    The forwards of an attack run the user's code as the module's own forward does. What that code logs about itself
    must not be averaged with what it logs about the user's samples.
    """
    with _logging(module, _mute, "log", "log_dict"):
        yield


@contextmanager
def recorded(module: nn.Module) -> Iterator[set[str]]:
    """Within, whatever the module and all LightningModules in it log goes through, and the names are noted.

    Returns:
        The set of names, filled as the module logs; without the suffixes that Lightning adds.
    """
    names: set[str] = set()
    with _logging(module, _Record, "log") as records:  # `log_dict` calls `log`
        for record in records:
            record.names = names
        yield names


@contextmanager
def _logging(module: nn.Module, make: Callable[..., _Instead], *methods: str) -> Iterator[list[Any]]:
    """Put objects of one kind in place of the methods of every LightningModule, and take them away at the end."""
    placed = [
        make(part, name, vars(part).get(name, _ABSENT)) for part in _lightning_modules(module) for name in methods
    ]
    try:
        for instead in placed:
            instead.put()
        yield placed
    finally:
        for instead in placed:
            instead.remove()


def _lightning_modules(module: nn.Module) -> list[nn.Module]:
    """All LightningModules in a module. As `modules()` finds them in a tenth of the time: it runs in every attack."""
    seen: dict[int, nn.Module] = {id(module): module}
    stack = [module]
    while stack:
        for part in stack.pop()._modules.values():
            if part is not None and id(part) not in seen:
                seen[id(part)] = part
                stack.append(part)
    return [part for part in seen.values() if pl.LightningModule in type(part).__mro__]
