"""Adversarial training of any LightningModule, unchanged."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import torch
from torch import Tensor, nn

from lightning_robust import _checks
from lightning_robust._lightning import check_backend, pl
from lightning_robust._nested import Field
from lightning_robust._step import Around, Step, put_around
from lightning_robust.attacks._choice import news, restore, state_of
from lightning_robust.attacks.attack import Attack, as_attack
from lightning_robust.attacks.combinators import attacked_rows, check_fraction
from lightning_robust.attacks.labels import Correct
from lightning_robust.attacks.schedules import Progress, Schedule
from lightning_robust.callbacks._base import StepCallback, check_alone, check_module
from lightning_robust.callbacks._clock import Clock
from lightning_robust.evaluation._reader import Forward, Reader, Sample
from lightning_robust.objectives.objective import Objective

_under_attack: "WeakSet[nn.Module]" = WeakSet()
"""Modules whose step has a batch that was attacked."""
_attached: "WeakKeyDictionary[nn.Module, int]" = WeakKeyDictionary()
"""How many times `attached` is around a module."""


class AdversarialTraining(StepCallback):
    r"""Train on adversarial examples: :math:`\min_w E \max_{x' \in P(x)} L(f_w(x'), y)` (Madry et al., ICLR 2018).

    Every training batch is attacked inside the module's own `training_step`: in the Trainer's precision and inside the
    forward of DDP or FSDP. The step then runs on a copy of the batch that holds the adversarial inputs. Nothing else
    changes: logging, automatic or manual optimization, gradient accumulation, clipping, the user's batch, the random
    streams, BatchNorm statistics and frozen layers are as without the attack.

    When: in `trainer.fit` only, once for each batch. An optimizer whose closure calls the step several times (LBFGS,
    SAM) sees the same adversarial inputs in all calls. Random starts change with the epoch, or with the batch if the
    loader has no length. They go on if a fit is resumed, and if several Trainers train one module one after the other.
    What was trained without this callback does not count, nor does `fast_dev_run`.
    A batch without samples, or whose input is None, as `CombinedLoader("max_size")` gives for a loader that is over,
    goes to the step as it is.

    Not supported: a `training_step` that takes `dataloader_iter`; more than one of this callback in a Trainer (combine
    attacks with `worst_of`); an `objective` together with manual optimization. `Tuner`, `LearningRateFinder` and
    `BatchSizeFinder` take all callbacks away while they work: see `attached`.

    Args:
        attack: An `Attack` such as `PGD(Linf(8 / 255))`, or a function `(model, x, y) -> x_adv`.
        objective: The training loss `(model, x, x_adv, y) -> loss`, e.g. `trades(beta=6)`, in place of the module's own
            step, which is then not called. It is logged as `train/loss`.
        fraction: Share of adversarial samples in a batch: the last fraction * N, rounded. The others stay clean, and
            all go through the module in one forward. 0.5 is the scheme of Stutz et al. (CVPR 2019).
        input: Where the input is in the batch: an index for tuples and lists, a key or attribute for dicts, named
            tuples, dataclasses and other objects, a path of these for nested batches, () if the batch is the input.
        target: Where the labels are; None: there are none, for gains that need none, such as `divergence`.
        code: Where the latent codes are, for data that brings them; None: it does not.
        forward: `(module, batch) -> logits` (N, K), if `module(x)` does not give them.
        schedule: `(attack, progress) -> attack`, e.g. `WarmUp(epochs=5)`, or `WarmUp(steps=1000)` for a loader without
            length.
        correct: `(output, y) -> (N,) bool`, the meaning of "right" if labels are no class labels: `binary_correct` for
            one logit or several yes/no labels, `dense_correct(...)` for dense labels, or a function of your own. In
            training only attacks that ask for success need it (`early_stop`, `worst_of`).
        per_sample: The fields of a batch with one entry per sample, besides input, target and code, for when a batch is
            cut to some of its samples. None: guessed where that is safe, else refused.

    Example:
        >>> from lightning_robust import PGD, AdversarialTraining, Linf
        >>> trainer = pl.Trainer(callbacks=[AdversarialTraining(PGD(Linf(8 / 255), steps=10))], logger=False)
    """

    def __init__(
        self,
        attack: Attack | Callable[..., Any],
        objective: Objective | None = None,
        *,
        fraction: float = 1.0,
        input: Field = 0,  # noqa: A002
        target: Field | None = 1,
        code: Field | None = None,
        forward: Forward | None = None,
        schedule: Schedule | None = None,
        correct: Correct | None = None,
        per_sample: Sequence[Field] | None = None,
    ) -> None:
        self.attack = as_attack(attack)
        self.fraction = check_fraction(fraction)
        self.reader = Reader(input, target, code, forward, correct, per_sample)
        if objective is not None:
            _checks.function("objective", objective, "(model, x, x_adv, y) -> loss", takes=4)
        if schedule is not None:
            _checks.function("schedule", schedule, "(attack, progress) -> attack")
        if objective is not None and self.fraction != 1:
            raise ValueError(
                "Expected `fraction` to be 1 with an objective, which sees clean and adversarial inputs, but got "
                f"{fraction}."
            )
        self.objective = objective
        self.schedule = schedule
        self._clock = self._resumed = Clock()
        self._missed = self._checked = self._warned = False
        self._told: set[str] = set()
        self._stuck: Tensor | None = None
        self._seen = 0

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse what is not supported, before anything runs."""
        check_backend(trainer)
        if stage != "fit":
            return
        check_alone(trainer, self, "The second would attack what the first made. For a union of threats use worst_of.")
        if self.objective is not None and not pl_module.automatic_optimization:
            raise ValueError(
                "Expected automatic optimization with an objective, but this module optimizes by hand: compute the "
                "loss in its training_step and leave `objective` out."
            )
        check_module(pl_module, ("training_step",), self.reader.forward)
        _check_pairing(self.objective, self.attack)
        self._missed = self._checked = self._warned = False
        self._clock.start(pl_module)
        _check_finders(trainer, pl_module)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Put the attack around this batch's step."""
        self._clock.batch(trainer, pl_module, batch_idx)
        attack = self._scheduled(self._clock.progress(trainer, batch_idx))
        self._put(pl_module, "training_step", self._around(pl_module, attack, self._clock.key(trainer)))

    def _scheduled(self, progress: Progress) -> Attack:
        return self.attack if self.schedule is None else as_attack(self.schedule(self.attack, progress))

    def _around(self, pl_module: pl.LightningModule, attack: Attack, key: int) -> Around:
        """What is put around the step: the attack, once for each batch, whatever else stands around the step."""
        memo: list[tuple[Any, Sample | None, Tensor]] = []

        def around(step: Step, batch: Any, *args: Any, **kwargs: Any) -> Any:
            if pl_module in _under_attack:
                memo.clear()  # of a batch before, whose memory is wanted
                return step(batch, *args, **kwargs)
            # An optimizer with a closure (LBFGS, SAM) calls the step several times for one batch.
            if not memo or memo[0][0] is not batch:
                memo.clear()
                sample = self.reader.read(batch)
                x_adv = torch.empty(0) if sample is None else self._attack(pl_module, attack, sample, key)
                memo[:] = [(batch, sample, x_adv)]
            _, sample, x_adv = memo[0]
            if sample is None:
                return step(batch, *args, **kwargs)
            if self.objective is not None:
                return self._loss(pl_module, sample, x_adv)
            _under_attack.add(pl_module)
            try:
                return step(sample.with_input(x_adv), *args, **kwargs)
            finally:
                _under_attack.discard(pl_module)

        return around

    def _attack(self, pl_module: pl.LightningModule, attack: Attack, sample: Sample, key: int) -> Tensor:
        """The inputs to train on."""
        attack.check(sample.x, sample.y)
        if not self._checked:
            self._checked = True
            for doubt in self.attack.doubts(sample.x) + sample.doubts():
                self._tell_once(doubt)
        n = len(sample)
        first = n - attacked_rows(n, self.fraction)
        if first == n:
            self._tell_once(
                f"fraction={self.fraction:g} of a batch of {n} samples is none: the batch stays clean. Use a larger "
                "fraction or larger batches."
            )
            return sample.x
        part = sample.rows(slice(first, None))
        outcome = part.view(pl_module).attacked(attack, key)
        for chosen in news(self.attack):
            pl.utilities.rank_zero_info(f"AdversarialTraining: the attack runs with {chosen}, the quickest here.")
        if outcome.stuck is not None:
            stuck = outcome.stuck.sum()
            self._stuck = stuck if self._stuck is None else self._stuck + stuck
            self._seen += len(outcome.stuck)
        x_adv = outcome.x_adv if first == 0 else torch.cat([sample.x[:first], outcome.x_adv])
        return x_adv.requires_grad_() if sample.x.requires_grad else x_adv

    def _tell_once(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            warnings.warn(text, stacklevel=3)

    def _loss(self, pl_module: pl.LightningModule, sample: Sample, x_adv: Tensor) -> Tensor:
        assert self.objective is not None
        loss = self.objective(sample.view(pl_module), sample.x, x_adv, sample.y)
        pl_module.log("train/loss", loss.detach(), prog_bar=True, batch_size=len(sample))
        return loss

    def state_dict(self) -> dict[str, Any]:
        """How far training is, and what the attack has chosen by measurement, see `fast`."""
        return super().state_dict() | state_of(self.attack)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where the fit was, with what the attack had chosen."""
        super().load_state_dict(state_dict)
        restore(self.attack, state_dict)

    @contextmanager
    def attached(self, pl_module: pl.LightningModule) -> Iterator[None]:
        """Attack every training batch of a module without a callback, as for `Tuner`, which takes all callbacks away.

        So do `LearningRateFinder` and `BatchSizeFinder`: put it around the whole `trainer.fit(...)`. Where the callback
        is there, it attacks alone: no batch is attacked twice. The attack is that of the start of training. The module
        is as before afterwards.

        Example:
            >>> from lightning_robust import PGD, Linf
            >>> from lightning_robust.models import RobustClassifier
            >>> callback, module = AdversarialTraining(PGD(Linf(0.1))), RobustClassifier(torch.nn.Linear(4, 2))
            >>> with callback.attached(module):
            ...     pass  # Tuner(trainer).lr_find(module)
        """
        check_module(pl_module, ("training_step",), self.reader.forward)
        around = self._around(pl_module, self._scheduled(Progress(0.0, 0)), 0)
        handle = put_around(pl_module, "training_step", around)
        _attached[pl_module] = _attached.get(pl_module, 0) + 1
        try:
            yield
        finally:
            _attached[pl_module] -= 1
            handle.undo()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any, **kwargs: Any) -> None:
        """Take the attack away, and make sure that it was there."""
        if not self._remove() and not self._missed:
            self._missed = True
            _not_reached(pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the attack away (a skipped batch has no end), and warn if gradients were zero."""
        self._remove()
        self._clock.epoch_end(trainer, pl_module)
        if self._stuck is not None and not self._warned and (stuck := int(self._stuck)) > 0.01 * self._seen:
            self._warned = True
            # Of this process alone: no process waits for another one.
            warnings.warn(
                f"{type(self.attack).__name__}: the gradient was zero for {stuck} of {self._seen} samples, which were "
                "trained on as they started. Is the gain saturated (use `log_odds` or `margin`), the precision float16 "
                "(use bf16), or the gradient blocked?",
                stacklevel=2,
            )
        self._stuck, self._seen = None, 0


def _check_finders(trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
    """Warn of callbacks that try batches without the other callbacks."""
    kinds = (pl.callbacks.LearningRateFinder, pl.callbacks.BatchSizeFinder)
    finders = [type(one).__name__ for one in trainer.callbacks if isinstance(one, kinds)]  # type: ignore[attr-defined]
    if finders and not _attached.get(pl_module):
        pl.utilities.rank_zero_warn(
            f"{finders[0]} takes all callbacks away while it tries batches: they are not attacked, and what it finds "
            "is for a training without an attack. To attack them, put `attached` around the fit: "
            "with callback.attached(module): trainer.fit(module, ...).",
            stacklevel=3,
        )


def _check_pairing(objective: Any, attack: Attack) -> None:
    """An objective may say which gain its attack raises; another one is possible, but not the published method."""
    wanted = getattr(objective, "gain", None)
    per_part = [gain for part in _parts(attack) if (gain := getattr(part, "gain", None)) is not None]
    gains = [gain for some in per_part for gain in (some if isinstance(some, tuple) else (some,))]
    if wanted is not None and gains and all(gain != wanted for gain in gains):
        warnings.warn(
            f"The objective {objective} belongs to an attack that raises another gain than this one: "
            "PGD(..., gain=divergence) for TRADES. Training goes on with the attack as it is.",
            stacklevel=3,
        )


def _parts(attack: Attack) -> list[Attack]:
    """The attacks that an attack is made of, itself included."""
    return [attack, *(one for part in getattr(attack, "parts", ()) for one in _parts(part))]


def _not_reached(pl_module: pl.LightningModule) -> None:
    """The step that Lightning called was not ours: say so, instead of training on clean inputs in silence."""
    text = (
        f"Expected the Trainer to call the `training_step` of {type(pl_module).__name__} that the attack was put "
        "around, but it did not: the first batch was trained on as it came. Has the step been replaced, cached or "
        "compiled away?"
    )
    own_step = type(pl_module).optimizer_step is not pl.LightningModule.optimizer_step
    if pl_module.automatic_optimization and own_step:
        # An `optimizer_step` that skips its closure calls no step at all.
        warnings.warn(text, stacklevel=3)
        return
    raise RuntimeError(text)
