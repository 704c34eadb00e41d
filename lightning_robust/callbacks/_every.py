"""The one rule for "every n epochs"."""

from typing import Any

from lightning_robust import _checks
from lightning_robust._lightning import pl


class Every:
    """Is it time, if something is to be done every n epochs?

    - In the sanity check: never. Outside fit: always.
    - In the first validation of a fit: yes. From then on in the epochs e = 0, 1, ... with (e + 1) % n == 0, in which
      `ModelCheckpoint(every_n_epochs=n)` saves. Where such an epoch does not validate (`check_val_every_n_epoch`), in
      the next that does.
    - All validations of one epoch (`val_check_interval`) are treated alike.
    - In the last epoch that validates: yes, so that a fit ends with a value for the module it has made. It is the last
      by `max_epochs` or `max_steps`, or because the Trainer was told to stop.

    Args:
        n: Number of epochs, at least 1; errors call the argument `every_n_epochs`.

    Example:
        >>> Every(5).state_dict()
        {'epoch': None}
    """

    def __init__(self, n: int) -> None:
        self.n = _checks.count("every_n_epochs", n)
        self._epoch: int | None = None

    def reset(self) -> None:
        """Forget the last one: another fit begins. Call it in `setup`, which is before a checkpoint is read."""
        self._epoch = None

    def due(self, trainer: pl.Trainer) -> bool:
        """Is it time? Asking changes nothing.

        Args:
            trainer: In validation or test.
        """
        if trainer.sanity_checking:
            return False
        if trainer.state.fn != "fit" or self._epoch is None:
            return True
        now, last = trainer.current_epoch, self._epoch
        # Every n-th epoch from the start of the training is one: has one come since the last time?
        return now <= last or (now + 1) // self.n > (last + 1) // self.n or is_last(trainer)

    def done(self, trainer: pl.Trainer) -> None:
        """Note that it was done in this epoch."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._epoch = trainer.current_epoch

    def state_dict(self) -> dict[str, Any]:
        """The epoch of the last one, for a callback's `state_dict`."""
        return {"epoch": self._epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on counting from the epoch in the state."""
        self._epoch = state.get("epoch")


def is_last(trainer: pl.Trainer) -> bool:
    """Does no later epoch of this fit validate?"""
    epochs, steps = trainer.current_epoch + 1, trainer.global_step  # that are over when this epoch is
    if trainer.should_stop and epochs >= (trainer.min_epochs or 0) and steps >= (trainer.min_steps or 0):
        return True
    ahead = trainer.check_val_every_n_epoch or 1
    # All epochs make as many steps as those before did on average.
    by_epochs = trainer.max_epochs is not None and 0 <= trainer.max_epochs < epochs + ahead
    by_steps = 0 <= trainer.max_steps < steps + ahead * steps / epochs
    return by_epochs or by_steps
