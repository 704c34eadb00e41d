"""How much better a module resists on data it has trained on than on data it has not."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_robust import _checks
from lightning_robust._lightning import check_backend, pl
from lightning_robust._nested import Field
from lightning_robust.attacks.attack import Attack, as_attack
from lightning_robust.attacks.labels import Correct
from lightning_robust.callbacks._base import BatchCallback, check_alone, check_module
from lightning_robust.callbacks._checkpoints import warn_of_checkpoints
from lightning_robust.callbacks._every import Every
from lightning_robust.callbacks._patience import warn_of_patience
from lightning_robust.callbacks._shard import replicas, summed
from lightning_robust.evaluation._order import Order, sorted_cut
from lightning_robust.evaluation._reader import Forward, Reader, Sample
from lightning_robust.evaluation.indicators import warning

_KEY = -3
_LOGGED = ("train/robust_acc", "gap/clean_acc", "gap/robust_acc")


class RobustGeneralizationGap(BatchCallback):
    """Report the robust generalization gap: robust accuracy on training data minus robust accuracy on validation data.

    The gap of standard training is small; that of adversarial training on CIFAR-10 grows to 50 percentage points
    (Schmidt et al., NeurIPS 2018, figure 1), and after the first decay of the learning rate the robust accuracy of
    validation falls while that of training rises (Rice et al., ICML 2020).

    The first `max_samples` training samples of the first epoch are copied, augmented but not attacked, and reused with
    the same random starts, so changes in the curve come from the model. Nothing is measured before there are as many,
    or the last validation of this epoch. The validation samples are the first of the
    first dataloader. Both are attacked alike, the module in evaluation mode, in the precision of validation; neither
    the training nor its random numbers are touched.

    Logged: `train/robust_acc`, and the gaps `gap/robust_acc` and `gap/clean_acc`. An accuracy counts samples that are
    right on the clean input and under the attack.

    When: in every validation within fit, but the sanity check. Across processes, each keeps its share of the
    samples; those that a DistributedSampler repeats are counted. After a fit is resumed, the training samples are the
    first of what is left of the epoch in which it goes on.

    Args:
        attack: The attack; it keeps its best iterate here.
        max_samples: Number of samples of each part, over all processes. Of validation data that is sorted by class, as
            folders of images are, these are of few classes: a warning says so.
        every_n_epochs: Within fit, measure only in the first validation, then in the epochs n - 1, 2 n - 1, ..., and
            in the last.
        input: See `AdversarialTraining`, as for `target`, `code`, `forward`, `correct` and `per_sample`.
        target: Where the labels are.
        code: Where the latent codes are.
        forward: `(module, batch) -> logits`.
        correct: `(output, y) -> (N,) bool`.
        per_sample: The fields of a batch with one entry per sample.

    Attributes:
        results: The values of the last measurement: all that was logged, and besides `train/clean_acc`,
            `val/clean_acc` and `val/robust_acc` on the samples of this callback, and their numbers `train/n`, `val/n`.

    Example:
        >>> from lightning_robust import PGD, Linf
        >>> RobustGeneralizationGap(PGD(Linf(8 / 255), steps=20), max_samples=500).attack.keep
        'best'
    """

    def __init__(
        self,
        attack: Attack | Callable[..., Any],
        *,
        max_samples: int = 1000,
        every_n_epochs: int = 1,
        input: Field = 0,  # noqa: A002
        target: Field | None = 1,
        code: Field | None = None,
        forward: Forward | None = None,
        correct: Correct | None = None,
        per_sample: Sequence[Field] | None = None,
    ) -> None:
        self.attack = as_attack(attack).thorough()
        self.max_samples = _checks.count("max_samples", max_samples)
        self.reader = Reader(input, target, code, forward, correct, per_sample)
        self.results: dict[str, float] = {}
        self._every = self._resumed = Every(every_n_epochs)
        self.every_n_epochs = self._every.n
        self._kept: list[Sample] = []
        self._room = self._batches = 0
        self._counts: dict[str, Tensor] = {}
        self._begun, self._told, self._order = False, False, Order()

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse what is not supported, and forget the samples of another fit."""
        check_backend(trainer)
        if stage != "fit":
            return
        check_alone(trainer, self, "They would log under the same names.")
        check_module(pl_module, ("training_step", "validation_step"), self.reader.forward)
        self._every.reset()
        self._kept, self._room, self._told = [], self._room_of(trainer), False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Warn of a monitor that acts on values that are not measured anew."""
        warn_of_patience(trainer, self._every, _LOGGED.__contains__)
        warn_of_checkpoints(trainer, self._every, _LOGGED.__contains__)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Keep a copy of the first training samples."""
        self._batches = batch_idx + 1
        if self._room > 0 and (sample := self.reader.read(batch)) is not None:
            part = sample.rows(slice(0, min(self._room, len(sample))))
            self.attack.check(part.x, part.y)
            self._kept.append(part.copied())
            self._room -= len(part)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The next epoch brings the same samples again; not where a resume has ended an epoch without a batch."""
        if self._kept:
            self._room = 0

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start counting, if the training samples are there."""
        due = trainer.state.fn == "fit" and self._every.due(trainer)
        parts = ("train", "val") if due and self._has_samples(trainer) else ()
        self._begun = False
        self._counts = {part: torch.zeros(3, dtype=torch.int64, device=pl_module.device) for part in parts}
        self._order = Order()

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Attack the first validation samples, before the step can change them.

        The training samples come before the first of them: within the validation, all have the weights of a callback
        that swaps these for it.
        """
        if not self._counts or dataloader_idx:
            return
        if not self._begun:
            self._begun = True
            for kept in self._kept:
                self._counts["train"] += self._count(trainer, pl_module, kept)
        if (sample := self.reader.read(batch)) is not None:
            room = self._room_of(trainer) - int(self._counts["val"][2])
            self._order.see(sample)
            self._order.cut = len(sample) > room
            if room > 0:
                part = sample.rows(slice(0, min(room, len(sample))))
                self._counts["val"] += self._count(trainer, pl_module, part)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log."""
        if not self._counts:
            return
        order = self._order.counts.to(pl_module.device)
        total = summed(trainer, torch.cat([*self._counts.values(), order])).tolist()
        counts = [total[:3], total[3:6]]
        if not all(number for *_, number in counts):  # no validation data in the first dataloader
            self._counts = {}
            return
        results: dict[str, float] = {}
        for part, (right, robust, number) in zip(self._counts, counts, strict=True):
            shares = {"clean_acc": right / number, "robust_acc": robust / number, "n": float(number)}
            results |= {f"{part}/{name}": value for name, value in shares.items()}
        for name in ("clean_acc", "robust_acc"):
            results[f"gap/{name}"] = results[f"train/{name}"] - results[f"val/{name}"]
        doubt = warning(sorted_cut(*total[6:]))
        if doubt is not None and not self._told:
            pl.utilities.rank_zero_warn(f"RobustGeneralizationGap: {doubt}", stacklevel=2)
            self._told = True
        self.results, self._counts = results, {}
        self._every.done(trainer)
        for name in _LOGGED:
            pl_module.log(name, results[name], sync_dist=True)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Let go of the samples."""
        self._kept, self._counts, self._room = [], {}, 0

    def _has_samples(self, trainer: pl.Trainer) -> bool:
        """Are the training samples there, in every process? If so they stay the same. All processes must ask."""
        more = trainer.num_training_batches - self._batches >= (trainer.val_check_batch or 0)
        waits = torch.tensor(
            int(self._room > 0 and more and not trainer.is_last_batch), device=trainer.strategy.root_device
        )
        if trainer.world_size > 1:
            waits = trainer.strategy.reduce(waits, reduce_op="sum")
        if waits:
            return False
        if self._kept:
            self._room = 0
        return True

    def _room_of(self, trainer: pl.Trainer) -> int:
        """Number of samples of each part that this process takes."""
        return -(-self.max_samples // replicas(trainer))

    def _count(self, trainer: pl.Trainer, pl_module: pl.LightningModule, sample: Sample) -> Tensor:
        """How many samples are right when clean, right under attack too, and there: (3,)."""
        self.attack.check(sample.x, sample.y)
        view = sample.view(pl_module)
        with trainer.precision_plugin.val_step_context():
            clean, _ = view.judged()
            robust, _ = view.right_under(self.attack, _KEY)
        return torch.stack([clean.sum(), (clean & robust).sum(), torch.full_like(clean.sum(), len(sample))])
