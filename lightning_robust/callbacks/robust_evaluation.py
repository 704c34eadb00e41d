"""Robust accuracy in validation and test, for any LightningModule, unchanged."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DistributedSampler

from lightning_robust._lightning import pl
from lightning_robust.attacks.attack import Attack, as_attack, check_logits, misclassified
from lightning_robust.attacks.scope import plain, scope
from lightning_robust.callbacks import _batch
from lightning_robust.callbacks._step import (
    Forward,
    Step,
    View,
    check_alone,
    check_counts,
    check_functions,
    check_module,
    put_around,
)
from lightning_robust.metrics.attack_success import AttackSuccessRate
from lightning_robust.metrics.intervals import wilson_interval
from lightning_robust.metrics.robust_accuracy import RobustAccuracy

_KEYS = {"validate": -1, "test": -2}
_PREFIX = {"validate": "val", "test": "test"}


class _Tally:
    """The metrics of one dataloader."""

    def __init__(self, attacks: Mapping[str, Attack], device: torch.device) -> None:
        self.accuracy = RobustAccuracy(list(attacks)).to(device)
        self.success = {name: AttackSuccessRate(attack.attempts).to(device) for name, attack in attacks.items()}
        self.stuck = {name: torch.zeros((), dtype=torch.long, device=device) for name in attacks}
        self.seen = 0

    def compute(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """What is logged, and the interval of every value."""
        values = self.accuracy.compute()
        n = values["robust_n"].cpu().double()
        more: dict[str, Tensor] = {}
        for name in ("acc", *(f"acc_{name}" for name in self.success)):
            low, high = wilson_interval((values[name].cpu().double() * n).round(), n)
            more |= {f"{name}_low": low, f"{name}_high": high}
        for name, metric in self.success.items():
            found = metric.compute()
            values[f"success_{name}"] = found["success_mean"]
            more |= {f"success_{name}_{end}": found[f"success_mean_{end}"] for end in ("low", "high")}
            more |= {f"success_{name}_worst": found["success_worst"]}
        return values, more


class RobustEvaluation(pl.Callback):
    """Report robust accuracy in validation and test.

    After the module's own step, and in the same precision context, every batch is attacked and the worst case over the
    clean input and all attacks is counted per sample. Works under `inference_mode=True`, the default of
    `trainer.validate` and `trainer.test`.

    Logged, with `val/` in validation (also within fit) and `test/` in test:

    - `acc`: the accuracy on clean inputs.
    - `acc_<name>`: the share of samples that are right on the clean input and under the attack.
    - `success_<name>`: the share of attempts that succeed on samples that are right when clean (Stutz et al., CVPR
    2019).
    - `robust_acc`: the share of samples that are right on the clean input and under every attack; `robust_acc_low`,
    `robust_acc_high`: its
      95 % Wilson interval; `robust_n`: the number of samples.

    So `ModelCheckpoint(monitor="val/robust_acc", mode="max")` and `EarlyStopping` work. With several dataloaders each
    has its own values, with Lightning's suffix `/dataloader_idx_<i>`. Samples that a DistributedSampler repeats to fill
    the last batch are not counted. Attacks keep their best iterate here, whatever they do in training.

    When: at every validation (but the sanity check) and test. Not supported: `fraction`al attacks, dense labels.

    Args:
        attacks: Attacks by name; or give them as keywords, `RobustEvaluation(pgd=PGD(...), square=...)`.
        every_n_epochs: Within fit, attack every n-th epoch only, from the first on and in the last; in between, the
            last values are logged again, so that monitors find them.
        max_samples: Attack the first so many samples of each dataloader, over all processes; None: all.
        input: Where the input is in the batch, see `AdversarialTraining`.
        target: Where the labels are.
        code: Where the latent codes are, for data that brings them.
        forward: `(module, batch) -> logits`, if `module(x)` is not what gives them.
        **named_attacks: Attacks by name.

    Attributes:
        results: What the last evaluation found: all that was logged, and besides `acc_low`, `acc_high`,
            `acc_<name>_low`, `acc_<name>_high`, `success_<name>_low`, `success_<name>_high`, the 95 % intervals, and
            `success_<name>_worst`, the share of samples on which at least one attempt succeeded.

    Example:
        >>> from lightning_robust import PGD, Linf, RobustEvaluation
        >>> RobustEvaluation(pgd=PGD(Linf(8 / 255), steps=50, restarts=5)).attacks["pgd"].keep
        'best'
    """

    def __init__(
        self,
        attacks: Mapping[str, Attack | Callable[..., Tensor]] | None = None,
        *,
        every_n_epochs: int = 1,
        max_samples: int | None = None,
        input: _batch.Field = 0,  # noqa: A002
        target: _batch.Field = 1,
        code: _batch.Field | None = None,
        forward: Forward | None = None,
        **named_attacks: Attack | Callable[..., Tensor],
    ) -> None:
        if attacks is not None and not isinstance(attacks, Mapping):
            raise TypeError(
                f"Expected argument `attacks` to be a dictionary of attacks by name, but got {attacks!r}. "
                "Or give them by keyword: RobustEvaluation(pgd=PGD(Linf(8 / 255), steps=50))."
            )
        found = {**(attacks or {}), **named_attacks}
        for name in found:
            if not isinstance(name, str) or not name:
                raise ValueError(f"Expected argument `attacks` to have names as keys, such as 'pgd', but got {name!r}.")
        if not found:
            raise ValueError(
                "Expected at least one attack, such as RobustEvaluation(pgd=PGD(Linf(8 / 255), steps=50)), but got "
                "none."
            )
        self.attacks = {name: as_attack(attack).thorough() for name, attack in found.items()}
        check_counts(every_n_epochs=every_n_epochs, max_samples=1 if max_samples is None else max_samples)
        _batch.check_fields(input=input, target=target, code=code)
        check_functions(forward=forward)
        self.every_n_epochs = every_n_epochs
        self.max_samples = max_samples
        self.input, self.target, self.code = input, target, code
        self.forward = forward
        self.results: dict[str, float] = {}
        self._undo: Callable[[], None] | None = None
        self._tallies: dict[int, _Tally] = {}
        self._last: dict[str, Tensor] = {}
        self._attacked_at = 0
        self._active = False
        self._checked = False

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse what is not supported, before anything runs."""
        if stage not in ("fit", "validate", "test"):
            return
        advice = "They would log under the same names. Give all attacks to one: RobustEvaluation(pgd=..., square=...)."
        check_alone(trainer, RobustEvaluation, advice)
        steps = {"fit": "validation_step", "validate": "validation_step", "test": "test_step"}
        check_module(pl_module, (steps[stage],), self.forward)
        self._last = {}

    # Validation and test are the same but for their names.

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start counting."""
        last_epoch = trainer.max_epochs is not None and trainer.current_epoch == trainer.max_epochs - 1
        since = trainer.current_epoch - self._attacked_at
        # Counted from the last attack: with `check_val_every_n_epoch` no validation may fall on a multiple.
        # Several validations of one epoch are all attacked.
        due = trainer.state.fn != "fit" or not self._last or since == 0 or since >= self.every_n_epochs or last_epoch
        self._start(trainer, due)
        if self._active:
            self._attacked_at = trainer.current_epoch

    def on_test_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start counting."""
        self._start(trainer, due=True)

    def on_validation_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Put the attacks behind this batch's step."""
        self._install(trainer, pl_module, "validation_step", "validate", trainer.val_dataloaders, dataloader_idx)

    def on_test_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Put the attacks behind this batch's step."""
        self._install(trainer, pl_module, "test_step", "test", trainer.test_dataloaders, dataloader_idx)

    def on_validation_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Take the attacks away."""
        self._remove()

    def on_test_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Take the attacks away."""
        self._remove()

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log."""
        self._finish(trainer, pl_module, "validate")

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log."""
        self._finish(trainer, pl_module, "test")

    def on_exception(self, *args: Any, **kwargs: Any) -> None:
        """Take the attacks away: Lightning calls no teardown after an exception."""
        self._remove()

    def teardown(self, *args: Any, **kwargs: Any) -> None:
        """Take the attacks away."""
        self._remove()

    def _start(self, trainer: pl.Trainer, due: bool) -> None:
        self._active = due and not trainer.sanity_checking
        self._tallies = {}
        self._checked = False

    def _install(self, trainer: Any, pl_module: Any, name: str, stage: str, loaders: Any, dataloader_idx: int) -> None:
        self._remove()
        if not self._active:
            return
        tally = self._tallies.get(dataloader_idx)
        if tally is None:
            tally = self._tallies[dataloader_idx] = _Tally(self.attacks, pl_module.device)
        loader = pl.utilities.CombinedLoader(loaders, mode="sequential").flattened[dataloader_idx]
        shard = _Shard(loader, trainer.world_size, self.max_samples)
        if shard.exhausted(tally.seen):
            return

        def around(step: Step, batch: Any, *args: Any, **kwargs: Any) -> Any:
            output = step(batch, *args, **kwargs)
            self._attack(pl_module, batch, stage, tally, shard)
            return output

        self._undo = put_around(pl_module, name, around)

    def _attack(self, pl_module: pl.LightningModule, batch: Any, stage: str, tally: _Tally, shard: "_Shard") -> None:
        x, y = _batch.get(batch, self.input, "input"), _batch.get(batch, self.target, "target")
        code = None if self.code is None else _batch.get(batch, self.code, "code")
        if not self._checked:
            for attack in self.attacks.values():
                attack.check(x, y)
            if y.ndim > 1 and not (y.is_floating_point() and y.ndim == 2):
                raise ValueError(
                    f"Expected labels of shape (N,), one class per sample, but got shape {tuple(y.shape)}: "
                    "dense labels are not supported."
                )
        mask = shard.counted(tally.seen, len(x), x.device)
        tally.seen += len(x)
        if shard.world == 1 and not bool(mask[-1]):
            # Alone, what is not counted need not be computed. Together, all processes make the same number of forwards.
            n, rows = len(x), slice(0, int(mask.sum()))
            batch, code = _batch.take(batch, n, rows), _batch.take(code, n, rows)
            x, y, mask = x[rows], y[rows], mask[rows]
        view = View(pl_module, self.forward, batch, self.input)
        clean = self._correct(view, x, y, check=not self._checked)
        self._checked = True
        correct = [clean]
        for name, attack in self.attacks.items():
            outcome = attack.run(view, x, y, code=code, key=_KEYS[stage])
            withstood = clean & self._correct(view, outcome.x_adv, y)
            fooled = ~withstood[None] if outcome.fooled is None else outcome.fooled
            tally.success[name].update(clean, fooled, mask)
            if outcome.stuck is not None:
                tally.stuck[name] += (outcome.stuck & withstood & mask).sum()
            correct.append(withstood)
        tally.accuracy.update(torch.stack(correct), mask)

    def _correct(self, view: View, x: Tensor, y: Tensor, *, check: bool = False) -> Tensor:
        """(N,) bool, the module in evaluation mode."""
        with scope(view, device=x.device), torch.no_grad():
            x, y = plain(x), plain(y)
            logits = view(x)
            if check:
                check_logits(logits, y)
            return ~misclassified(logits, y)

    def _finish(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._remove()
        if trainer.sanity_checking:
            return
        if self._active and self._tallies:
            self._last = {}
            self.results = {}
            for idx, tally in self._tallies.items():
                suffix = f"/dataloader_idx_{idx}" if len(self._tallies) > 1 else ""
                values, more = tally.compute()
                self._last.update({f"{_PREFIX[stage]}/{name}{suffix}": value for name, value in values.items()})
                found = (values | more).items()
                self.results.update({f"{_PREFIX[stage]}/{name}{suffix}": float(value) for name, value in found})
                self._warn_of_masking(tally)
        shown = f"{_PREFIX[stage]}/robust_acc"
        for name, value in self._last.items():
            # The suffix of several dataloaders is already there.
            pl_module.log(name, value, prog_bar=name == shown, sync_dist=True, add_dataloader_idx=False)

    def _warn_of_masking(self, tally: _Tally) -> None:
        for name, count in tally.stuck.items():
            if tally.seen and int(count) > 0.01 * tally.seen:
                pl.utilities.rank_zero_warn(
                    f"Robust accuracy under `{name}` may be too high: {int(count)} of {tally.seen} samples withstood "
                    "only because their "
                    "gradient is zero. Try another gain (`margin`, `dlr`), another precision, or an attack without "
                    "gradients."
                )

    def _remove(self) -> None:
        if self._undo is not None:
            self._undo()
            self._undo = None


class _Shard:
    """Which samples of a dataloader this process sees, in order, and which of them count."""

    def __init__(self, loader: Any, world_size: int, max_samples: int | None) -> None:
        sampler = getattr(loader, "sampler", None)
        if not isinstance(sampler, DistributedSampler):
            sampler = getattr(getattr(loader, "batch_sampler", None), "sampler", None)
        limit = math.inf if max_samples is None else max_samples
        if isinstance(sampler, DistributedSampler):
            # Rank r sees the samples r, r + world, ... of a list filled up with repetitions to a multiple of world.
            self.world, self.rank = sampler.num_replicas, sampler.rank
            self.limit = min(limit, len(sampler.dataset))  # type: ignore[arg-type]
        else:
            # Every process sees samples of its own.
            self.world, self.rank = world_size, 0
            self.limit = limit if limit == math.inf else math.ceil(limit / world_size) * world_size

    def exhausted(self, seen: int) -> bool:
        """The same on all processes."""
        return seen * self.world >= self.limit

    def counted(self, seen: int, n: int, device: torch.device) -> Tensor:
        """(n,) bool for the next n samples."""
        return self.rank + (seen + torch.arange(n, device=device)) * self.world < self.limit
