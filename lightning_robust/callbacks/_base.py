"""What the callbacks have in common: they read batches, say their arguments, and stand around a step for one batch."""

import inspect
import re
from collections.abc import Callable
from typing import Any

from torch import nn

from lightning_robust._lightning import pl
from lightning_robust._step import Around, Handle, put_around
from lightning_robust.callbacks._clock import Clock
from lightning_robust.callbacks._every import Every
from lightning_robust.evaluation._reader import Reader, check_forward


class BatchCallback(pl.Callback):
    """A callback that reads batches.

    Attributes:
        reader: Where things are in a batch.
    """

    reader: Reader
    _resumed: Clock | Every  # what a checkpoint keeps

    def state_dict(self) -> dict[str, Any]:
        """The least that lets a resumed fit go on as if it had not stopped."""
        return self._resumed.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where the fit was."""
        self._resumed.load_state_dict(state_dict)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Lightning calls no teardown after an exception."""
        self.teardown(trainer, pl_module, "")

    def __repr__(self) -> str:
        """The class and, in one line, the arguments that differ from their defaults."""
        given = []
        for name, parameter in list(inspect.signature(type(self).__init__).parameters.items())[1:]:
            value = self._argument(name)
            if parameter.default is parameter.empty:
                given.append(_shown(value))
            elif value is not parameter.default and (parameter.default is None or value != parameter.default):
                given.append(f"{name}={_shown(value)}")
        return f"{type(self).__name__}({', '.join(given)})"

    def _argument(self, name: str) -> Any:
        return getattr(self, name) if hasattr(self, name) else getattr(self.reader, name, None)


class StepCallback(BatchCallback):
    """A callback that stands around a step of the module, for one batch at a time.

    What it puts around the step is taken away at the end of the batch, at the end of the run and after an exception. A
    copy or a pickle of the callback stands around no step.
    """

    _handle: Handle | None = None

    def _put(self, module: nn.Module, name: str, around: Around) -> None:
        """Put `around` around the step `name` of the module, until `_remove`."""
        self._remove()
        self._handle = put_around(module, name, around)

    def _remove(self) -> bool:
        """Take away what is around the step. Returns whether the last one was called, or there never was one."""
        if self._handle is None:
            return True
        # The handle is kept: somebody who had patched on top may put our step back, which is undone again at the end.
        self._handle.undo()
        return self._handle.reached

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Take away what is around the step."""
        self._remove()

    def __getstate__(self) -> dict[str, Any]:
        """Everything but what is around the step of the batch at hand: that belongs to a module."""
        return vars(self) | {"_handle": None}


def _shown(value: Any) -> str:
    """A value in a line; functions, also within it, by their names."""
    shown = getattr(value, "__qualname__", None) or " ".join(repr(value).split())
    return re.sub(r"<function (\S+) at 0x[0-9a-f]+>", r"\1", shown)


def check_module(module: Any, steps: tuple[str, ...], forward: Callable[..., Any] | None) -> None:
    """Refuse a module that cannot be attacked: no forward, or a step that fetches its own batches."""
    if forward is None:
        check_forward(module)
    for name in steps:
        if "dataloader_iter" in inspect.signature(getattr(module, name)).parameters:
            raise TypeError(
                f"`{name}(dataloader_iter)` fetches its own batches: there is no batch to attack. Take `batch` instead."
            )


def check_alone(trainer: pl.Trainer, callback: pl.Callback, advice: str, by: str | None = None) -> None:
    """Refuse a second callback of one kind in a Trainer.

    Args:
        trainer: The Trainer.
        callback: One of its callbacks.
        advice: What to do instead.
        by: An attribute; callbacks that differ in it do not disturb each other.
    """
    kind, callbacks = type(callback), trainer.callbacks  # type: ignore[attr-defined]
    alike = [
        one for one in callbacks if isinstance(one, kind) and (not by or getattr(one, by) == getattr(callback, by))
    ]
    if len(alike) > 1:
        wanted = f"callbacks in a Trainer to differ in `{by}`" if by else "callback in a Trainer"
        got = f"{getattr(callback, by)!r} several times" if by else "several"
        raise ValueError(f"Expected {'' if by else 'one '}{kind.__name__} {wanted}, but got {got}. {advice}")
