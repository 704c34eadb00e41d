"""What a Trainer makes of a batch before a step: the batch hooks of a LightningDataModule and of a LightningModule."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from lightning_robust._lightning import copy_of, move_to_device, pl
from lightning_robust._modes import own_modes
from lightning_robust.attacks.expectation import Expectation

Ready = Callable[[Any], Any]
"""Moves a batch to the device, and makes of it what the model takes."""


def _asks_a_trainer(error: Exception) -> bool:
    """Has a hook asked a Trainer that is not there?"""
    if isinstance(error, AttributeError) and error.obj is None:
        return hasattr(pl.Trainer, error.name or "")
    return "not attached to a `Trainer`" in str(error)


def ready_for(model: Any, data: Any, device: torch.device) -> Ready:
    """Makes of a batch what `trainer.test` would hand to the step of a model.

    Each hook is that of the data module where it overrides it, else that of the LightningModule, as in Lightning. The
    module is in evaluation mode inside, and a Trainer that knows one of both is testing. Models and data of other
    kinds have no hooks: their batches are moved.

    Args:
        model: The model.
        data: What was given as data.
        device: Where batches go.
    """
    module, data_module = module_in(model), data if copy_of(data, "LightningDataModule") else None
    if module is None and data_module is None:
        return lambda batch: move_to_device(batch, device)
    hooks = _Hooks(module, data_module)

    def ready(batch: Any) -> Any:
        with hooks.testing():
            batch = hooks.call("on_before_batch_transfer", batch, 0)
            batch = hooks.call("transfer_batch_to_device", batch, device, 0)
            return hooks.call("on_after_batch_transfer", batch, 0)

    return ready


def module_in(model: Any) -> Any:
    """The LightningModule that a model is, also inside of `torch.compile`, `expectation`, averages and DDP; else None.

    What the user has put around one in another way, such as `nn.Sequential(normalization, module)`, takes batches of
    its own.
    """
    while not copy_of(model, "LightningModule"):
        if isinstance(model, Expectation):
            model = model.model
        elif isinstance(model, AveragedModel | DistributedDataParallel):
            model = model.module
        elif isinstance(model, nn.Module) and "_orig_mod" in model._modules:
            model = model._orig_mod
        else:
            return None
    return model


class _Hooks:
    """The hooks of both; at least one of them is there.

    Args:
        module: The LightningModule, or None.
        data: The data module, or None.
    """

    def __init__(self, module: Any, data: Any) -> None:
        self._module, self._data = module, data

    def call(self, name: str, *args: Any) -> Any:
        """What a hook returns; where it asks for a Trainer that is not there, an error says what to do."""
        source = self._source(name)
        try:
            return getattr(source, name)(*args)
        except (AttributeError, RuntimeError) as error:
            if _trainer_of(source) is not None or not _asks_a_trainer(error):
                raise
            raise RuntimeError(
                f"Expected `{name}` of {type(source).__name__} to do without a Trainer in `evaluate`, but got: {error} "
                "Let it ask `module.training`, which is False here, and not `trainer.training`. Or evaluate in a "
                "Trainer: `trainer.test` with `RobustEvaluation`."
            ) from error

    def _source(self, name: str) -> Any:
        """Whose hook it is."""
        if self._module is None or self._data is None:
            return self._data if self._module is None else self._module
        helpers = copy_of(self._data, "LightningDataModule").utilities.model_helpers
        return self._data if helpers.is_overridden(name, self._data) else self._module

    @contextmanager
    def testing(self) -> Iterator[None]:
        """Within, hooks see what they see in `trainer.test`."""
        with ExitStack() as stack:
            stack.enter_context(torch.no_grad())
            if self._module is not None:
                stack.enter_context(own_modes(list(self._module.modules()), evaluate=True))
            for trainer in {id(t): t for t in map(_trainer_of, (self._module, self._data)) if t is not None}.values():
                stack.callback(setattr, trainer.state, "stage", trainer.state.stage)
                trainer.testing = True
            yield


def _trainer_of(owner: Any) -> Any:
    """The Trainer that a module or a data module is attached to, or None."""
    return getattr(owner, "_trainer" if copy_of(owner, "LightningModule") else "trainer", None)
