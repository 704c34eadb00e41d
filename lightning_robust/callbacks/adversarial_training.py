"""Adversarial training of any LightningModule, unchanged."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lightning_robust._lightning import pl
from lightning_robust.attacks.attack import Attack, as_attack, check_logits
from lightning_robust.attacks.combinators import attacked_rows, check_fraction
from lightning_robust.attacks.schedules import Schedule
from lightning_robust.attacks.scope import scope
from lightning_robust.callbacks import _batch
from lightning_robust.callbacks._step import Forward, Step, View, check_alone, check_functions, check_module, put_around
from lightning_robust.objectives.objective import Objective


class AdversarialTraining(pl.Callback):
    r"""Train on adversarial examples: :math:`\min_w E \max_{x' \in P(x)} L(f_w(x'), y)` (Madry et al., ICLR 2018).

    Every training batch is attacked inside the module's own `training_step`, that is in the Trainer's precision and
    inside the forward of DDP or FSDP, and the step then runs on a copy of the batch that holds the adversarial inputs.
    Nothing else changes: logging, automatic or manual optimisation, gradient accumulation, clipping, the user's batch,
    the random streams, BatchNorm statistics and frozen layers are as without the attack.

    When: in `trainer.fit` only, every batch. Not supported: a `training_step` that takes `dataloader_iter`; more than
    one of this callback in a Trainer (combine attacks with `worst_of`); an `objective` together with manual
    optimisation.

    Args:
        attack: An `Attack` such as `PGD(Linf(8 / 255))`, or a function `(model, x, y) -> x_adv`.
        objective: What is minimised instead of the module's own step: `(model, x, x_adv, y) -> loss`, e.g.
            `trades(beta=6)`. It is logged as `train/loss`; the module's `training_step` is then not called.
        fraction: The share of adversarial samples in a batch; the others stay clean, all go through the module in one
            forward. 0.5 is the scheme of Stutz et al. (CVPR 2019). It is always the last samples of the batch that are
            attacked.
        input: Where the input is in the batch: an index for tuples and lists, a key or attribute for dicts, named
            tuples and dataclasses, a path of these for nested batches.
        target: Where the labels are.
        code: Where the latent codes are, for data that brings them; None: it does not.
        forward: `(module, batch) -> logits` (N, K), if `module(x)` is not what gives them.
        schedule: `(attack, epoch) -> attack` with a fractional epoch, e.g. `WarmUp(epochs=5)`.

    Example:
        >>> from lightning_robust import PGD, AdversarialTraining, Linf
        >>> trainer = pl.Trainer(callbacks=[AdversarialTraining(PGD(Linf(8 / 255), steps=10))], logger=False)
    """

    def __init__(
        self,
        attack: Attack | Callable[..., Tensor],
        objective: Objective | None = None,
        *,
        fraction: float = 1.0,
        input: _batch.Field = 0,  # noqa: A002
        target: _batch.Field = 1,
        code: _batch.Field | None = None,
        forward: Forward | None = None,
        schedule: Schedule | None = None,
    ) -> None:
        self.attack = as_attack(attack)
        check_fraction(fraction)
        _batch.check_fields(input=input, target=target, code=code)
        check_functions(objective=objective, forward=forward, schedule=schedule)
        if objective is not None and fraction != 1.0:
            raise ValueError(
                "Expected `fraction` to be 1 with an objective, which sees clean and adversarial inputs, but got "
                f"{fraction}."
            )
        self.objective = objective
        self.fraction = fraction
        self.input, self.target, self.code = input, target, code
        self.forward = forward
        self.schedule = schedule
        self._undo: Callable[[], None] | None = None
        self._checked = False
        self._warned = False
        self._stuck: Tensor | None = None
        self._seen = 0

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse what is not supported, before anything runs."""
        if stage != "fit":
            return
        advice = "The second would attack what the first made. For a union of threats use worst_of(a, b)."
        check_alone(trainer, AdversarialTraining, advice)
        if self.objective is not None and not pl_module.automatic_optimization:
            raise ValueError(
                "Expected automatic optimisation with an objective, but this module optimises by hand: "
                "compute the loss in its training_step and leave `objective` out."
            )
        check_module(pl_module, ("training_step",), self.forward)
        self._checked = self._warned = False

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Put the attack around this batch's step."""
        self._remove()
        memo: list[tuple[Any, Tensor, Tensor]] = []

        def around(step: Step, batch: Any, *args: Any, **kwargs: Any) -> Any:
            # An optimiser with a closure (LBFGS, SAM) calls the step several times for one batch.
            if not memo or memo[0][0] is not batch:
                memo[:] = [(batch, *self._attack(trainer, pl_module, batch, batch_idx))]
            _, x, x_adv = memo[0]
            if self.objective is None:
                return step(_batch.put(batch, self.input, x_adv), *args, **kwargs)
            return self._loss(pl_module, batch, x, x_adv)

        self._undo = put_around(pl_module, "training_step", around)

    def _attack(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> tuple[Tensor, Tensor]:
        """The clean inputs, and the inputs to train on."""
        x, y = _batch.get(batch, self.input, "input"), _batch.get(batch, self.target, "target")
        code = None if self.code is None else _batch.get(batch, self.code, "code")
        if not self._checked:
            self._check(pl_module, batch, x, y)
        first = len(x) - attacked_rows(len(x), self.fraction)
        rows = slice(first, None)
        if first == len(x):
            return x, x
        part = batch if first == 0 else _batch.take(batch, len(x), rows)
        view = View(pl_module, self.forward, part, self.input)
        attack = self.attack
        if self.schedule is not None:
            batches = trainer.num_training_batches
            done = batch_idx / batches if batches and batches != float("inf") else 0.0
            attack = as_attack(self.schedule(attack, trainer.current_epoch + done))
        outcome = attack.run(view, x[rows], y[rows], code=_batch.take(code, len(x), rows), key=trainer.current_epoch)
        if outcome.stuck is not None:
            stuck = outcome.stuck.sum()
            self._stuck = stuck if self._stuck is None else self._stuck + stuck
            self._seen += len(outcome.stuck)
        return x, outcome.x_adv if first == 0 else torch.cat([x[:first], outcome.x_adv])

    def _check(self, pl_module: pl.LightningModule, batch: Any, x: Any, y: Any) -> None:
        self.attack.check(x, y)
        view = View(pl_module, self.forward, batch, self.input)
        with scope(view, device=x.device), torch.no_grad():
            check_logits(view(x), y)
        self._checked = True

    def _loss(self, pl_module: pl.LightningModule, batch: Any, x: Tensor, x_adv: Tensor) -> Tensor:
        assert self.objective is not None
        view = View(pl_module, self.forward, batch, self.input)
        loss = self.objective(view, x, x_adv, _batch.get(batch, self.target, "target"))
        pl_module.log("train/loss", loss.detach(), prog_bar=True, batch_size=len(x))
        return loss

    def _remove(self) -> None:
        if self._undo is not None:
            self._undo()
            self._undo = None

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Take the attack away."""
        self._remove()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the attack away (a skipped batch has no end), and say if it met vanished gradients."""
        self._remove()
        if self._stuck is not None and not self._warned and (stuck := int(self._stuck)) > 0.01 * self._seen:
            self._warned = True
            pl.utilities.rank_zero_warn(
                f"{type(self.attack).__name__}: the gradient was zero for {stuck} of {self._seen} samples, which were "
                "trained on as they "
                "started. Is the gain saturated (use `log_odds` or `margin`), the precision float16 (use bf16), or "
                "the gradient blocked?"
            )
        self._stuck, self._seen = None, 0

    def on_exception(self, *args: Any, **kwargs: Any) -> None:
        """Take the attack away: Lightning calls no teardown after an exception."""
        self._remove()

    def teardown(self, *args: Any, **kwargs: Any) -> None:
        """Take the attack away."""
        self._remove()
