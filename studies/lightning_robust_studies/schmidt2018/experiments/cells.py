"""The works of the study of sample complexity: train and evaluate a model, and attack it in ways that nothing masks."""

import hashlib
import math
import pickle
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lightning_robust import PGD, AdversarialTraining, Attack, Linf, PixelSpace, RobustEvaluation, Threat, worst_of
from lightning_robust._fitting import loaded, quiet_trainer
from lightning_robust._lightning import pl
from lightning_robust.attacks import RandomSearch, finite_differences, margin
from lightning_robust.callbacks import RobustGeneralizationGap
from lightning_robust.cells import Row, cell_folder, describe, load_artifact, save_artifact
from lightning_robust.datamodules import ImageDataModule
from lightning_robust.metrics.intervals import wilson_interval
from lightning_robust_studies.schmidt2018.experiments.attacks import Transferred, has_thresholds, passing, unchanged
from lightning_robust_studies.schmidt2018.experiments.following import Best, Gaps, OnTraining
from lightning_robust_studies.schmidt2018.experiments.problems import Problem
from lightning_robust_studies.schmidt2018.experiments.settings import Grid, SampleComplexitySettings

CHECKPOINTS = ("best", "last")


@dataclass(frozen=True, kw_only=True)
class _Work:
    """What both works know.

    Args:
        options: of the study.
        problem: what is learnt.
        grid: what is run of it.
    """

    options: SampleComplexitySettings
    problem: Problem
    grid: Grid

    def threat(self, eps: float) -> Threat:
        """The perturbation set of a radius."""
        return Threat(Linf(eps), PixelSpace(self.problem.low, self.problem.high))

    def attack(self, eps: float) -> Any:
        """The attack of the evaluation."""
        if eps == 0:
            return unchanged
        if self.options.attacks == "pgd":
            return self.pgd(eps)
        search = RandomSearch(self.threat(eps), self.options.queries)
        return worst_of(self.pgd(eps), self.pgd(eps, gain=margin, seed=1), search)

    def pgd(self, eps: float, **changes: Any) -> PGD:
        """PGD as the evaluation uses it, but for `changes`."""
        options = self.options
        return PGD(self.threat(eps), options.test_steps, restarts=options.restarts, keep="best", **changes)

    def on(self, module: pl.LightningModule, eps: float) -> Any:
        """The attack of the evaluation on a module: with threshold filters, also through their linear part.

        White-box PGD is misled by thresholds, and accuracies under it alone would be too high.
        """
        attack = self.attack(eps)
        if eps == 0 or not has_thresholds(module) or "forward" in self.problem.batch:
            return attack
        return worst_of(attack, Transferred(self.pgd(eps), passing(module)))


def _resumable(path: Path) -> str | None:
    """The checkpoint, if it is there and can be read safely; else training starts afresh."""
    if not path.exists():
        return None
    try:
        torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError):
        return None
    return str(path)


@dataclass(frozen=True, kw_only=True)
class TrainModel(_Work):
    """Train `model` on `n` images at `eps_train` from a `seed`, and evaluate its best and its last state.

    A cell that was killed goes on from the last validation.
    """

    def __call__(self, cell: Row, folder: Path) -> list[Row]:
        """Keep the weights of both, and tell the accuracy on each part at each radius, and the gap over training."""
        n, seed, eps = int(str(cell["n"])), int(str(cell["seed"])), float(str(cell["eps_train"]))
        data = self.problem.data(n, seed)
        pl.seed_everything(seed, verbose=False)
        module = self.problem.models[str(cell["model"])](eps, self.grid.steps)
        # What another work left there is another training.
        mark = f"checkpoints-{hashlib.sha256(str(describe(self)).encode()).hexdigest()[:12]}"
        for other in folder.glob("checkpoints-*"):
            if other.name != mark:
                shutil.rmtree(other)
        gaps = self._fit(module, data, eps, folder, folder / mark)
        save_artifact(folder / "last.pt", {key: value.cpu() for key, value in module.state_dict().items()})
        best, last = (load_artifact(folder / f"{name}.pt") for name in CHECKPOINTS)
        found = {}
        for name, weights in (("last", last), ("best", best)):
            if name == "last" or any(not torch.equal(value, last[key]) for key, value in weights.items()):
                module.load_state_dict(weights)
                found[name] = self._evaluate(module, self.problem.data(n, seed))
        rows = [{"checkpoint": name, **row} for name in CHECKPOINTS for row in found.get(name, found["last"])]
        for step, on_train, on_val in gaps.history:
            place: Row = {"checkpoint": "over training", "eps_test": eps, "step": step}
            rows += [{**place, "split": name, "value": value} for name, value in (("train", on_train), ("val", on_val))]
        (folder / mark / "last.ckpt").unlink(missing_ok=True)
        shutil.rmtree(folder / mark)
        return [{"metric": "gap" if "step" in row else "accuracy", **row} for row in rows]

    def _fit(
        self, module: pl.LightningModule, data: pl.LightningDataModule, eps: float, folder: Path, checkpoints: Path
    ) -> Gaps:
        options, where = self.options, self.problem.batch
        attack = PGD(self.threat(eps), self.grid.train_steps) if eps else unchanged
        gap = RobustGeneralizationGap(attack, max_samples=options.gap_images, **where)
        gaps = Gaps(gap)
        callbacks: list[pl.Callback] = [
            RobustEvaluation(attack, max_samples=options.images, **where),
            gap,
            gaps,
            Best(folder / "best.pt"),
            pl.callbacks.ModelCheckpoint(checkpoints, filename="last", enable_version_counter=False),
        ]
        if eps:
            callbacks.append(AdversarialTraining(attack, **where))
        trainer = quiet_trainer(
            callbacks,
            enable_checkpointing=True,
            max_epochs=-1,
            max_steps=self.grid.steps,
            val_check_interval=max(1, self.grid.steps // options.checks),
            check_val_every_n_epoch=None,
            num_sanity_val_steps=0,
            limit_val_batches=_enough(data, max(options.images, options.gap_images)),
        )
        trainer.fit(module, data, ckpt_path=_resumable(checkpoints / "last.ckpt"))
        return gaps

    def _evaluate(self, module: pl.LightningModule, data: pl.LightningDataModule) -> list[Row]:
        attacks = {f"radius{i}": self.on(module, eps) for i, eps in enumerate(self.grid.eps_test)}
        rows: list[Row] = []
        for split in ("train", "val", "test"):
            evaluation = RobustEvaluation(attacks, max_samples=self.options.images, **self.problem.batch)
            enough = _enough(data, self.options.images, training=split == "train")
            trainer = quiet_trainer([evaluation], limit_val_batches=enough, limit_test_batches=enough)
            if split == "test":
                trainer.test(module, data, verbose=False)
            else:
                trainer.validate(module, OnTraining(data) if split == "train" else data, verbose=False)
            prefix = "test" if split == "test" else "val"
            count = round(evaluation.results[f"{prefix}/n"])
            for name, eps in zip(attacks, self.grid.eps_test, strict=True):
                key = f"{prefix}/robust_acc_{name}"
                value, (low, high) = evaluation.results[key], evaluation.intervals[key]
                rows.append({"split": split, "eps_test": eps, "value": value, "low": low, "high": high, "count": count})
        return rows


@dataclass(frozen=True, kw_only=True)
class FindMasking(_Work):
    """Attack the best state of a model in ways that no part of it can mislead, at the largest radius.

    White-box PGD follows gradients, which thresholds and saturated units mask. A random search asks for scores alone;
    numerical gradients see across a flat zone; examples of the `plain` model of the same cell, where that is another
    one, are transferred; and where the model has threshold filters, PGD gets the gradient of their linear part (Athalye
    et al., ICML 2018).
    """

    def __call__(self, cell: Row, folder: Path) -> list[Row]:
        """The accuracy under each attack, under all of them, and by how much PGD was too optimistic."""
        eps = max(self.grid.eps_test)
        threat, options = self.threat(eps), self.options
        model = self._load(cell, str(cell["model"]))
        pgd = self.pgd(eps)
        attacks: dict[str, Attack] = {
            "pgd": pgd,
            "random search": RandomSearch(threat, options.queries),
            "numerical gradients": finite_differences(pgd, width=1.5 * eps),
        }
        if "forward" not in self.problem.batch:  # another module is asked by its input alone
            if cell["plain"] != cell["model"]:
                attacks["transfer"] = Transferred(pgd, self._load(cell, str(cell["plain"])))
            if has_thresholds(model):
                attacks["substitute gradients"] = Transferred(pgd, passing(model))
        evaluation = RobustEvaluation(attacks, max_samples=options.masked_images, **self.problem.batch)
        data = self.problem.data(int(str(cell["n"])), int(str(cell["seed"])))
        enough = _enough(data, options.masked_images)
        quiet_trainer([evaluation], limit_test_batches=enough).test(model, data, verbose=False)
        found = evaluation.results
        count = round(found["test/n"])
        withstood = {name: found[f"test/robust_acc_{name}"] for name in attacks} | {"all": found["test/robust_acc"]}
        rows = [{"attack": name, "metric": "accuracy", **_share(value, count)} for name, value in withstood.items()]
        excess = withstood["pgd"] - withstood["all"]
        rows.append({"attack": "pgd", "metric": "too optimistic by", **_share(excess, count)})
        return [{"eps_test": eps, **row} for row in rows]

    def _load(self, cell: Mapping[str, Any], model: str) -> pl.LightningModule:
        place = {name: cell[name] for name in ("data", "n", "eps_train", "seed")} | {"model": model}
        module = self.problem.models[model](float(cell["eps_train"]), self.grid.steps)
        return loaded(module, cell_folder(Path(self.options.out) / models_stage(self.grid.data), place) / "best.pt")


def _enough(data: pl.LightningDataModule, images: int, *, training: bool = False) -> int | float:
    """How many batches hold so many images; all where the batch size is not known."""
    if not isinstance(data, ImageDataModule):
        return 1.0
    return math.ceil(images / (data.batch_size if training else data.eval_batch_size or data.batch_size))


def models_stage(data: str) -> str:
    """The stage of the models of a problem."""
    return f"{data}-models"


def masking_stage(data: str) -> str:
    """The stage of their masking."""
    return f"{data}-masking"


def _share(value: float, count: int) -> Row:
    """A share of so many images with its Wilson interval."""
    low, high = wilson_interval(round(value * count), count)
    return {"value": value, "low": float(low), "high": float(high), "count": count}
