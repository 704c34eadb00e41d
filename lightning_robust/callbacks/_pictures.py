"""Pictures that callbacks make: when, how they are laid out, where they go, and what errors become."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from lightning_robust import _checks
from lightning_robust._lightning import pl
from lightning_robust.callbacks._every import Every


class Pictures:
    """The pictures of one callback, in validation.

    In the sanity check they are tried and go nowhere: what cannot be shown is refused before training. Later in a fit
    an error becomes one warning, and the picture is left out: no training ends because of a picture. Outside fit an
    error is an error.

    Args:
        owner: The name of the callback, for the warning.
        every_n_epochs: See `Every`.
        to_disk: Write PNG files?
    """

    def __init__(self, owner: str, every_n_epochs: int, to_disk: bool) -> None:
        self.every = Every(every_n_epochs)
        self.to_disk = _checks.boolean("to_disk", to_disk)
        self._owner = owner
        self._log_dir: str | None = None
        self._warned = False

    def start(self, stage: str) -> None:
        """Something begins; call it in `setup`."""
        self._warned = False
        if stage == "fit":
            self.every.reset()

    def due(self, trainer: pl.Trainer) -> bool:
        """Is it time, in the validation that begins? Every process must ask."""
        due = trainer.sanity_checking or self.every.due(trainer)
        if due:
            self.every.done(trainer)
            self._log_dir = trainer.log_dir  # a broadcast
        return due

    @contextmanager
    def attempt(self, trainer: pl.Trainer) -> Iterator[None]:
        """Within, an error is a warning, if it would end a training."""
        try:
            yield
        except Exception as error:
            if trainer.state.fn != "fit" or trainer.sanity_checking:
                raise
            if not self._warned:
                self._warned = True
                warnings.warn(
                    f"{self._owner} makes no picture, and training goes on: {type(error).__name__}: {error}",
                    stacklevel=4,
                )

    def publish(self, trainer: pl.Trainer, key: str, picture: Tensor) -> None:
        """Write a picture to `<log_dir>/<key>/epoch=<e>-step=<s>.png`, and give it to every logger that takes images.

        Called by the first process alone. In the sanity check, in `fast_dev_run` and in `barebones` it goes nowhere, as
        nothing of these does.

        Args:
            trainer: Whose loggers; without any, its default root directory is the folder.
            key: The name in the loggers, and of the folder.
            picture: uint8 of shape (3, H, W) on the CPU.
        """
        trial = trainer.sanity_checking or trainer.fast_dev_run or trainer.barebones  # type: ignore[attr-defined]
        if trial:
            return
        image = picture.permute(1, 2, 0).numpy()
        if self.to_disk:
            from PIL import Image

            folder = Path(self._log_dir or trainer.default_root_dir) / key
            folder.mkdir(parents=True, exist_ok=True)
            file = folder / f"epoch={trainer.current_epoch}-step={trainer.global_step}.png"
            Image.fromarray(image).save(file)
        loggers: list[Any] = trainer.loggers
        for logger in loggers:
            # Not every logger has an experiment.
            add_image = getattr(getattr(logger, "experiment", None), "add_image", None)
            if add_image is not None:
                add_image(key, picture, trainer.global_step)
            elif hasattr(logger, "log_image"):
                logger.log_image(key=key, images=[image], step=trainer.global_step)


def check_images(x: Any) -> None:
    """Refuse what no picture shows: signals, volumes, images of 2 or 4 channels."""
    shape = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
    if not isinstance(x, Tensor) or x.ndim != 4 or x.shape[1] not in (1, 3) or not x.numel():
        raise ValueError(
            f"Expected images of shape (N, C, H, W) with C = 1 or 3, but got {shape}. There is no picture of other "
            "inputs: leave the callback out."
        )


def check_range(low: Any, high: Any) -> tuple[float, float]:
    """The values shown as black and white, as plain numbers."""
    low, high = _checks.number("low", low), _checks.number("high", high)
    if not low < high:
        raise ValueError(f"Expected argument `low` to be less than `high`, but got low={low}, high={high}.")
    return low, high
