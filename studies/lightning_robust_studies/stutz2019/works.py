"""The works of the manifold study: each turns a cell of one stage into rows, and leaves tensors in its folder."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from lightning_robust._fitting import device, quiet_trainer
from lightning_robust._lightning import pl
from lightning_robust.cells import Row, save_artifact
from lightning_robust.metrics import decoder_jacobian, tangent_share
from lightning_robust.metrics.manifold_distance import manifold_angle
from lightning_robust.models import ExponentialDecay, RobustClassifier
from lightning_robust_studies.stages import share_of
from lightning_robust_studies.stutz2019 import trained
from lightning_robust_studies.stutz2019.attacks import AttackedImages, Code, attack_rows, correct, mean_row
from lightning_robust_studies.stutz2019.kinds import along
from lightning_robust_studies.stutz2019.learned import CODE_BOUND, learn_manifold, load_manifold, reconstructed
from lightning_robust_studies.stutz2019.schemes import SCHEMES
from lightning_robust_studies.stutz2019.settings import (
    BATCH,
    DistanceSettings,
    EvaluationSettings,
    LearnedSettings,
    ModelSettings,
)
from lightning_robust_studies.stutz2019.tangent import NeighborTangent


@dataclass(frozen=True)
class TrainManifold:
    """Learn a manifold: the cell's `manifold` names it, `seed` is that of its first weights and of the images."""

    settings: LearnedSettings

    def __call__(self, cell: Mapping[str, Any], folder: Path) -> list[Row]:
        """Keep its weights in `manifold.pt`, and measure how well it reconstructs held-out images."""
        return learn_manifold(cell["manifold"], self.settings, folder, cell["seed"])


@dataclass(frozen=True)
class TrainModel:
    """Train a classifier on `n` images by a `scheme` from a `seed`."""

    settings: ModelSettings

    def __call__(self, cell: Mapping[str, Any], folder: Path) -> list[Row]:
        """Keep its weights in `model.pt`, and give the number of steps."""
        module = self.train(cell["n"], cell["scheme"], cell["seed"])
        save_artifact(folder / "model.pt", module.cpu().state_dict())
        return [{"metric": "steps", "value": module.trainer.global_step}]

    def train(self, n: int, name: str, seed: int) -> RobustClassifier:
        """The trained model."""
        settings, scheme = self.settings, SCHEMES[name]
        data = settings.source.make(settings.root, train_size=n, batch_size=BATCH, seed=seed)
        steps, passes = settings.steps(n, name), settings.passes(name)
        decay = settings.decay if scheme.decay is None else scheme.decay
        pl.seed_everything(seed, verbose=False)
        module = RobustClassifier(
            trained.network(settings, name),
            scheduler=lambda optimizer: ExponentialDecay(optimizer, -(-steps // passes), decay),
        )
        callbacks = scheme.callbacks(trained.threats(settings, scheme.manifold), settings.train_steps)
        quiet_trainer(callbacks, max_epochs=-1, max_steps=steps, limit_val_batches=0).fit(module, data)
        return module


@dataclass(frozen=True)
class Evaluate:
    """Test a model, and attack it off the manifold and, where that is known, on the true one."""

    settings: EvaluationSettings

    def __call__(self, cell: Mapping[str, Any], folder: Path) -> list[Row]:
        """Rows with the test error, success rates, distances of successful examples and steps."""
        source, model = self.settings.source, trained.load_model(self.settings, cell)
        x, y, *_ = source.make(self.settings.root).tensors("test", limit=self.settings.test_size)
        rows: list[Row] = [{"metric": "test error", **share_of(~correct(model, x, y))}]
        for threat, images in trained.examples(model, self.settings).items():
            rows += attack_rows(f"{threat}-manifold", images, source.classes)
        return rows


@dataclass(frozen=True)
class EvaluateAlong:
    """Attack a model along the learned manifold that the cell's `manifold` names."""

    settings: EvaluationSettings

    def __call__(self, cell: Mapping[str, Any], folder: Path) -> list[Row]:
        """Rows with the error on reconstructions, success rates, distances of successful examples and steps."""
        model, name = trained.load_model(self.settings, cell), cell["manifold"]
        images = trained.examples_along(model, name, self.settings)
        return attack_rows(along(name), images, self.settings.source.classes)


@dataclass(frozen=True)
class Transfer:
    """Show the adversarial examples of one model, a `source`, to one model of each scheme.

    The rate is that of the paper: of the images that both models read correctly, the share whose adversarial example
    fools both. Targets come from the last seed, sources from the first, so that with two seeds or more they differ.

    Args:
        settings: of this stage and those before it.
        on: the learned manifold of on-manifold examples; None: the true one.
    """

    settings: EvaluationSettings
    on: str | None = None

    def __call__(self, cell: Mapping[str, Any], folder: Path) -> list[Row]:
        """A row for each threat and target."""
        source = trained.load_model(self.settings, {**cell, "scheme": cell["source"]})
        targets = {
            name: trained.load_model(self.settings, {**cell, "scheme": name, "seed": cell["target_seed"]})
            for name in cell["targets"].split()
        }
        rows: list[Row] = []
        for threat, attacked in trained.examples(source, self.settings, self.on).items():
            images = attacked.counted()
            missed = ~correct(source, images.x_adv, images.y)
            for name, model in targets.items():
                both = images.right & correct(model, images.x, images.y)
                fooled = (missed & ~correct(model, images.x_adv, images.y))[both]
                rows.append({"threat": threat, "target": name, "metric": "transfer", **share_of(fooled)})
        return rows


@dataclass(frozen=True)
class MeasureDistance:
    """How far successful adversarial examples of a model are from the manifold, and at which angle they leave it.

    The share of a perturbation that is tangent to a manifold at the clean image is given too (`tangent_share`).

    By the true manifold, where it is known, by that learned for each class, where there is one, and by the tangent
    spaces of nearest training images (`NeighborTangent`). The values of all examples are kept in `examples.pt`.

    Args:
        settings: of this stage and those before it.
        on: the learned manifold of on-manifold examples; None: the true one.
        learned: whether there is a manifold learned for each class. Cells that are finished stay as they are.
    """

    settings: DistanceSettings
    on: str | None = None
    learned: bool = field(default=False, repr=False)

    def __call__(self, cell: Mapping[str, Any], folder: Path) -> list[Row]:
        """A row for each threat, manifold and metric."""
        settings, model = self.settings, trained.load_model(self.settings, cell)
        train, *_ = settings.source.make(settings.root, train_size=settings.neighbor_images).tensors("train")
        tangent = NeighborTangent(train, components=40, neighbors=min(51, len(train)))
        learned = load_manifold(settings, "class") if self.learned else None
        _, _, code = trained.test_images(settings)
        rows: list[Row] = []
        kept: dict[str, torch.Tensor] = {}
        for threat, attacked in trained.examples(model, settings, self.on).items():
            images = attacked.counted()
            if not bool(images.hit.any()):
                continue
            hits = images.take(images.hit)
            points = {"tangent": tangent.project(hits.x_adv, hits.x)}
            tangents = {}
            if code is not None:
                known = tuple(part[images.hit] for part in code)
                points["true"] = trained.nearest_on_true(hits.x_adv, hits.y, known, settings)
                tangents["true"] = _tangent_share(settings.source.true, hits, known)
            if learned is not None:
                bounds = (-CODE_BOUND, CODE_BOUND)
                tangents["learned"] = _tangent_share(learned, hits, reconstructed(learned, hits.x, hits.y)[1])
                points["learned"] = trained.nearest(learned, hits.x_adv, hits.y, lr=0.1, bounds=bounds)
            for manifold, point in points.items():
                values = {
                    **({"tangent share": tangents[manifold]} if manifold in tangents else {}),
                    "distance": torch.linalg.vector_norm((hits.x_adv - point).flatten(1), dim=1),
                    "angle": manifold_angle(hits.x, hits.x_adv, point),
                }
                for metric, value in values.items():
                    kept[f"{threat} {manifold} {metric}"] = value
                    rows.append({"threat": threat, "manifold": manifold, **mean_row(metric, value)})
            kept[f"{threat} size"] = torch.linalg.vector_norm((hits.x_adv - hits.x).flatten(1), dim=1)
            rows.append({"threat": threat, "manifold": "none", **mean_row("size", kept[f"{threat} size"])})
        save_artifact(folder / "examples.pt", kept)
        return rows


def _tangent_share(manifold: Any, images: AttackedImages, code: Code) -> torch.Tensor:
    """The shares (N,) of perturbations of images that are tangent to a manifold at the codes of the clean images."""
    parts = []
    for rows in torch.arange(len(images.x)).split(BATCH):
        z = tuple(part[rows].to(device()) for part in code)
        jacobian = decoder_jacobian(manifold, z, images.y[rows].to(device()))
        parts.append(tangent_share((images.x_adv - images.x)[rows].to(device()), jacobian).cpu())
    return torch.cat(parts)
