"""The only code that touches a module's step: something put around `training_step` (or validation, test) for one batch.

Lightning gives callbacks no way to replace a batch, and its hooks run outside the precision context and outside the DDP
or FSDP forward. Inside the step both are right. Lightning looks the step up at every call, so an instance attribute is
honoured (its own `torch.compile` support does the same). It is set at the start of a batch and removed at its end: a
patched module would not pickle, and would be copied by callbacks that deep-copy the module.
"""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from lightning_robust._lightning import pl
from lightning_robust.callbacks import _batch

Step = Callable[..., Any]
Around = Callable[..., Any]
"""`(step, batch, *args) -> output`: calls the step or not, with the batch or another."""


@dataclass(eq=False)
class _Replacement:
    """One replaced step and all that is put around it, first come, innermost."""

    module: nn.Module
    name: str
    original: Step
    previous: Any
    arounds: list[Around] = field(default_factory=list)
    wrapper: Any = None

    def __call__(self, batch: Any, *args: Any, **kwargs: Any) -> Any:
        step = self.original
        for around in self.arounds:
            step = functools.partial(around, step)
        return step(batch, *args, **kwargs)


_ABSENT = object()


def put_around(module: nn.Module, name: str, around: Around) -> Callable[[], None]:
    """Put `around` around the method `name` of one module. Returns what undoes it, in any order, more than once."""
    current = vars(module).get(name, _ABSENT)
    replacement = getattr(current, "_replacement", None)
    if replacement is None:
        original = getattr(module, name)
        replacement = _Replacement(module, name, original, current)

        @functools.wraps(original)
        def wrapper(batch: Any, *args: Any, **kwargs: Any) -> Any:
            return replacement(batch, *args, **kwargs)

        # Lightning unwraps once to see the signature; a compiled or wrapped original may itself be wrapped.
        wrapper.__wrapped__ = inspect.unwrap(original)  # type: ignore[attr-defined]
        wrapper._replacement = replacement  # type: ignore[attr-defined]
        replacement.wrapper = wrapper
        setattr(module, name, wrapper)
    entry = functools.partial(around)  # an object of its own: one function may be put around twice
    replacement.arounds.append(entry)

    def undo() -> None:
        replacement.arounds[:] = [other for other in replacement.arounds if other is not entry]
        # Restore only what is still ours: somebody may have patched on top.
        if not replacement.arounds and vars(module).get(name, _ABSENT) is replacement.wrapper:
            delattr(module, name)
            if replacement.previous is not _ABSENT:
                setattr(module, name, replacement.previous)

    return undo


Forward = Callable[[Any, Any], Any]
"""`(module, batch) -> logits (N, K)`."""


class View(nn.Module):
    """A LightningModule as an attack sees it: inputs to logits, for one batch.

    Args:
        module: The LightningModule, not wrapped in DDP: the attack's backward passes must not reach the reducer.
        forward: `(module, batch) -> logits`, None: `module(x)`.
        batch: What else the forward needs; its field `field` is replaced by the input.
        field: Where the input is.
    """

    def __init__(self, module: nn.Module, forward: Forward | None, batch: Any, field: _batch.Field) -> None:
        super().__init__()
        self.module = module
        self._forward = forward
        # Validation runs in inference mode: what `forward` reads beside the input must be fit for autograd, too.
        with torch.inference_mode(False):
            self._batch = batch if forward is None else _batch.ordinary(batch)
        self._field = field

    def forward(self, x: Any) -> Any:
        """The logits of the inputs."""
        if self._forward is None:
            return self.module(x)
        return self._forward(self.module, _batch.put(self._batch, self._field, x))


def check_counts(**counts: Any) -> None:
    """Refuse what is not an integer of at least 1."""
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"Expected argument `{name}` to be an integer of at least 1, but got {value!r}.")


def check_functions(**functions: Any) -> None:
    """Refuse what is neither None nor a function; a class is most likely one that was not called."""
    for name, function in functions.items():
        if function is not None and (not callable(function) or isinstance(function, type)):
            hint = f" Did you mean {function.__name__}(...)?" if isinstance(function, type) else ""
            raise TypeError(f"Expected argument `{name}` to be a function, but got {function!r}.{hint}")


def check_module(module: Any, steps: tuple[str, ...], forward: Forward | None) -> None:
    """Refuse a module that cannot be attacked: no forward, or a step that fetches its own batches."""
    if forward is None and type(module).forward in (pl.LightningModule.forward, nn.Module.forward):
        raise TypeError(
            f"{type(module).__name__} defines no `forward`, so there is nothing to differentiate. "
            "Define forward(self, x) -> logits, or say how: forward=lambda module, batch: module.net(batch[0])."
        )
    for name in steps:
        if "dataloader_iter" in inspect.signature(getattr(module, name)).parameters:
            raise TypeError(
                f"`{name}(dataloader_iter)` fetches its own batches: there is no batch to attack. Take `batch` instead."
            )


def check_alone(trainer: pl.Trainer, kind: type, advice: str) -> None:
    """Refuse a second callback of one kind."""
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    if sum(isinstance(callback, kind) for callback in callbacks) > 1:
        raise ValueError(f"Expected one {kind.__name__} callback in a Trainer, but got several. {advice}")
