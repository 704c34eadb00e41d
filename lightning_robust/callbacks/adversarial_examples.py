"""Pictures of adversarial examples while training."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import PurePath
from typing import Any

import torch

from lightning_robust import _checks, _nested
from lightning_robust._lightning import check_backend, pl
from lightning_robust._nested import Field
from lightning_robust.attacks.attack import Attack, as_attack
from lightning_robust.attacks.labels import Correct
from lightning_robust.callbacks._pictures import Pictures, check_images, check_range
from lightning_robust.callbacks._reader import Forward, Reader, Sample
from lightning_robust.callbacks._step import Handle, Step, check_module, put_around
from lightning_robust.plots.grid import image_grid


class AdversarialExamples(pl.Callback):
    """Show the first validation samples as clean | adversarial | signed difference.

    The picture goes to every logger of the Trainer that takes images (TensorBoard, Weights & Biases and others with
    `log_image`) and to `<log_dir>/<name>/epoch=<e>-step=<s>.png`.

    When: in validation within fit and alone, before the step of the first batch of the first dataloader. In the sanity
    check the picture is tried and goes nowhere, so that inputs that cannot be shown are refused before training. Later
    an error is told as a warning, once: no training ends because of a picture. All processes attack, the first one
    writes.

    Args:
        attack: An `Attack`, or a function `(model, x, y) -> x_adv`.
        name: The key in the loggers, and the folder. Several of this callback need different ones.
        num_samples: How many samples.
        every_n_epochs: Within fit, every n-th epoch only, from the first on and in the last.
        scale: The difference that has full color, in units of the input; None: the largest of the picture.
        low: The value that is shown black.
        high: The value that is shown white.
        to_disk: Write PNG files?
        input: Where the input is in the batch, see `AdversarialTraining`.
        target: Where the labels are.
        code: Where the latent codes are, for data that brings them.
        forward: `(module, batch) -> logits`, if `module(x)` is not what gives them.
        correct: `(output, y) -> (N,) bool`, what "right" means where labels are no class labels.
        per_sample: The fields of a batch with one entry per sample besides input, target and code; None: guessed where
            that is safe.

    Example:
        >>> from lightning_robust import PGD, AdversarialExamples, Linf
        >>> AdversarialExamples(PGD(Linf(8 / 255)), name="examples/weak").name
        'examples/weak'
    """

    def __init__(
        self,
        attack: Attack | Callable[..., Any],
        *,
        name: str = "adversarial_examples",
        num_samples: int = 8,
        every_n_epochs: int = 1,
        scale: float | None = None,
        low: float = 0.0,
        high: float = 1.0,
        to_disk: bool = True,
        input: Field = 0,  # noqa: A002
        target: Field | None = 1,
        code: Field | None = None,
        forward: Forward | None = None,
        correct: Correct | None = None,
        per_sample: Sequence[Field] | None = None,
    ) -> None:
        self.attack = as_attack(attack).thorough()
        self.name = _checks.text("name", name)
        if PurePath(name).is_absolute() or ".." in PurePath(name).parts:
            raise ValueError(f"Expected argument `name` to be a folder within the log directory, but got {name!r}.")
        self.num_samples = _checks.count("num_samples", num_samples)
        self.scale = None if scale is None else _checks.number("scale", scale, 0, above=True)
        self.low, self.high = check_range(low, high)
        self.reader = Reader(input, target, code, forward, correct, per_sample)
        self._pictures = Pictures(type(self).__name__, every_n_epochs, to_disk)
        self._handle: Handle | None = None
        self._due = False

    @property
    def state_key(self) -> str:
        """Several of this callback are told apart by their names."""
        return f"AdversarialExamples[{self.name}]"

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse what is not supported, before anything runs."""
        check_backend(trainer)
        if stage not in ("fit", "validate"):
            return
        callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
        if sum(isinstance(other, AdversarialExamples) and other.name == self.name for other in callbacks) > 1:
            raise ValueError(
                "Expected AdversarialExamples callbacks with different names, since each would overwrite the pictures "
                f"of the other, but got {self.name!r} several times. Say name=...."
            )
        check_module(pl_module, ("validation_step",), self.reader.forward)
        self._pictures.start(stage)

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Is there a picture in this validation?"""
        self._due = self._pictures.due(trainer)

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Put the attack before the first step."""
        self._remove()
        if not self._due or dataloader_idx:
            return

        def around(step: Step, batch: Any, *args: Any, **kwargs: Any) -> Any:
            # Before the step, which may take labels out of the batch, or write to it.
            with self._pictures.attempt(trainer):
                sample = self.reader.read(batch)
                if sample is not None:
                    self._due = False
                    self._show(trainer, pl_module, sample)
            return step(batch, *args, **kwargs)

        self._handle = put_around(pl_module, "validation_step", around)

    def _show(self, trainer: pl.Trainer, pl_module: pl.LightningModule, sample: Sample) -> None:
        check_images(sample.x)
        sample = sample.rows(slice(0, min(self.num_samples, len(sample))))
        self.attack.check(sample.x, sample.y)
        attack = self.attack.brief() if trainer.sanity_checking else self.attack
        if attack is None:
            return
        x_adv = sample.view(pl_module).attacked(attack, 0).x_adv
        if trainer.is_global_zero:
            with torch.inference_mode(False):
                x, x_adv = (_nested.plain(_nested.ordinary(images)) for images in (sample.x, x_adv))
            picture = image_grid(x, x_adv, scale=self.scale, low=self.low, high=self.high, zoom=2)
            self._pictures.publish(trainer, self.name, picture)

    def _remove(self) -> None:
        # The handle is kept: somebody who had patched on top may put our step back, which is undone again at the end.
        if self._handle is not None:
            self._handle.undo()

    def on_validation_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Take the attack away, and say if it was not there."""
        self._remove()
        if self._due and self._handle is not None and not self._handle.reached:
            self._due = False
            warnings.warn(
                "AdversarialExamples shows nothing: the Trainer called another `validation_step` than that of "
                f"{type(pl_module).__name__}. Has it been replaced, cached or compiled away?",
                stacklevel=2,
            )

    def on_exception(self, *args: Any, **kwargs: Any) -> None:
        """Take the attack away: Lightning calls no teardown after an exception."""
        self._remove()

    def teardown(self, *args: Any, **kwargs: Any) -> None:
        """Take the attack away."""
        self._remove()

    def __getstate__(self) -> dict[str, Any]:
        """Without the step of the batch at hand, which belongs to a module."""
        return vars(self) | {"_handle": None}

    def state_dict(self) -> dict[str, Any]:
        """When the last picture was made."""
        return self._pictures.every.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting from there."""
        self._pictures.every.load_state_dict(state_dict)
