"""One cell of a study: train a module at one size, radius and seed, and evaluate its best and its last state."""

import hashlib
import math
import pickle
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from lightning_robust._fitting import loaded, quiet_trainer
from lightning_robust._lightning import pl
from lightning_robust.attacks import AffineSpace, Attack, Linf, Threat
from lightning_robust.attacks.attack import NO_CONTEXT, Context, Outcome, check_finite
from lightning_robust.callbacks import AdversarialTraining, RobustEvaluation, RobustGeneralizationGap
from lightning_robust.cells import Cell, Row, cell_folder, describe, load_artifact, save_artifact
from lightning_robust.datamodules import ImageDataModule
from lightning_robust.metrics import wilson_interval


class Attacks(Protocol):
    """The attacks of a study, for radii above 0; for radius 0 no attack is asked for."""

    def training(self, eps: float) -> Attack:
        """The attack of training, and of validation in training."""

    def evaluation(self, eps: float, module: pl.LightningModule) -> Attack:
        """The attack that measures robust accuracy."""


class _NoAttack(Attack):
    """What is left of an attack at radius 0: the clean input. It declares so, and nothing is expected of it."""

    threat = Threat(Linf(0.0), AffineSpace())  # not of pixels: inputs may have any range and any type

    def check(self, x: Tensor, y: Any) -> None:
        """Refuse inputs that are NaN."""
        check_finite(x)

    def run(self, model: Any, x: Tensor, y: Any, context: Context = NO_CONTEXT) -> Outcome:
        """The inputs as they are."""
        return Outcome(x.detach().clone())


@dataclass(frozen=True, kw_only=True)
class TrainAndEvaluate:
    """The work of a cell with n, eps_train and seed: `(cell, folder) -> rows`, see `run_cells`.

    The weights of both states are kept in the folder. A cell that was killed continues from its last validation.

    Args:
        data: `(n, seed) -> LightningDataModule`.
        module: `cell -> LightningModule`, untrained.
        attacks: The attacks of a radius.
        eps_test: The radii of the evaluation.
        steps: Optimizer steps of the training, or a function of n.
        checks: Validations in training, among which the best state is chosen.
        images: The number of samples of each split to attack.
        gap_images: The number of training and of validation samples to attack in training, for the gap.
        batch: `input`, `target`, `forward`, `correct` of the callbacks.
    """

    data: Callable[[int, int], pl.LightningDataModule]
    module: Callable[[Cell], pl.LightningModule]
    attacks: Attacks
    eps_test: Sequence[float]
    steps: int | Callable[[int], int]
    checks: int = 5
    images: int = 500
    gap_images: int = 100
    batch: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, cell: Cell, folder: Path) -> list[Row]:
        """Accuracies by checkpoint, split and eps_test (metric "accuracy"), and the gap in training (metric "gap")."""
        data = self._data(cell)
        pl.seed_everything(int(_number(cell, "seed")), verbose=False)
        module = self.module(cell)
        # A checkpoint of other settings is another training.
        digest = hashlib.sha256(repr(describe(self)).encode()).hexdigest()[:12]
        checkpoints = folder / f"checkpoints-{digest}"
        for other in set(folder.glob("checkpoints-*")) - {checkpoints}:
            shutil.rmtree(other)
        gap = self._fit(module, data, cell, folder, checkpoints)
        save_artifact(folder / "last.pt", {key: value.cpu() for key, value in module.state_dict().items()})
        last, best = load_artifact(folder / "last.pt"), load_artifact(folder / "best.pt")
        of_last = of_best = self._evaluate(module, cell)
        if any(not torch.equal(value, last[key]) for key, value in best.items()):
            module.load_state_dict(best)
            of_best = self._evaluate(module, cell)
        shutil.rmtree(checkpoints)
        rows = [("accuracy", "best", row) for row in of_best] + [("accuracy", "last", row) for row in of_last]
        rows += [("gap", "in training", row) for row in gap]
        return [{"metric": metric, "checkpoint": checkpoint, **row} for metric, checkpoint, row in rows]

    def trained(self, cell: Cell, folder: Path) -> pl.LightningModule:
        """The module of a finished cell of a study's folder, in its best state."""
        return loaded(self.module(cell), cell_folder(folder, cell) / "best.pt")

    def test(self, module: pl.LightningModule, cell: Cell, attacks: Any, images: int, split: str = "test") -> Any:
        """The `RobustEvaluation` that has attacked the first samples of a split."""
        evaluation, data = RobustEvaluation(attacks, max_samples=images, **self.batch), self._data(cell)
        if split == "train":
            data.prepare_data()
            data.setup("fit")
            vars(data)["val_dataloader"] = data.train_dataloader  # with the hooks of the data, as in training
        limit = _batches(data, images, split)
        trainer = quiet_trainer([evaluation], limit_val_batches=limit, limit_test_batches=limit)
        (trainer.test if split == "test" else trainer.validate)(module, data, verbose=False)
        return evaluation

    def _data(self, cell: Cell) -> pl.LightningDataModule:
        return self.data(int(_number(cell, "n")), int(_number(cell, "seed")))

    def _fit(
        self, module: pl.LightningModule, data: pl.LightningDataModule, cell: Cell, folder: Path, checkpoints: Path
    ) -> list[Row]:
        eps, n = _number(cell, "eps_train"), int(_number(cell, "n"))
        steps = self.steps(n) if callable(self.steps) else self.steps
        attack: Any = self.attacks.training(eps) if eps else _NoAttack()
        gap = RobustGeneralizationGap(attack, max_samples=self.gap_images, **self.batch)
        follow = _Follow(gap, folder / "best.pt", eps)
        callbacks: list[pl.Callback] = [RobustEvaluation(attack, max_samples=self.images, **self.batch), gap, follow]
        callbacks += [pl.callbacks.ModelCheckpoint(checkpoints, filename="last", enable_version_counter=False)]
        callbacks += [AdversarialTraining(attack, **self.batch)] if eps else []
        trainer = quiet_trainer(
            callbacks,
            enable_checkpointing=True,
            max_epochs=-1,
            max_steps=steps,
            val_check_interval=max(1, steps // self.checks),
            check_val_every_n_epoch=None,
            num_sanity_val_steps=0,
            limit_val_batches=_batches(data, max(self.images, self.gap_images), "val"),
        )
        trainer.fit(module, data, ckpt_path=_readable(checkpoints / "last.ckpt"))
        return follow.rows

    def _evaluate(self, module: pl.LightningModule, cell: Cell) -> list[Row]:
        attacks = {
            f"radius{i}": self.attacks.evaluation(e, module) if e else _NoAttack() for i, e in enumerate(self.eps_test)
        }
        rows: list[Row] = []
        for split in ("train", "val", "test"):
            report = self.test(module, cell, attacks, self.images, split)
            prefix = "test" if split == "test" else "val"
            for name, eps in zip(attacks, self.eps_test, strict=True):
                key = f"{prefix}/robust_acc_{name}"
                low, high = report.intervals[key]
                ends = {"value": report.results[key], "low": low, "high": high}
                rows.append({"split": split, "eps_test": eps, **ends, "count": round(report.results[f"{prefix}/n"])})
        return rows


@dataclass(frozen=True, kw_only=True)
class FindMasking:
    """The work of a cell with `images` besides: attack its best state in ways that masked gradients do not mislead.

    A. Athalye, N. Carlini, D. Wagner, Obfuscated gradients give a false sense of security, ICML 2018.

    Args:
        training: What trained the modules.
        models: The folder of its cells.
        attacks: `(eps, module, cell) -> attacks by name`, of which "pgd" is the one in question.
        eps: The radius of the attacks.
    """

    training: TrainAndEvaluate
    models: Path = field(repr=False)
    attacks: Callable[[float, pl.LightningModule, Cell], Mapping[str, Attack]]
    eps: float

    def __call__(self, cell: Cell, folder: Path) -> list[Row]:
        """The accuracy under each attack and under all together, and the share of samples that only PGD misses."""
        place = {name: value for name, value in cell.items() if name != "images"}
        module = self.training.trained(place, self.models)
        attacks = self.attacks(self.eps, module, place)
        results = self.training.test(module, place, attacks, int(_number(cell, "images"))).results
        accuracy = {name: results[f"test/robust_acc_{name}"] for name in attacks} | {"all": results["test/robust_acc"]}
        values = [(name, "accuracy", value) for name, value in accuracy.items()]
        rows: list[Row] = []
        for name, metric, value in [*values, ("pgd", "too optimistic by", accuracy["pgd"] - accuracy["all"])]:
            count = round(results["test/n"])
            low, high = map(float, wilson_interval(round(value * count), count))
            ends = {"value": value, "low": low, "high": high}
            rows.append({"eps_test": self.eps, "attack": name, "metric": metric, **ends, "count": count})
        return rows


class _Follow(pl.Callback):
    """Keeps the weights of the best state by robust accuracy on validation samples, and the gap in training."""

    def __init__(self, gap: RobustGeneralizationGap, path: Path, eps: float) -> None:
        self.gap, self.path, self.eps, self.best = gap, path, eps, -math.inf
        self.rows: list[Row] = []

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        value = float(trainer.callback_metrics["val/robust_acc"])
        if value > self.best:
            self.best = value
            save_artifact(self.path, {key: part.detach().cpu() for key, part in pl_module.state_dict().items()})
        for split in ("train", "val") if self.gap.results else ():
            accuracy = self.gap.results[f"{split}/robust_acc"]
            self.rows.append({"eps_test": self.eps, "step": trainer.global_step, "split": split, "value": accuracy})

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "rows": list(self.rows)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.rows = state_dict["best"], list(state_dict["rows"])


def _number(cell: Cell, name: str) -> float:
    return float(cell[name])  # type: ignore[arg-type]


def _readable(path: Path) -> str | None:
    """The checkpoint, if it is there and can be read safely; else training starts afresh."""
    try:
        torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, pickle.UnpicklingError, RuntimeError, EOFError):
        return None
    return str(path)


def _batches(data: pl.LightningDataModule, images: int, split: str) -> int | float:
    """The number of batches that hold this number of samples; all if the batch size is not known."""
    if not isinstance(data, ImageDataModule):
        return 1.0
    return math.ceil(images / (data.batch_size if split == "train" else data.eval_batch_size or data.batch_size))
