"""What monitors do with values that are logged again: their patience may run out before the next measurement."""

import math
from collections.abc import Callable
from typing import Any

from lightning_robust._lightning import pl
from lightning_robust.callbacks._every import Every


def warn_of_patience(trainer: pl.Trainer, every: Every, is_ours: Callable[[str], bool]) -> None:
    """Warn where an `EarlyStopping` or `ReduceLROnPlateau` on one of our keys may act without a measurement in between.

    Between two measurements the last values stand, and each look at them is one without an improvement.

    Args:
        trainer: In fit, when its schedulers are there.
        every: When there is a measurement.
        is_ours: Is the value of this key measured by us?
    """
    n = every.n
    if n == 1:
        return
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, pl.callbacks.EarlyStopping) and is_ours(callback.monitor):
            by_epoch = bool(getattr(callback, "_check_on_train_epoch_end", False))
            looks = _span(trainer, n) if by_epoch else _validations(trainer, n)
            if looks > callback.patience:
                _warn(callback, callback.monitor, n, callback.patience, looks, looks)
    for config in trainer.lr_scheduler_configs:
        if config.reduce_on_plateau and config.monitor is not None and is_ours(config.monitor):
            looks = _span(trainer, n) * (_batches(trainer) if config.interval == "step" else 1)
            looks = math.ceil(looks / max(config.frequency, 1))
            patience = int(getattr(config.scheduler, "patience", looks))
            if looks > patience + 1:  # it acts at one look more than its patience
                _warn(config.scheduler, config.monitor, n, patience, looks, looks - 1)


def _warn(monitor: Any, key: str, n: int, patience: int, looks: int, enough: int) -> None:
    pl.utilities.rank_zero_warn(
        f"{type(monitor).__name__} looks at `{key}` with patience={patience}, but with every_n_epochs={n} it is "
        f"measured once in {looks} looks. In between the last value stands, which is no improvement, so the patience "
        f"may run out before the next measurement. Set patience={enough} to act on the first measurement that is no "
        f"better, {enough + looks} on the second, and so on.",
        stacklevel=2,
    )


def _between(trainer: pl.Trainer) -> int:
    """Every how many epochs there is a validation."""
    return trainer.check_val_every_n_epoch or 1


def _span(trainer: pl.Trainer, n: int) -> int:
    """The largest number of epochs from one measurement to the next."""
    return math.ceil(n / _between(trainer)) * _between(trainer)


def _batches(trainer: pl.Trainer) -> int:
    """Number of batches in an epoch; 1 where nobody knows."""
    batches = trainer.num_training_batches
    return int(batches) if 0 < batches < math.inf else 1


def _validations(trainer: pl.Trainer, n: int) -> int:
    """Number of validations from the last of an epoch that is measured to the first of the next one."""
    epochs, interval = _span(trainer, n) // _between(trainer), trainer.val_check_batch or 0
    if not (trainer.num_training_batches < math.inf and 0 < interval < math.inf):
        return epochs
    each = _batches(trainer) / interval  # validations in an epoch
    if trainer.check_val_every_n_epoch is not None:
        each = max(int(each), 1)
    return math.ceil((epochs - 1) * each) + 1 if each >= 1 else max(math.ceil(epochs * each), 1)
