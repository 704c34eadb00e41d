"""Pictures of adversarial examples while training."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import PurePath
from typing import Any

import torch

from lightning_robust import _checks, _nested
from lightning_robust._lightning import check_backend, pl
from lightning_robust._nested import Field
from lightning_robust._step import Step
from lightning_robust.attacks.attack import Attack, as_attack
from lightning_robust.attacks.labels import Correct
from lightning_robust.callbacks._base import StepCallback, check_alone, check_module
from lightning_robust.callbacks._pictures import Pictures, check_images, check_range
from lightning_robust.evaluation._reader import Forward, Reader, Sample
from lightning_robust.plots.grid import image_grid


class AdversarialExamples(StepCallback):
    """Show the first validation samples as clean | adversarial | signed difference.

    The picture goes to every logger of the Trainer that takes images (TensorBoard, Weights & Biases and others with
    `log_image`) and to `<log_dir>/<name>/epoch=<e>-step=<s>.png`.

    When: in validation within fit and alone, before the step of the first batch of the first dataloader. In the sanity
    check the picture is tried and goes nowhere, so that inputs that cannot be shown are refused before training. Later
    an error becomes one warning: no training ends because of a picture. All processes attack, the first one writes.

    Args:
        attack: An `Attack`, or a function `(model, x, y) -> x_adv`.
        name: The key in the loggers, and the folder. Several of this callback need different ones.
        num_samples: Number of samples in the picture.
        every_n_epochs: Within fit, only in the first validation, then in the epochs n - 1, 2 n - 1, ..., and in the
            last.
        scale: The difference that has full color, in units of the input; None: the largest of the picture.
        low: The value that is shown black.
        high: The value that is shown white.
        to_disk: Write PNG files? Not in `fast_dev_run` and `barebones`, in which nothing is written.
        input: See `AdversarialTraining`, as for `target`, `code`, `forward`, `correct` and `per_sample`.
        target: Where the labels are.
        code: Where the latent codes are.
        forward: `(module, batch) -> logits`.
        correct: `(output, y) -> (N,) bool`.
        per_sample: The fields of a batch with one entry per sample.

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
        self.every_n_epochs, self.to_disk = self._pictures.every.n, self._pictures.to_disk
        self._resumed = self._pictures.every
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
        check_alone(trainer, self, "Each would overwrite the pictures of the other. Say name=....", by="name")
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

        self._put(pl_module, "validation_step", around)

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

    def on_validation_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Take the attack away, and warn if it was not there."""
        if not self._remove() and self._due:
            self._due = False
            warnings.warn(
                "AdversarialExamples shows nothing: the Trainer called another `validation_step` than that of "
                f"{type(pl_module).__name__}. Has it been replaced, cached or compiled away?",
                stacklevel=2,
            )
