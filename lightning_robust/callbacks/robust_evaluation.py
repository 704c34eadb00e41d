"""Robust accuracy in validation and test, for any LightningModule, unchanged."""

import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from lightning_robust import _checks
from lightning_robust._lightning import check_backend, pl
from lightning_robust._nested import Field
from lightning_robust.attacks.attack import Attack, as_attack
from lightning_robust.attacks.labels import Correct, binary_correct, finite
from lightning_robust.callbacks._every import Every
from lightning_robust.callbacks._reader import Forward, Reader, Sample
from lightning_robust.callbacks._step import Handle, Step, check_module, put_around, recorded
from lightning_robust.callbacks._tally import (
    Interval,
    Mailbox,
    Shard,
    Summary,
    Tally,
    are_probabilities,
    replicas,
    summed,
)

_KEYS = {"val": -1, "test": -2}


class RobustEvaluation(pl.Callback):
    """Report robust accuracy in validation and test.

    Before the module's own step, and in the same precision context, every batch is attacked and the worst case over the
    clean input and all attacks is counted per sample. Works under `inference_mode=True`, the default of
    `trainer.validate` and `trainer.test`.

    Logged, with `val/` in validation (also within fit) and `test/` in test, `prefix` before them:

    - `clean_acc`: the accuracy on clean inputs.
    - `robust_acc`: the share of samples that are right on the clean input and under every attack.
    - `robust_acc_<name>`: the share that are right on the clean input and under the attack, for attacks with a name.

    So `ModelCheckpoint(monitor="val/robust_acc", mode="max")` and `EarlyStopping` work. With several dataloaders each
    has its own values, with Lightning's suffix `/dataloader_idx_<i>`, whether the others are empty or not. A key that
    the module logs itself is refused. Samples that a DistributedSampler repeats to fill the last batch are not counted.
    Attacks keep their best iterate here, whatever they do in training.

    When: at every validation and test. In the sanity check every attack makes one step on the first batch, so that what
    would be refused is refused before training. Not supported: `fraction`al attacks.

    Args:
        attacks: An attack, such as `PGD(Linf(8 / 255), steps=50)`, or a dictionary of attacks by name.
        every_n_epochs: Within fit, attack every n-th epoch only, from the first on and in the last; in between, the
            last values are logged again, so that monitors find them.
        max_samples: Attack the first so many samples of each dataloader, over all processes; None: all.
        input: Where the input is in the batch, see `AdversarialTraining`.
        target: Where the labels are.
        code: Where the latent codes are, for data that brings them.
        forward: `(module, batch) -> logits`, if `module(x)` is not what gives them.
        correct: `(output, y) -> (N,) bool`, what "right" means where labels are no class labels: `binary_correct` for
            one logit or several yes/no labels, `dense_correct(...)` for dense labels, or a function of your own.
        per_sample: The fields of a batch with one entry per sample besides input, target and code, where `max_samples`
            cuts a batch; None: guessed where that is safe, else refused.
        prefix: Before every key, e.g. "strong/". Several of this callback need different ones.

    Attributes:
        results: What the last evaluation found: all that was logged, and besides `success_<name>`, the share of
            attempts that succeed on samples that are right when clean (Stutz et al., CVPR 2019),
            `success_worst_<name>`, the share of these on which at least one attempt succeeds, and `n`, the number of
            samples; `success` and `success_worst` for a single attack. Also there after `strategy="ddp_spawn"`.
        intervals: The 95 % interval of each of them but `n`, by the same key.

    Example:
        >>> from lightning_robust import PGD, Linf, RobustEvaluation
        >>> RobustEvaluation({"pgd": PGD(Linf(8 / 255), steps=50, restarts=5)}).attacks["pgd"].keep
        'best'
    """

    def __init__(
        self,
        attacks: Attack | Mapping[str, Attack | Callable[..., Any]] | Callable[..., Any],
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
    ) -> None:
        if isinstance(attacks, Mapping):
            if not attacks:
                raise ValueError("Expected argument `attacks` to hold at least one attack, but got none.")
            for name in attacks:
                _checks.text("attacks` with names as keys, `name", name)
            found: dict[str, Any] = dict(attacks)
        else:
            found = {"": attacks}
        self.attacks = {
            name: as_attack(attack, f"attacks[{name!r}]" if name else "attacks").thorough()
            for name, attack in found.items()
        }
        self.max_samples = None if max_samples is None else _checks.count("max_samples", max_samples)
        self.reader = Reader(input, target, code, forward, correct, per_sample)
        if not isinstance(prefix, str):
            raise TypeError(f"Expected argument `prefix` to be a string, but got {prefix!r}.")
        self.prefix = prefix
        self._every = Every(_checks.count("every_n_epochs", every_n_epochs))
        self._mailbox = Mailbox()
        self._number = 0
        self._results: dict[str, float] = {}
        self._intervals: dict[str, Interval] = {}
        self._handle: Handle | None = None
        self._tallies: dict[int, Tally] = {}
        self._loaders: list[Any] = []
        self._last: dict[str, float] = {}
        self._names: set[str] = set()
        self._active = self._doubted = self._measured = self._reached = False

    @property
    def state_key(self) -> str:
        """Several of this callback are told apart by their prefix and their attacks."""
        return f"RobustEvaluation{[self.prefix, *self.attacks]}"

    @property
    def results(self) -> dict[str, float]:
        """What the last evaluation found."""
        return self._found()[1]

    @property
    def intervals(self) -> dict[str, Interval]:
        """The 95 % interval of each value."""
        return self._found()[2]

    def _found(self) -> tuple[int, dict[str, float], dict[str, Interval]]:
        """The number of the last evaluation and what it found, in this process or in one that it has started."""
        number, results, intervals = self._mailbox.read() or (0, {}, {})
        if number <= self._number:
            return self._number, self._results, self._intervals
        return number, results, {name: (low, high) for name, (low, high) in intervals.items()}

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse what is not supported, before anything runs."""
        check_backend(trainer)
        if stage not in ("fit", "validate", "test"):
            return
        callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
        if sum(isinstance(other, RobustEvaluation) and other.prefix == self.prefix for other in callbacks) > 1:
            raise ValueError(
                "Expected RobustEvaluation callbacks with different prefixes, since they would log under the same "
                "names. Give all attacks to one, RobustEvaluation({'pgd': ..., 'square': ...}), or say prefix=...."
            )
        steps = {"fit": "validation_step", "validate": "validation_step", "test": "test_step"}
        check_module(pl_module, (steps[stage],), self.reader.forward)
        if trainer.world_size > 1:
            # The values are the same on all processes. Lightning cannot know, and would advise another reduction.
            warnings.filterwarnings("ignore", rf".*self\.log\('{re.escape(self.prefix)}(val|test)/.*sync_dist=True.*")
        if stage == "fit":
            self._every.reset()
        self._measured = self._reached = False

    # Validation and test are the same but for their names.

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start counting."""
        self._start(trainer, due=self._every.due(trainer))

    def on_test_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start counting."""
        self._start(trainer, due=True)

    def on_validation_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Put the attacks before this batch's step."""
        self._install(trainer, pl_module, "validation_step", "val", dataloader_idx)

    def on_test_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Put the attacks before this batch's step."""
        self._install(trainer, pl_module, "test_step", "test", dataloader_idx)

    def on_validation_batch_end(self, trainer: Any, pl_module: Any, *args: Any, **kwargs: Any) -> None:
        """Take the attacks away."""
        self._check_reached(pl_module, "validation_step")

    def on_test_batch_end(self, trainer: Any, pl_module: Any, *args: Any, **kwargs: Any) -> None:
        """Take the attacks away."""
        self._check_reached(pl_module, "test_step")

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log."""
        self._finish(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log."""
        self._finish(trainer, pl_module, "test")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Make sure that what was logged is ours."""
        self._check_logged(trainer)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Make sure that what was logged is ours."""
        self._check_logged(trainer)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say if nothing was measured."""
        if not self._measured:
            warnings.warn(
                "RobustEvaluation has measured nothing: no validation was run. Is there validation data, a "
                "`validation_step`, and is `limit_val_batches` not 0?",
                stacklevel=2,
            )

    def on_exception(self, *args: Any, **kwargs: Any) -> None:
        """Take the attacks away: Lightning calls no teardown after an exception."""
        self._remove()

    def teardown(self, *args: Any, **kwargs: Any) -> None:
        """Take the attacks away."""
        self._remove()

    def __getstate__(self) -> dict[str, Any]:
        """Without the step of the batch at hand, which belongs to a module."""
        return vars(self) | {"_handle": None}

    def state_dict(self) -> dict[str, Any]:
        """When was measured last, and what."""
        return {"every": self._every.state_dict(), "last": dict(self._last)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where the fit was."""
        self._every.load_state_dict(state_dict["every"])
        self._last = dict(state_dict["last"])

    def _start(self, trainer: pl.Trainer, due: bool) -> None:
        self._active = due or trainer.sanity_checking
        self._tallies, self._loaders = {}, []

    def _install(self, trainer: Any, pl_module: Any, name: str, stage: str, dataloader_idx: int) -> None:
        self._remove()
        if not self._active:
            return
        if not self._loaders:
            self._loaders = _loaders(trainer, stage)
        tally = self._tallies.get(dataloader_idx)
        first = tally is None
        if tally is None:
            attempts = {attack: self.attacks[attack].attempts for attack in self.attacks}
            tally = self._tallies[dataloader_idx] = Tally(attempts, pl_module.device)
        shard = Shard(self._loaders[dataloader_idx], replicas(trainer), self.max_samples)
        if shard.exhausted(tally.seen) or (trainer.sanity_checking and not first):
            return

        def around(step: Step, batch: Any, *args: Any, **kwargs: Any) -> Any:
            # Before the step, which may take labels out of the batch, or write to it.
            sample = self.reader.read(batch)
            if sample is not None and trainer.sanity_checking:
                self._rehearse(pl_module, sample)
                tally.seen += len(sample)
            elif sample is not None:
                self._attack(pl_module, sample, stage, tally, shard)
            with recorded(pl_module) as names:
                output = step(batch, *args, **kwargs)
            self._refuse_keys(names, stage)
            return output

        self._handle = put_around(pl_module, name, around)

    def _check(self, sample: Sample) -> None:
        """Refuse inputs that cannot be meant, and tell of those that may not be."""
        for attack in self.attacks.values():
            attack.check(sample.x, sample.y)
        if not self._doubted:
            self._doubted = True
            for doubt in dict.fromkeys(d for attack in self.attacks.values() for d in attack.doubts(sample.x)):
                warnings.warn(doubt, stacklevel=2)

    def _rehearse(self, pl_module: pl.LightningModule, sample: Sample) -> None:
        """Find out before training what would be refused after it."""
        self._check(sample)
        view = sample.view(pl_module)
        view.right(sample.x, sample.y)
        for attack in self.attacks.values():
            brief = attack.brief()
            if brief is not None:
                view.attacked(brief, 0)

    def _attack(self, pl_module: pl.LightningModule, sample: Sample, stage: str, tally: Tally, shard: Shard) -> None:
        self._check(sample)
        mask = shard.counted(tally.seen, len(sample), sample.x.device)
        tally.seen += len(sample)
        if shard.replicas == 1 and not bool(mask[-1]):
            # Alone, what is not counted need not be computed. Together, all processes make the same number of forwards.
            rows = slice(0, int(mask.sum()))
            sample, mask = sample.rows(rows), mask[rows]
        view = sample.view(pl_module)
        clean, output = view.answers(sample.x, sample.y)
        nobody = torch.zeros_like(clean)
        attacked = []
        for attack in self.attacks.values():
            outcome = view.attacked(attack, _KEYS[stage])
            withstood = clean & view.right(outcome.x_adv, sample.y)
            fooled = ~withstood[None] if outcome.fooled is None else outcome.fooled
            attacked.append((withstood, fooled, nobody if outcome.stuck is None else outcome.stuck))
        known = self.reader.correct in (None, binary_correct)
        odd = are_probabilities(output, self.reader.correct is binary_correct) if known else nobody
        tally.add(mask, clean, ~finite(output), odd, attacked)

    def _refuse_keys(self, names: set[str], stage: str) -> None:
        """Never overwrite what the module logs."""
        if names <= self._names:
            return
        self._names |= names
        ours = {f"{self.prefix}{stage}/{name}" for name in ("clean_acc", "robust_acc")}
        ours |= {f"{self.prefix}{stage}/robust_acc_{name}" for name in self.attacks if name}
        if ours & names:
            raise ValueError(_conflict(min(ours & names)))

    def _finish(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._remove()
        if trainer.sanity_checking:
            return
        if self._active:
            self._count(trainer, pl_module, stage)
        shown = f"{self.prefix}{stage}/robust_acc"
        for name, value in self._last.items():
            if name.startswith(f"{self.prefix}{stage}/"):
                # Reduced already, and with the suffix of several dataloaders.
                pl_module.log(name, value, prog_bar=name == shown, sync_dist=False, add_dataloader_idx=False)

    def _count(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """All counts of all processes, in one reduction."""
        attempts = {name: attack.attempts for name, attack in self.attacks.items()}
        loaders, self._loaders = len(_loaders(trainer, stage)), []
        empty = Tally(attempts, pl_module.device)
        counts = summed(trainer, torch.stack([self._tallies.get(i, empty).counts for i in range(loaders)]))
        summaries = {i: Summary(row, attempts) for i, row in enumerate(counts.tolist())}
        summaries = {i: summary for i, summary in summaries.items() if summary.n}
        if not summaries:
            return
        self._number = self._found()[0] + 1
        self._last, self._results, self._intervals = {}, {}, {}
        for i, summary in summaries.items():
            suffix = f"/dataloader_idx_{i}" if loaders > 1 else ""

            def key(name: str, suffix: str = suffix) -> str:
                return f"{self.prefix}{stage}/{name}{suffix}"

            self._last |= {key(name): value for name, value in summary.logged.items()}
            self._results |= {key(name): value for name, value in (summary.logged | summary.more).items()}
            self._intervals |= {key(name): ends for name, ends in summary.intervals.items()}
            for text in summary.warnings:
                pl.utilities.rank_zero_warn(text)
        self._measured = True
        if trainer.state.fn == "fit":
            self._every.done(trainer)
        if trainer.is_global_zero:
            self._mailbox.write([self._number, self._results, self._intervals])

    def _check_logged(self, trainer: pl.Trainer) -> None:
        """A hook of the module at the end of the epoch may log under one of our keys, too."""
        if trainer.sanity_checking:
            return
        for name, value in self._last.items():
            found = trainer.callback_metrics.get(name)
            if found is not None and not math.isclose(float(found), value, rel_tol=1e-3, abs_tol=1e-6):
                raise ValueError(_conflict(name))

    def _check_reached(self, pl_module: pl.LightningModule, name: str) -> None:
        """Say so if the step that Lightning called was not ours."""
        reached = self._handle is None or self._handle.reached
        self._remove()
        if not reached and not self._reached:
            raise RuntimeError(
                f"Expected the Trainer to call the `{name}` of {type(pl_module).__name__} that the attacks were put "
                "around, but it did not: nothing was attacked. Has the step been replaced, cached or compiled away?"
            )
        self._reached = True

    def _remove(self) -> None:
        # The handle is kept: somebody who had patched on top may put our step back, which is undone again at the end.
        if self._handle is not None:
            self._handle.undo()


def _conflict(key: str) -> str:
    return (
        f"Expected the module not to log `{key}`, which RobustEvaluation logs. Log it under another name, or say where "
        "this callback shall log: RobustEvaluation(..., prefix='adversarial/')."
    )


def _loaders(trainer: Any, stage: str) -> list[Any]:
    """The dataloaders that Lightning visits one after the other; several that it visits together are one."""
    loop = trainer.test_loop if stage == "test" else trainer.validate_loop
    if trainer.state.fn == "fit":
        loop = trainer.fit_loop.epoch_loop.val_loop
    combined = getattr(loop, "_combined_loader", None)
    mode = getattr(combined, "_mode", "sequential")
    loaders = trainer.test_dataloaders if stage == "test" else trainer.val_dataloaders
    flat = pl.utilities.CombinedLoader(loaders, mode="sequential").flattened
    return flat if mode == "sequential" else flat[:1]
