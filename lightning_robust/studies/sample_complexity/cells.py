"""The works of the study of sample complexity: train and evaluate a model, and attack it in ways that nothing masks."""

import copy
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lightning_robust import PGD, AdversarialTraining, Attack, Linf, PixelSpace, RobustEvaluation, Threat, worst_of
from lightning_robust._lightning import pl
from lightning_robust.attacks import Outcome, RandomSearch, finite_differences, margin
from lightning_robust.callbacks import RobustGeneralizationGap
from lightning_robust.models import Bpda, ThresholdFilters
from lightning_robust.studies.fitting import loaded, quiet_trainer
from lightning_robust.studies.grid.cells import Row
from lightning_robust.studies.grid.errors import StudyArgumentError
from lightning_robust.studies.grid.files import save_artifact
from lightning_robust.studies.grid.records import cell_folder
from lightning_robust.studies.sample_complexity.problems import Problem
from lightning_robust.studies.sample_complexity.settings import Grid, SampleComplexitySettings
from lightning_robust.studies.stages import share_of

CHECKPOINTS = ("best", "last")


def unchanged(model: Any, x: Tensor, y: Tensor) -> Tensor:
    """The attack of radius 0."""
    return x


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
        options, threat = self.options, self.threat(eps)
        pgd = PGD(threat, options.test_steps, restarts=options.restarts, keep="best")
        if options.attacks == "pgd":
            return pgd
        on_margin = PGD(threat, options.test_steps, restarts=options.restarts, keep="best", gain=margin, seed=1)
        return worst_of(pgd, on_margin, RandomSearch(threat, options.queries))

    def on(self, module: pl.LightningModule, eps: float) -> Any:
        """The attack of the evaluation on a module: with threshold filters, also through their linear part.

        White-box PGD is misled by thresholds, and accuracies under it alone would be too high.
        """
        attack = self.attack(eps)
        if eps == 0 or not _has_thresholds(module):
            return attack
        pgd = PGD(self.threat(eps), self.options.test_steps, restarts=self.options.restarts, keep="best")
        return worst_of(attack, Transferred(pgd, passing(module)))


@dataclass(frozen=True, eq=False)
class Transferred(Attack):
    """The adversarial examples of another model.

    Args:
        attack: on the other model.
        source: the other model, in evaluation mode; it is moved to the device of the images.
    """

    attack: Attack
    source: Any

    def run(self, model: Any, x: Tensor, y: Tensor, *, code: Any = None, key: int = 0) -> Outcome:
        """Attack the other model."""
        return Outcome(self.attack.run(self.source.to(x.device), x, y, code=code, key=key).x_adv)


class Gaps(pl.Callback):
    """Remembers what `RobustGeneralizationGap` found over the training; part of checkpoints.

    Args:
        gap: the callback.
    """

    def __init__(self, gap: RobustGeneralizationGap) -> None:
        self.gap = gap
        self.history: list[tuple[int, float, float]] = []

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep (step, accuracy on training images, on validation images), both under attack."""
        found = self.gap.results
        if found and not trainer.sanity_checking:
            self.history.append((trainer.global_step, found["train/robust_acc"], found["val/robust_acc"]))

    def state_dict(self) -> dict[str, Any]:
        """The history."""
        return {"history": list(self.history)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with it."""
        self.history = [(int(step), float(a), float(b)) for step, a, b in state_dict["history"]]


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
        gaps, best = self._fit(module, data, eps, folder / "checkpoints")
        weights = {"best": best, "last": copy.deepcopy(module.state_dict())}
        rows: list[Row] = []
        for name in CHECKPOINTS:
            save_artifact(folder / f"{name}.pt", {key: value.cpu() for key, value in weights[name].items()})
            module.load_state_dict(weights[name])
            rows += [{"checkpoint": name, **row} for row in self._evaluate(module, self.problem.data(n, seed))]
        for step, on_train, on_val in gaps.history:
            place: Row = {"checkpoint": "over training", "eps_test": eps, "step": step}
            rows += [{**place, "split": name, "value": value} for name, value in (("train", on_train), ("val", on_val))]
        shutil.rmtree(folder / "checkpoints")
        return [{"metric": "gap" if "step" in row else "accuracy", **row} for row in rows]

    def _fit(
        self, module: pl.LightningModule, data: pl.LightningDataModule, eps: float, folder: Path
    ) -> tuple[Gaps, dict[str, Tensor]]:
        options, where = self.options, self.problem.batch
        attack = PGD(self.threat(eps), self.grid.train_steps) if eps else unchanged
        gap = RobustGeneralizationGap(attack, max_samples=options.gap_images, **where)
        gaps = Gaps(gap)
        keeper = pl.callbacks.ModelCheckpoint(folder, monitor="val/robust_acc", mode="max", save_last=True)
        callbacks = [RobustEvaluation({"trained": attack}, max_samples=options.images, **where), gap, gaps, keeper]
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
        )
        last = folder / "last.ckpt"
        trainer.fit(module, data, ckpt_path=str(last) if last.exists() else None)
        if not keeper.best_model_path:
            raise StudyArgumentError(
                f"Expected the data of {self.grid.data!r} to have validation images, which choose among models, but it "
                "has none."
            )
        kept = torch.load(keeper.best_model_path, map_location="cpu", weights_only=True)
        return gaps, kept["state_dict"]

    def _evaluate(self, module: pl.LightningModule, data: pl.LightningDataModule) -> list[Row]:
        attacks = {f"radius{i}": self.on(module, eps) for i, eps in enumerate(self.grid.eps_test)}
        rows: list[Row] = []
        for split in ("train", "val", "test"):
            evaluation = RobustEvaluation(attacks, max_samples=self.options.images, **self.problem.batch)
            trainer = quiet_trainer([evaluation])
            if split == "test":
                trainer.test(module, data, verbose=False)
            else:
                trainer.validate(module, OnTraining(data) if split == "train" else data, verbose=False)
            prefix = "test" if split == "test" else "val"
            found, count = evaluation.results, round(evaluation.results[f"{prefix}/robust_n"])
            for i, eps in enumerate(self.grid.eps_test):
                value, low, high = (found[f"{prefix}/acc_radius{i}{end}"] for end in ("", "_low", "_high"))
                place: Row = {"split": split, "eps_test": eps}
                rows.append({**place, "value": value, "low": low, "high": high, "count": count})
        return rows


class OnTraining(pl.LightningDataModule):
    """Another data module whose validation data is its training data.

    Args:
        data: the other one.
    """

    def __init__(self, data: pl.LightningDataModule) -> None:
        super().__init__()
        self.data = data

    def prepare_data(self) -> None:
        """Whatever it does."""
        self.data.prepare_data()

    def setup(self, stage: str) -> None:
        """As for training."""
        self.data.setup("fit")

    def val_dataloader(self) -> Any:
        """The training data."""
        return self.data.train_dataloader()

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Whatever it does."""
        return self.data.transfer_batch_to_device(batch, device, dataloader_idx)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Whatever it does."""
        return self.data.on_before_batch_transfer(batch, dataloader_idx)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Whatever it does."""
        return self.data.on_after_batch_transfer(batch, dataloader_idx)


@dataclass(frozen=True, kw_only=True)
class FindMasking(_Work):
    """Attack the best state of a model in ways that no part of it can mislead, at the largest radius.

    White-box PGD follows gradients, which thresholds and saturated units mask. A random search asks for scores alone;
    numerical gradients see across a flat zone; examples of the `plain` model of the same cell are transferred; and
    where the model has threshold filters, PGD gets the gradient of their linear part (Athalye et al., ICML 2018).
    """

    def __call__(self, cell: Row, folder: Path) -> list[Row]:
        """The accuracy under each attack, under all of them, and by how much PGD was too optimistic."""
        eps = max(self.grid.eps_test)
        threat, options = self.threat(eps), self.options
        model, plain = self._load(cell, str(cell["model"])), self._load(cell, str(cell["plain"]))
        pgd = PGD(threat, options.test_steps, restarts=options.restarts, keep="best")
        attacks: dict[str, Attack] = {
            "pgd": pgd,
            "random search": RandomSearch(threat, options.queries),
            "numerical gradients": finite_differences(pgd, width=1.5 * eps),
            "transfer": Transferred(pgd, plain),
        }
        if _has_thresholds(model):
            attacks["substitute gradients"] = Transferred(pgd, passing(model))
        withstood: dict[str, list[Tensor]] = {}
        left = options.masked_images
        for x, y in _images(self.problem.data(int(str(cell["n"])), int(str(cell["seed"]))), self.problem.batch):
            x, y = x[:left].to(model.device), y[:left].to(model.device)
            left -= len(x)
            clean = _right(model, x, y)
            for name, attack in attacks.items():
                withstood.setdefault(name, []).append(clean & _right(model, attack(model, x, y), y))
            if left <= 0:
                break
        found = {name: torch.cat(parts) for name, parts in withstood.items()}
        found["all"] = torch.stack(list(found.values())).all(0)
        rows = [{"attack": name, "metric": "accuracy", **share_of(kept)} for name, kept in found.items()]
        rows.append({"attack": "pgd", "metric": "too optimistic by", **share_of(found["pgd"] & ~found["all"])})
        return [{"eps_test": eps, **row} for row in rows]

    def _load(self, cell: Mapping[str, Any], model: str) -> pl.LightningModule:
        place = {name: cell[name] for name in ("data", "n", "eps_train", "seed")} | {"model": model}
        module = self.problem.models[model](float(cell["eps_train"]), self.grid.steps)
        return loaded(module, cell_folder(self.options.out, models_stage(self.grid.data), place) / "best.pt")


def models_stage(data: str) -> str:
    """The stage of the models of a problem."""
    return f"{data}-models"


def masking_stage(data: str) -> str:
    """The stage of their masking."""
    return f"{data}-masking"


def passing(module: pl.LightningModule) -> pl.LightningModule:
    """A copy of a module whose threshold filters let gradients through."""
    copied = copy.deepcopy(module).eval()
    for parent in list(copied.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, ThresholdFilters):
                setattr(parent, name, Bpda(child, child.linear))
    return copied


def _has_thresholds(module: nn.Module) -> bool:
    return any(isinstance(part, ThresholdFilters) for part in module.modules())


def _images(data: pl.LightningDataModule, where: Mapping[str, Any]) -> Any:
    """Test batches as (x, y)."""
    data.prepare_data()
    data.setup("test")
    for batch in data.test_dataloader():
        full = data.on_after_batch_transfer(batch, 0)
        yield full[where.get("input", 0)], full[where.get("target", 1)]


@torch.no_grad()
def _right(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return (model(x).argmax(1) == y).cpu()
