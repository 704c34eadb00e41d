"""How far the training of a module is, over all its fits: random starts and schedules depend on it."""

from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from torch import nn

from lightning_robust._lightning import pl
from lightning_robust.attacks.schedules import Progress


class _Trained(NamedTuple):
    """What a module was trained for."""

    epochs: float = 0.0  # an epoch that was cut counts by the share of its batches
    rounds: int = 0  # epochs that were begun
    batches: int = 0


_trained: "WeakKeyDictionary[nn.Module, _Trained]" = WeakKeyDictionary()
"""What each module was trained for in this process."""


class Clock:
    """Epochs and batches of the adversarial training of one module.

    They go on if several Trainers train a module one after the other, and if a fit is resumed. What was trained without
    the callback does not count, nor does `fast_dev_run`. Random starts change with the epoch if the training loader has
    a length, else with the batch.
    """

    def __init__(self) -> None:
        self._before = _Trained()
        # At the Trainer's epoch 0; None: nobody knows before the first batch, as a checkpoint may come without them.
        self._epochs_before: float | None = 0.0
        self._rounds_before, self._batches = 0, 0

    def start(self, module: nn.Module) -> None:
        """A fit begins. If it is resumed, the state of the checkpoint comes afterwards."""
        self._before = _trained.get(module, _Trained())
        self._epochs_before, self._batches = None, self._before.batches

    def batch(self, trainer: pl.Trainer, module: nn.Module, batch_idx: int) -> None:
        """A training batch begins."""
        epoch, share = trainer.current_epoch, _share(trainer, batch_idx)
        if self._epochs_before is None:
            self._epochs_before = self._before.epochs - (epoch + share)
            self._rounds_before = self._before.rounds - epoch
        self._batches += 1
        self._note(trainer, module, _share(trainer, batch_idx + 1))

    def epoch_end(self, trainer: pl.Trainer, module: nn.Module) -> None:
        """An epoch is over, or was cut, by `max_steps` say. One of unknown length counts as a whole."""
        if self._epochs_before is not None and (trainer.is_last_batch or not _length(trainer)):
            self._note(trainer, module, 1.0)

    def _note(self, trainer: pl.Trainer, module: nn.Module, share: float) -> None:
        if self._epochs_before is not None and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            epoch = trainer.current_epoch
            _trained[module] = _Trained(
                self._epochs_before + epoch + share, self._rounds_before + epoch + 1, self._batches
            )

    def progress(self, trainer: pl.Trainer, batch_idx: int) -> Progress:
        """How far training is at the start of a batch that has begun."""
        step = max(self._batches - 1, 0)
        if not _length(trainer):
            return Progress(None, step)
        return Progress(max((self._epochs_before or 0) + trainer.current_epoch + _share(trainer, batch_idx), 0.0), step)

    def key(self, trainer: pl.Trainer) -> int:
        """The key of the random starts: another one in each epoch that begins."""
        return self._rounds_before + trainer.current_epoch if _length(trainer) else max(self._batches - 1, 0)

    def state_dict(self) -> dict[str, Any]:
        """The least that resumes."""
        return {
            "epochs_before": self._epochs_before,
            "rounds_before": self._rounds_before,
            "batches": self._batches,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where the fit was."""
        self._epochs_before = state.get("epochs_before", 0)
        self._rounds_before = int(state.get("rounds_before", self._epochs_before or 0))
        self._batches = int(state.get("batches", 0))


def _length(trainer: pl.Trainer) -> int:
    """Number of batches in an epoch; 0 where nobody knows."""
    batches = trainer.num_training_batches
    return 0 if batches == float("inf") else int(batches)


def _share(trainer: pl.Trainer, batches: int) -> float:
    """The share of the epoch that so many batches are."""
    length = _length(trainer)
    return batches / length if length else 0.0
