"""How far the training of a module is, over all its fits: random starts and schedules depend on it."""

from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from lightning_robust._lightning import pl
from lightning_robust.attacks.schedules import Progress

_trained: "WeakKeyDictionary[nn.Module, tuple[int, int]]" = WeakKeyDictionary()
"""Epochs and batches that a module was trained for, in this process."""


class Clock:
    """Epochs and batches of the training of one module.

    They go on if several Trainers train a module one after the other, and if a fit is resumed. Random starts change
    with the epoch if the training loader has a length, else with the batch.
    """

    def __init__(self) -> None:
        self._epochs_before, self._batches = 0, 0

    def start(self, trainer: pl.Trainer, module: nn.Module) -> None:
        """A fit begins. If it is resumed, the state of the checkpoint comes afterwards."""
        epochs, self._batches = _trained.get(module, (0, 0))
        self._epochs_before = max(epochs - trainer.current_epoch, 0)

    def batch(self) -> None:
        """A training batch begins."""
        self._batches += 1

    def epoch_end(self, trainer: pl.Trainer, module: nn.Module) -> None:
        """An epoch is over."""
        _trained[module] = (self._epochs_before + trainer.current_epoch + 1, self._batches)

    def progress(self, trainer: pl.Trainer, batch_idx: int) -> Progress:
        """How far training is at the start of a batch that has begun."""
        batches = trainer.num_training_batches
        step = max(self._batches - 1, 0)
        if not batches or batches == float("inf"):
            return Progress(None, step)
        return Progress(self._epochs_before + trainer.current_epoch + batch_idx / batches, step)

    def key(self, trainer: pl.Trainer) -> int:
        """The key of the random starts."""
        progress = self.progress(trainer, 0)
        return progress.step if progress.epoch is None else int(progress.epoch)

    def state_dict(self) -> dict[str, Any]:
        """The least that resumes."""
        return {"epochs_before": self._epochs_before, "batches": self._batches}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where the fit was."""
        self._epochs_before = int(state.get("epochs_before", 0))
        self._batches = int(state.get("batches", 0))
