"""Robust accuracy in validation and test, for any LightningModule, unchanged."""

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torchmetrics import Metric

from lightning_robust import _checks
from lightning_robust._lightning import check_backend, pl
from lightning_robust._nested import Field
from lightning_robust._step import Step, recorded
from lightning_robust.attacks.attack import Attack
from lightning_robust.attacks.labels import Correct
from lightning_robust.callbacks._base import StepCallback, check_alone, check_module
from lightning_robust.callbacks._checkpoints import warn_of_checkpoints
from lightning_robust.callbacks._counts import Counts, verdicts_of
from lightning_robust.callbacks._every import Every
from lightning_robust.callbacks._handed import check_metrics
from lightning_robust.callbacks._keys import Keys
from lightning_robust.callbacks._patience import warn_of_patience
from lightning_robust.callbacks._probes import Probes
from lightning_robust.callbacks._results import Results
from lightning_robust.callbacks._shard import Shard, loaders_of, rank_of, replicas, size_of
from lightning_robust.evaluation._plan import Plan, is_plan, stages_of
from lightning_robust.evaluation._reader import KEYS, Forward, Reader, Sample
from lightning_robust.evaluation._tally import Interval

_STEPS = dict.fromkeys(("fit", "validate", "val"), "validation_step") | {"test": "test_step"}


class RobustEvaluation(StepCallback):
    """Report robust accuracy in validation and test.

    Before the module's own step, and in the same precision context, every batch is attacked. For each sample the worst
    case over the clean input and all attacks counts. It works under `inference_mode=True`, the default of
    `trainer.validate` and `trainer.test`.

    Logged, with `val/` in validation (also within fit) and `test/` in test, `prefix` before them:

    - `clean_acc`: the accuracy on clean inputs.
    - `robust_acc`: the share of samples that are right on the clean input and under every attack.
    - `robust_acc_<name>`: the share that are right on the clean input and under one attack, if it has a name.
    - `suspicious`: number of reasons not to believe these values. One warning says what they are, and what to do. What
      takes questions to the module, about 100 passes of 64 samples, is asked in the first, second, fourth, eighth, ...
      validation of a fit that measures and in the last, and stands in between.

    So `ModelCheckpoint(monitor="val/robust_acc", mode="max")` and `EarlyStopping` work. With several dataloaders each
    has its own values, with Lightning's suffix `/dataloader_idx_<i>`, whether the others are empty or not. A key that
    the module logs itself is refused. Samples that a DistributedSampler repeats to fill the last batch are not counted.
    Attacks keep their best iterate here, whatever they do in training.

    When: at every validation and test. In the sanity check every attack makes one step on the first batch, so that what
    would be refused is refused before training. Not supported: `fraction`al attacks.

    Args:
        attacks: A plan, such as `standard(Linf(8 / 255))`: its attacks are made one after the other, each on the
            samples that those before it have left, so the worst case alone is known and logged. Or an attack, or a
            dictionary of attacks by name: these run in full, and each is logged.
        every_n_epochs: Within fit, attack only in the first validation, in the epochs in which
            `ModelCheckpoint(every_n_epochs=n)` saves, which are n - 1, 2 n - 1, ..., and in the last. In between the
            last values are logged again, so that monitors find them. A patience counts these, too: a warning says
            where it is too short for n.
        max_samples: Number of samples to attack, the first of each dataloader, over all processes; None: all. Of data
            that is sorted by class, as folders of images are, these are of few classes: shuffle it once. `suspicious`
            counts such a cut, and one by `drop_last` or `limit_val_batches` where labels that were read tell.
        input: See `AdversarialTraining`, as for `target`, `code`, `forward`, `correct` and `per_sample`.
        target: Where the labels are.
        code: Where the latent codes are.
        forward: `(module, batch) -> logits`.
        correct: `(output, y) -> (N,) bool`.
        per_sample: The fields with one entry per sample: `max_samples` cuts a batch.
        prefix: Before every key, e.g. "strong/". Several of this callback need different ones.
        metrics: Metrics by name, of `lightning_robust.metrics` or torchmetrics. `update` is called with those of these
            that it takes: `x`, the clean inputs; `x_adv`, for each sample the first adversarial input that fools the
            module, else the last; `preds`, the outputs for it; `y` and `target`, the labels; `correct` (V, N), right
            when clean and under each attack; `correct_clean` (N,); `fooled` (A, N), the success of each attempt of each
            attack; `mask` (N,), the samples that count. The value is logged as `<name>`, several as `<name>_<key>`.

    Example:
        >>> from lightning_robust import PGD, Linf, RobustEvaluation
        >>> RobustEvaluation({"pgd": PGD(Linf(8 / 255), steps=50, restarts=5)}).attacks["pgd"].keep
        'best'
    """

    def __init__(
        self,
        attacks: Attack | Plan | Mapping[str, Attack | Callable[..., Any]] | Callable[..., Any],
        *,
        every_n_epochs: int = 1,
        max_samples: int | None = None,
        input: Field = 0,  # noqa: A002
        target: Field | None = 1,
        code: Field | None = None,
        forward: Forward | None = None,
        correct: Correct | None = None,
        per_sample: Sequence[Field] | None = None,
        prefix: str = "",
        metrics: Mapping[str, Metric] | None = None,
    ) -> None:
        self._stages = stages_of(attacks)
        self.attacks = {name: stage.attack for name, stage in self._stages.items()}
        self._plan = attacks if is_plan(attacks) else None
        self.max_samples = None if max_samples is None else _checks.count("max_samples", max_samples)
        self.reader = Reader(input, target, code, forward, correct, per_sample)
        self.prefix = _checks.text("prefix", prefix, empty=True)
        self._every = self._resumed = Every(every_n_epochs)
        self.every_n_epochs = self._every.n
        self._keys = Keys(self.prefix, () if self._plan else filter(None, self.attacks))
        self._results, self._probes = Results(), Probes()
        self._logged: dict[str, float] = {}
        self.metrics = check_metrics(metrics)
        self._counts: dict[int, Counts] = {}
        self._loaders: list[Any] = []
        self._told: set[str] = set()
        self._active = self._measured = self._reached = False

    @property
    def state_key(self) -> str:
        """Several of this callback are told apart by their prefix and their attacks."""
        return f"RobustEvaluation{[self.prefix, *self.attacks]}"

    @property
    def results(self) -> dict[str, float]:
        """The values of the last evaluation, also after `strategy="ddp_spawn"`.

        All that was logged, and besides `success_<name>`, the share of attempts that succeed on samples that are right
        when clean (Stutz et al., CVPR 2019), `success_worst_<name>`, the share of these samples on which at least one
        attempt succeeds, and `n`, the number of samples; `success` and `success_worst` for a single attack, and for a
        plan, all of which is one attempt.
        """
        return self._results.values

    @property
    def intervals(self) -> dict[str, Interval]:
        """The 95 % interval of each share in `results`, by the same key."""
        return self._results.intervals

    def _argument(self, name: str) -> Any:
        if name == "attacks":
            return self._plan or self.attacks.get("", self.attacks)
        if name == "metrics":
            return self.metrics or None
        return super()._argument(name)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse what is not supported, before anything runs."""
        check_backend(trainer)
        if stage not in _STEPS:
            return
        advice = "They would log under the same keys. Give all attacks to one, RobustEvaluation({'pgd': ..., ...})."
        check_alone(trainer, self, advice, by="prefix")
        check_module(pl_module, (_STEPS[stage],), self.reader.forward)
        if trainer.world_size > 1:
            self._keys.silence()
        self._measured = self._reached = False
        self._told = set()
        if stage == "fit":
            self._every.reset()
            self._probes.reset()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Take away what is around the step and what was changed for the run."""
        super().teardown(trainer, pl_module, stage)
        self._keys.restore()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Warn of a monitor that acts on values that are logged again."""
        for warn in (warn_of_patience, warn_of_checkpoints):
            warn(trainer, self._every, lambda key: self._keys.measured(key, self.metrics))

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start counting."""
        self._start(trainer, active=trainer.sanity_checking or self._every.due(trainer))

    def on_test_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start counting."""
        self._start(trainer, active=True)

    def on_validation_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Put the attacks before this batch's step."""
        self._install(trainer, pl_module, "val", batch, dataloader_idx)

    def on_test_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Put the attacks before this batch's step."""
        self._install(trainer, pl_module, "test", batch, dataloader_idx)

    def on_validation_batch_end(self, trainer: Any, pl_module: Any, *args: Any, **kwargs: Any) -> None:
        """Take the attacks away, and make sure that they were there."""
        if not self._remove() and not self._reached:
            raise RuntimeError(
                f"Expected the Trainer to call the step of {type(pl_module).__name__} with the attacks around it, but "
                "it did not: nothing was attacked. Has the step been replaced, cached or compiled away?"
            )
        self._reached = True

    on_test_batch_end = on_validation_batch_end

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log."""
        self._finish(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log."""
        self._finish(trainer, pl_module, "test")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Make sure that what was logged is ours."""
        if not trainer.sanity_checking:
            self._keys.check(self._logged, trainer.callback_metrics)

    on_test_end = on_validation_end

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Warn if nothing was measured."""
        if not self._measured:
            text = "RobustEvaluation has measured nothing: no validation was run. Is there validation data, a "
            warnings.warn(f"{text}`validation_step`, and is `limit_val_batches` not 0?", stacklevel=2)

    def state_dict(self) -> dict[str, Any]:
        """The epoch of the last evaluation, and its values."""
        return {"every": self._every.state_dict(), "last": dict(self._logged)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where the fit was."""
        self._every.load_state_dict(state_dict["every"])
        self._logged = dict(state_dict["last"])
        self._measured = bool(self._logged)  # before

    def _start(self, trainer: pl.Trainer, active: bool) -> None:
        self._active = active
        self._counts, self._loaders = {}, []
        if active and not trainer.sanity_checking:
            self._probes.begin(trainer)

    def _new(self, trainer: Any, pl_module: Any) -> Counts:
        plan, settled = self._plan is not None, trainer.state.fn != "fit"
        with torch.inference_mode(False):  # counts of a plan are added to outside of it
            return Counts(self._stages, self.metrics, pl_module.device, plan=plan, settled=settled)

    def _install(self, trainer: Any, pl_module: Any, stage: str, batch: Any, dataloader_idx: int) -> None:
        self._remove()
        if not self._active:
            return
        self._loaders = self._loaders or loaders_of(trainer, stage)
        if first := dataloader_idx not in self._counts:
            self._counts[dataloader_idx] = self._new(trainer, pl_module)
        counts = self._counts[dataloader_idx]
        shard = Shard(self._loaders[dataloader_idx], replicas(trainer), self.max_samples, rank_of(trainer))
        if trainer.sanity_checking and not first:
            return
        if shard.exhausted(counts.seen):
            if shard.cuts(counts.seen + 1):
                counts.order.see(self.reader.read(batch), cut=True)
            return

        def around(step: Step, batch: Any, *args: Any, **kwargs: Any) -> Any:
            # Before the step, which may take labels out of the batch, or write to it.
            sample = self.reader.read(batch)
            if sample is not None:
                counts.check(sample)
                if trainer.sanity_checking:
                    self._rehearse(pl_module, sample)
                    counts.seen += len(sample)
                else:
                    self._attack(pl_module, sample, stage, dataloader_idx, shard)
                for doubt in counts.doubts:
                    self._tell(doubt, warnings.warn)
            with recorded(pl_module) as names:
                output = step(batch, *args, **kwargs)
            self._keys.refuse(names, stage)
            return output

        self._put(pl_module, _STEPS[stage], around)

    def _tell(self, text: str, warn: Callable[..., Any]) -> None:
        """Warn once of one thing in a run, whatever the numbers in the text are."""
        kind = re.sub(r"[0-9.e+-]+", "0", text)
        if kind not in self._told:
            self._told.add(kind)
            warn(text, stacklevel=3)

    def _rehearse(self, pl_module: pl.LightningModule, sample: Sample) -> None:
        """Find out before training what would be refused after it."""
        view = sample.view(pl_module)
        _, output = view.judged()
        for attack in self.attacks.values():
            brief = attack.brief()
            if brief is not None and attack.applies(output, sample.y):
                view.attacked(brief, 0)

    def _attack(self, pl_module: pl.LightningModule, sample: Sample, stage: str, loader: int, shard: Shard) -> None:
        counts = self._counts[loader]
        mask = shard.counted(counts.seen, len(sample), sample.x.device)
        counts.seen += len(sample)
        counts.order.see(sample, cut=shard.cuts(counts.seen))
        if shard.replicas == 1 and not bool(mask[-1]):
            # Alone, what is not counted need not be computed. Together, all processes make the same number of forwards.
            rows = slice(0, int(mask.sum()))
            sample, mask = sample.rows(rows), mask[rows]
        size, ranks = size_of(self._loaders[loader]), {"rank": shard.rank, "processes": pl_module.trainer.world_size}
        self._probes.look(counts, pl_module, sample, KEYS[stage], loader=loader, size=size, **ranks)
        counts.add(pl_module, sample, KEYS[stage], mask)

    def _finish(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._remove()
        self._loaders = []
        if trainer.sanity_checking:
            return
        if self._active:
            self._count(trainer, pl_module, stage)
        for key, value in self._logged.items():
            if key.startswith(self._keys.of(stage)):
                # Reduced already, and with the suffix of several dataloaders.
                shown = key == self._keys.of(stage, "robust_acc")
                pl_module.log(key, value, prog_bar=shown, sync_dist=False, add_dataloader_idx=False)

    def _count(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """What all processes have counted, together; metrics are put together by themselves."""
        loaders = len(loaders_of(trainer, stage))
        each = [self._counts.get(i) or self._new(trainer, pl_module) for i in range(loaders)]
        verdicts = verdicts_of(trainer, each, stage)
        if not any(verdict.summary.n for verdict in verdicts):
            return
        results: dict[str, float] = {}
        intervals: dict[str, Interval] = {}
        self._logged = {}
        for i, (counts, verdict) in enumerate(zip(each, verdicts, strict=True)):
            summary = verdict.summary
            if not summary.n:
                continue
            suffix = f"/dataloader_idx_{i}" if loaders > 1 else ""
            logged = {**summary.logged, "suspicious": float(verdict.suspicious), **counts.handed.values()}
            keys = {name: self._keys.of(stage, name, suffix) for name in logged | summary.more}
            self._logged |= {keys[name]: value for name, value in logged.items()}
            results |= {keys[name]: value for name, value in (logged | summary.more).items()}
            intervals |= {keys[name]: ends for name, ends in summary.intervals.items()}
            if verdict.warnings:
                self._tell(" ".join(verdict.warnings), pl.utilities.rank_zero_warn)
        self._results.write(results, intervals, publish=trainer.is_global_zero)
        self._measured = True
        self._every.done(trainer)
