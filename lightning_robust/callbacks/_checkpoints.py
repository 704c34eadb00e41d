"""What `ModelCheckpoint` does with values that are logged again: they are not those of the weights that it saves."""

import math
from collections.abc import Callable, Iterator
from typing import Any

from lightning_robust._lightning import pl
from lightning_robust.callbacks._every import Every


def warn_of_checkpoints(trainer: pl.Trainer, every: Every, is_ours: Callable[[str], bool]) -> None:
    """Warn of each `ModelCheckpoint` on one of our keys that may score weights by a measurement of earlier ones.

    Where it saves in the epochs of all measurements, `save_top_k=1` is safe: the value of the last one, logged again,
    is no better than itself.

    Args:
        trainer: In fit.
        every: When there is a measurement.
        is_ours: Is the value of this key measured by us?
    """
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if not isinstance(callback, pl.callbacks.ModelCheckpoint) or not is_ours(callback.monitor or ""):
            continue
        by_epochs = callback.every_n_epochs or 0  # 0: by steps or by time, between validations
        if callback.save_top_k == 0 or (by_epochs and not _saves_in_between(trainer, callback, every.n)):
            continue
        when = f"every {by_epochs} epochs" if by_epochs > 1 else "every epoch" if by_epochs else "between validations"
        measured = f"every {every.n} epochs" if every.n > 1 else "in the validation of each epoch"
        advice = f"ModelCheckpoint(every_n_epochs={math.lcm(every.n, _unvalidated(trainer, callback))})"
        more = "" if by_epochs else " in place of `every_n_train_steps` and `train_time_interval`"
        pl.utilities.rank_zero_warn(
            f"ModelCheckpoint may save {when} by `{callback.monitor}`, which is measured {measured}. In between it "
            "finds the last value, which is that of earlier weights: a checkpoint may be kept for a score that it does "
            f"not have. Set {advice}{more}, so that each score is that of the weights that are saved.",
            stacklevel=2,
        )


def _saves_in_between(trainer: pl.Trainer, callback: Any, n: int) -> bool:
    """Does it save in an epoch that does not measure, and could that be for another value than those it has seen?"""
    saved = False  # at the last measurement
    for measures, saves in _epochs(trainer, callback, n):
        if measures:
            saved = saves
        elif saves and (callback.save_top_k != 1 or not saved):
            return True
    return False


def _unvalidated(trainer: pl.Trainer, callback: Any) -> int:
    """Every how many epochs there is a validation, where it saves without one; else 1."""
    return (trainer.check_val_every_n_epoch or 1) if getattr(callback, "_save_on_train_epoch_end", None) else 1


def _epochs(trainer: pl.Trainer, callback: Any, n: int) -> Iterator[tuple[bool, bool]]:
    """For each epoch of the fit, or of a period: does it measure, and is it one in which the checkpoint saves?"""
    between, m = trainer.check_val_every_n_epoch or 1, callback.every_n_epochs
    waits = _unvalidated(trainer, callback) == 1
    limit = trainer.max_epochs if trainer.max_epochs is not None and trainer.max_epochs >= 0 else None
    period = min(n * m * between + between, 10_000)  # nobody trains longer than that between two saves
    first = trainer.current_epoch + 1
    last = first + period if limit is None else min(limit, first + period)
    ends = None if limit is None else limit // between * between  # the last that validates
    begun = False
    for epoch in range(first, last + 1):
        validates = epoch % between == 0
        measures = validates and (not begun or epoch % n < between or epoch == ends)
        begun = begun or measures
        yield measures, epoch % m == 0 and (validates or not waits)
