"""Pictures of adversarial examples while training."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lightning_robust._lightning import pl
from lightning_robust.attacks.attack import Attack, as_attack
from lightning_robust.attacks.scope import plain
from lightning_robust.callbacks import _batch, _pictures
from lightning_robust.callbacks._step import (
    Forward,
    Step,
    View,
    check_counts,
    check_functions,
    check_module,
    put_around,
)
from lightning_robust.plots.grid import image_grid


class AdversarialExamples(pl.Callback):
    """Show the first validation samples as clean | adversarial | signed difference.

    The picture goes to every logger of the Trainer that takes images (TensorBoard, Weights & Biases and others with
    `log_image`) and to `<log_dir>/adversarial_examples/epoch=<e>-step=<s>.png`.

    When: in validation within fit and alone (but the sanity check), after the step of the first batch of the first
    dataloader. All processes attack, the first one writes.

    Args:
        attack: An `Attack`, or a function `(model, x, y) -> x_adv`.
        num_samples: How many samples.
        every_n_epochs: Every so many epochs, from the first on.
        scale: The difference that has full colour, in units of the input; None: the largest of the picture.
        low: The value that is shown black.
        high: The value that is shown white.
        to_disk: Write PNG files?
        input: Where the input is in the batch, see `AdversarialTraining`.
        target: Where the labels are.
        code: Where the latent codes are, for data that brings them.
        forward: `(module, batch) -> logits`, if `module(x)` is not what gives them.
    """

    def __init__(
        self,
        attack: Attack | Callable[..., Tensor],
        *,
        num_samples: int = 8,
        every_n_epochs: int = 1,
        scale: float | None = None,
        low: float = 0.0,
        high: float = 1.0,
        to_disk: bool = True,
        input: _batch.Field = 0,  # noqa: A002
        target: _batch.Field = 1,
        code: _batch.Field | None = None,
        forward: Forward | None = None,
    ) -> None:
        self.attack = as_attack(attack).thorough()
        check_counts(num_samples=num_samples, every_n_epochs=every_n_epochs)
        _batch.check_fields(input=input, target=target, code=code)
        check_functions(forward=forward)
        if scale is not None and not scale > 0:
            raise ValueError(f"Expected argument `scale` to be positive, but got {scale}.")
        if not low < high:
            raise ValueError(f"Expected argument `low` to be less than `high`, but got low={low}, high={high}.")
        self.num_samples, self.every_n_epochs = num_samples, every_n_epochs
        self.scale, self.low, self.high = scale, low, high
        self.to_disk = to_disk
        self.input, self.target, self.code = input, target, code
        self.forward = forward
        self._undo: Callable[[], None] | None = None
        self._shown_at: int | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse a module that cannot be attacked."""
        if stage in ("fit", "validate"):
            check_module(pl_module, ("validation_step",), self.forward)
            self._shown_at = None

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Put the attack behind the first step."""
        self._remove()
        if batch_idx or dataloader_idx or not _pictures.due(trainer, self._shown_at, self.every_n_epochs):
            return
        self._shown_at = trainer.current_epoch

        def around(step: Step, batch: Any, *args: Any, **kwargs: Any) -> Any:
            output = step(batch, *args, **kwargs)
            self._show(trainer, pl_module, batch)
            return output

        self._undo = put_around(pl_module, "validation_step", around)

    def _show(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any) -> None:
        x = _batch.get(batch, self.input, "input")
        n, rows = len(x), slice(0, self.num_samples)
        batch = _batch.take(batch, n, rows)
        x, y = _batch.get(batch, self.input, "input"), _batch.get(batch, self.target, "target")
        code = None if self.code is None else _batch.get(batch, self.code, "code")
        x_adv = self.attack(View(pl_module, self.forward, batch, self.input), x, y, code=code)
        log_dir = trainer.log_dir  # a broadcast: every process must ask for it
        if trainer.is_global_zero:
            with torch.inference_mode(False):
                pictures = [plain(images).float().cpu() for images in (x, x_adv)]
            grid = image_grid(*pictures, scale=self.scale, low=self.low, high=self.high, zoom=2)
            _pictures.publish(trainer, log_dir, "adversarial_examples", grid, to_disk=self.to_disk)

    def _remove(self) -> None:
        if self._undo is not None:
            self._undo()
            self._undo = None

    def on_validation_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Take the attack away."""
        self._remove()

    def on_exception(self, *args: Any, **kwargs: Any) -> None:
        """Take the attack away: Lightning calls no teardown after an exception."""
        self._remove()

    def teardown(self, *args: Any, **kwargs: Any) -> None:
        """Take the attack away."""
        self._remove()
