"""How much better a module resists on data it has trained on than on data it has not."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lightning_robust._lightning import pl
from lightning_robust.attacks.attack import Attack, as_attack, check_logits, misclassified
from lightning_robust.attacks.scope import plain, scope
from lightning_robust.callbacks import _batch
from lightning_robust.callbacks._step import Forward, View, check_alone, check_counts, check_functions, check_module

_KEY = -3


class RobustGeneralizationGap(pl.Callback):
    """Report the robust generalization gap: robust accuracy on training data minus robust accuracy on validation data.

    The gap of standard training is small; that of adversarial training on CIFAR-10 grows to 50 percentage points
    (Schmidt et al., NeurIPS 2018, figure 1), and after the first decay of the learning rate the robust accuracy of
    validation falls while that of training rises (Rice et al., ICML 2020).

    The training samples are the first that the first epoch of this fit brings, copied as they come to the training
    step, before they are attacked and with their augmentation. They stay the same to the end, and so do the random
    starts: the curve shows the module. The validation samples are the first of the first dataloader. Both are attacked
    alike, the module in evaluation mode, in the precision of validation; neither the training nor its random numbers
    are touched.

    Logged: `train/robust_acc`, and the gaps `gap/robust_acc` and `gap/acc` (clean). An accuracy counts samples that are
    right on the clean input and under the attack.

    When: at the end of every validation within fit, but the sanity check. Not supported: dense labels. Across
    processes, each keeps its share of the samples; those that a DistributedSampler repeats are counted. After a fit is
    resumed, the training samples are the first of the epoch in which it goes on.

    Args:
        attack: The attack; it keeps its best iterate here.
        max_samples: How many samples of each part, over all processes.
        every_n_epochs: Measure at every n-th epoch only, from the first on.
        input: Where the input is in the batch, see `AdversarialTraining`.
        target: Where the labels are.
        code: Where the latent codes are, for data that brings them.
        forward: `(module, batch) -> logits`, if `module(x)` is not what gives them.

    Attributes:
        results: What the last measurement found: all that was logged, and besides `train/acc`, `val/acc` and
            `val/robust_acc` on the samples of this callback, and their numbers `train/n`, `val/n`.

    Example:
        >>> from lightning_robust import PGD, Linf
        >>> RobustGeneralizationGap(PGD(Linf(8 / 255), steps=20), max_samples=500).attack.keep
        'best'
    """

    def __init__(
        self,
        attack: Attack | Callable[..., Tensor],
        *,
        max_samples: int = 1000,
        every_n_epochs: int = 1,
        input: _batch.Field = 0,  # noqa: A002
        target: _batch.Field = 1,
        code: _batch.Field | None = None,
        forward: Forward | None = None,
    ) -> None:
        self.attack = as_attack(attack).thorough()
        check_counts(max_samples=max_samples, every_n_epochs=every_n_epochs)
        _batch.check_fields(input=input, target=target, code=code)
        check_functions(forward=forward)
        self.max_samples, self.every_n_epochs = max_samples, every_n_epochs
        self.input, self.target, self.code = input, target, code
        self.forward = forward
        self.results: dict[str, float] = {}
        self._kept: list[Any] = []
        self._room = 0
        self._counts: dict[str, Tensor] = {}

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse what is not supported, and forget the samples of another fit."""
        if stage != "fit":
            return
        check_alone(trainer, RobustGeneralizationGap, "They would log under the same names.")
        check_module(pl_module, ("training_step", "validation_step"), self.forward)
        self._kept, self._room = [], self._share(trainer)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, *args: Any) -> None:
        """Keep a copy of the first training samples."""
        if self._room > 0:
            part = self._first(batch, self._room)
            self._kept.append(copy.deepcopy(part))
            self._room -= len(_batch.get(part, self.input, "input"))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The next epoch brings the same samples again."""
        self._room = 0

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start counting."""
        due = trainer.state.fn == "fit" and not trainer.sanity_checking and bool(self._kept)
        due = due and trainer.current_epoch % self.every_n_epochs == 0
        self._counts = {part: torch.zeros(3, device=pl_module.device) for part in ("train", "val")} if due else {}

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Attack the first validation samples."""
        if self._counts and dataloader_idx == 0:
            room = self._share(trainer) - int(self._counts["val"][2])
            if room > 0:
                self._counts["val"] += self._count(trainer, pl_module, self._first(batch, room))

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Attack the training samples, and log."""
        if not self._counts:
            return
        for batch in self._kept:
            self._counts["train"] += self._count(trainer, pl_module, batch)
        found: dict[str, float] = {}
        for part, counts in self._counts.items():
            right, robust, number = trainer.strategy.reduce(counts, reduce_op="sum").tolist()
            found |= {f"{part}/acc": right / number, f"{part}/robust_acc": robust / number, f"{part}/n": number}
        gaps = {f"gap/{name}": found[f"train/{name}"] - found[f"val/{name}"] for name in ("acc", "robust_acc")}
        self.results, self._counts = found | gaps, {}
        for name in ("train/robust_acc", "gap/acc", "gap/robust_acc"):
            pl_module.log(name, self.results[name], sync_dist=True)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Let go of the samples."""
        self._kept, self._counts, self._room = [], {}, 0

    def _share(self, trainer: pl.Trainer) -> int:
        """How many samples of each part this process takes."""
        return -(-self.max_samples // trainer.world_size)

    def _first(self, batch: Any, room: int) -> Any:
        """At most `room` samples of a batch."""
        n = len(_batch.get(batch, self.input, "input"))
        return batch if n <= room else _batch.take(batch, n, slice(0, room))

    def _count(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any) -> Tensor:
        """How many samples are right when clean, right under attack too, and there: (3,)."""
        x, y = _batch.get(batch, self.input, "input"), _batch.get(batch, self.target, "target")
        code = None if self.code is None else _batch.get(batch, self.code, "code")
        self.attack.check(x, y)
        view = View(pl_module, self.forward, batch, self.input)
        with trainer.precision_plugin.val_step_context():
            clean = self._correct(view, x, y)
            x_adv = self.attack.run(view, x, y, code=code, key=_KEY).x_adv
            robust = clean & self._correct(view, x_adv, y)
        return torch.stack([clean.sum(), robust.sum(), torch.full_like(clean.sum(), len(x))])

    def _correct(self, view: View, x: Tensor, y: Tensor) -> Tensor:
        """(N,) bool, the module in evaluation mode."""
        with scope(view, device=x.device), torch.no_grad():
            x, y = plain(x), plain(y)
            logits = view(x)
            check_logits(logits, y)
            return ~misclassified(logits, y)
