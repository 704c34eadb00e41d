"""What the models of the largest size withstand by the plan that judges models, and what no classifier can beat."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_robust import Linf
from lightning_robust._fitting import loaded
from lightning_robust._lightning import pl
from lightning_robust.attacks import Attack
from lightning_robust.bounds import least_errors
from lightning_robust.cells import Cell, Row, cell_folder
from lightning_robust.datamodules import ImageDataModule
from lightning_robust.evaluation import Plan, evaluate, standard
from lightning_robust.learning_curves import LearningCurves, TrainAndEvaluate
from lightning_robust_studies.schmidt2018.experiments.attacks import Attacks, Transferred, has_thresholds, passing

PLACE = ("data", "n", "model", "eps_train", "seed")
"""What names the cell of a model."""


def best_cells(curves: LearningCurves, n: int, images: int) -> list[Row]:
    """The cells of the models of a size that validation images chose for each seed and radius.

    Args:
        curves: those of models that are to be believed.
        n: the size.
        images: number of test images to attack.
    """
    table = curves.best()
    chosen: list[Any] = table[table["n"] == n].to_dict("records")
    return [
        {**{name: row[name] for name in (*PLACE, "checkpoint", "eps_test")}, "images": images if row["eps_test"] else 0}
        for row in chosen
    ]


@dataclass(frozen=True, kw_only=True)
class Judge:
    """The work of a cell of `best_cells`: judge its model.

    Args:
        training: what trained the models.
        models: the folder of its cells.
        attacks: the attacks of the study.
    """

    training: TrainAndEvaluate
    models: Path = field(repr=False)
    attacks: Attacks

    def __call__(self, cell: Cell, folder: Path) -> list[Row]:
        """The accuracy without an attack, under PGD and by the standard plan, on the same test images.

        At radius 0 it is the accuracy on all test images alone.
        """
        place = {name: cell[name] for name in PLACE}
        path = cell_folder(self.models, place) / f"{cell['checkpoint']}.pt"
        module = loaded(self.training.module(place), path)
        eps = float(str(cell["eps_test"]))
        if not eps:
            return [_row("no attack", self._evaluate(module, place, {"unchanged": _unchanged}).clean_acc)]
        images = int(str(cell["images"]))
        pgd = self._evaluate(module, place, {"PGD": self.attacks.evaluation(eps, module)}, max_samples=images)
        plan: dict[str, Any] = dict(standard(self.attacks.threat(eps)).attacks)
        if not self.attacks.own_inputs and has_thresholds(module):
            plan["through the filters"] = Transferred(self.attacks.pgd(eps), passing(module))
        judged = self._evaluate(module, place, Plan(plan), max_samples=images, out=folder / "standard")
        accuracies = [_row("no attack", pgd.clean_acc), _row("PGD", pgd.robust_acc)]
        return [*accuracies, _row("standard", judged.robust_acc) | {"doubts": " ".join(judged.warnings)}]

    def _evaluate(
        self, module: pl.LightningModule, place: Cell, attacks: Mapping[str, Attack] | Plan | Any, **options: Any
    ) -> Any:
        data = self.training.data(int(str(place["n"])), int(str(place["seed"])))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the report has them too
            return evaluate(module, data, attacks, progress=False, **self.training.batch, **options)


def _row(attack: str, accuracy: Any) -> Row:
    ends = {"value": accuracy.value, "low": accuracy.low, "high": accuracy.high, "count": accuracy.count}
    return {"attack": attack, **ends, "doubts": ""}


def _unchanged(model: Any, x: Tensor, y: Any) -> Tensor:
    return x


@dataclass(frozen=True, kw_only=True)
class Least:
    """The work of a cell with `images`: the least robust error of any classifier on so many test images, the first.

    Args:
        data: `(n, seed) -> LightningDataModule`.
        n: a number of training images that it has; the test images are the same for all.
        fields: where images and labels are in a batch.
        eps_test: the radii of the study. Twice the largest one is added where that is less than half of `width`, beyond
            which all images conflict.
        width: the greatest difference of two pixels.
    """

    data: Callable[[int, int], pl.LightningDataModule]
    n: int = field(repr=False)
    fields: tuple[Any, Any]
    eps_test: tuple[float, ...]
    width: float

    def __call__(self, cell: Cell, folder: Path) -> list[Row]:
        """Error, number of conflicts and number of samples with one, by radius."""
        more = 2 * max(self.eps_test)
        radii = sorted({*self.eps_test, *([more] if more < self.width / 2 else [])})
        x, y = self._test_images(int(str(cell["images"])))
        return [
            {"eps_test": each.radius, "value": each.value, "pairs": each.pairs, "part": each.samples, "count": each.n}
            for each in least_errors(x, y, [Linf(eps) for eps in radii])
        ]

    def _test_images(self, images: int) -> tuple[Tensor, Tensor]:
        data = self.data(self.n, 0)
        data.prepare_data()
        data.setup("test")
        if isinstance(data, ImageDataModule):
            batches: Any = [data.tensors("test", images)]
        else:
            batches, number = [], 0
            for batch in data.test_dataloader():
                batches.append(batch)
                number += len(batch[self.fields[1]])
                if number >= images:
                    break
        x, y = (torch.cat([batch[name] for batch in batches])[:images] for name in self.fields)
        return x, y
