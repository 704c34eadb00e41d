"""The works of the manifold study: each turns a cell of one stage into rows, and leaves tensors in its folder."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_robust import PGD, Attack, Threat
from lightning_robust._fitting import correct, device, loaded, quiet_trainer
from lightning_robust._lightning import pl
from lightning_robust.cells.cells import Row
from lightning_robust.cells.files import load_artifact, save_artifact
from lightning_robust.cells.records import cell_folder
from lightning_robust.manifolds import VAEGAN, FontsManifold
from lightning_robust.manifolds import project as nearest_point
from lightning_robust.metrics.intervals import wilson_interval
from lightning_robust.metrics.manifold_distance import manifold_angle
from lightning_robust.models import ExponentialDecay, RobustClassifier, standard_net
from lightning_robust_studies.stages import share_of
from lightning_robust_studies.stutz2019.attacks import (
    Attacked,
    Code,
    attacked,
    class_rows,
    effort_rows,
    mean_row,
    measured,
    success_rows,
)
from lightning_robust_studies.stutz2019.schemes import SCHEMES, Threats
from lightning_robust_studies.stutz2019.settings import ATTACKS, BALLS, ManifoldSettings
from lightning_robust_studies.stutz2019.tangent import NeighbourTangent

MODELS, MANIFOLDS, TRANSFER, DISTANCES = "models", "manifolds", "transfer", "distances"
BATCH = 100
CODE_BOUND = 2.0
"""Learned codes are valid up to this size, and images with larger ones are not counted."""


@dataclass(frozen=True)
class TrainManifold:
    """Learn a manifold: the cell's `manifold` is "class", a VAE-GAN for each class, or "data", one for all."""

    options: ManifoldSettings

    def __call__(self, cell: Row, folder: Path) -> list[Row]:
        """Train it, keep its weights, and say how well it reconstructs held-out images."""
        options, module = self.options, new_manifold(str(cell["manifold"]), self.options)
        data = options.source.make(
            options.root,
            train_size=options.manifold_size,
            val_size=2000,
            # A step costs as much for K classes as for one; more of them of half the paper's batch do better.
            batch_size=BATCH * module.num_classes // 2 if module.num_classes > 1 else BATCH,
            seed=0,
        )
        trainer = quiet_trainer(
            max_epochs=options.manifold_epochs, num_sanity_val_steps=0, precision=options.manifold_precision
        )
        trainer.fit(module, data)
        save_artifact(folder / "manifold.pt", module.cpu().state_dict())
        names = ("val/rec_mse", "val/code_mean", "val/code_var", "val/code_within_2")
        return [{"metric": name.removeprefix("val/"), "value": float(trainer.callback_metrics[name])} for name in names]


@dataclass(frozen=True)
class TrainModel:
    """Train a classifier on `n` images by a `scheme` from a `seed`, then test and attack it."""

    options: ManifoldSettings

    def __call__(self, cell: Row, folder: Path) -> list[Row]:
        """Keep its weights, and tell test error, success rates, distances of successful examples and iterations."""
        options, seed, n = self.options, int(str(cell["seed"])), int(str(cell["n"]))
        module = self._train(n, str(cell["scheme"]), seed)
        save_artifact(folder / "model.pt", module.cpu().state_dict())
        module = module.to(device()).eval().requires_grad_(False)
        data = options.source.make(options.root, train_size=n, seed=seed)
        x, y, *_ = data.tensors("test", limit=options.test_size)
        rows = [{"metric": "test error", **share_of(~correct(module, x, y))}]
        x, y, code = test_images(options)
        for name, attack in attacks(threats(options), options).items():
            found = attacked(module, attack, x, y, code)
            rows += attack_rows(f"{name}-manifold success", found, options, latent=name == "on")
        if options.along_learned(seed):
            rows += self._along_learned(module, x, y)
        return rows

    def _train(self, n: int, name: str, seed: int) -> RobustClassifier:
        options, scheme = self.options, SCHEMES[name]
        data = options.source.make(options.root, train_size=n, batch_size=BATCH, seed=seed)
        steps = options.steps(n, BATCH)
        pl.seed_everything(seed, verbose=False)
        module = RobustClassifier(
            _network(options),
            scheduler=lambda optimizer: ExponentialDecay(optimizer, -(-steps // options.epochs), options.decay),
        )
        callbacks = scheme.callbacks(threats(options, learned=scheme.manifold), options.train_steps)
        quiet_trainer(callbacks, max_epochs=-1, max_steps=steps, limit_val_batches=0).fit(module, data)
        return module

    def _along_learned(self, module: RobustClassifier, x: Tensor, y: Tensor) -> list[Row]:
        """Attacks on what the manifold of its class makes of an image: the image before is its reconstruction."""
        options = self.options
        images, z, kept = reconstructed(options, x, y)
        found = attacked(module, testing(along_learned(options), options), images, y, (z,))
        # Where the true manifold is not known, this is what "on the manifold" means, as in the paper.
        name = "on-manifold success" if options.source.true is None else "learned-manifold success"
        return [
            {"metric": "error on reconstructions", **share_of(~found.right)},
            *attack_rows(name, found, options, latent=True, kept=kept),
        ]


def attack_rows(
    name: str, found: Attacked, options: ManifoldSettings, *, latent: bool, kept: Tensor | None = None
) -> list[Row]:
    """Success rates, in all and by class, distances and iterations; metrics begin with `name`."""
    counted = found if kept is None else found.take(kept.nonzero()[:, 0])
    return [
        *success_rows(name, found, kept),
        *effort_rows(name, counted, latent=latent),
        *class_rows(name, counted, options.source.classes),
    ]


@dataclass(frozen=True)
class Transfer:
    """Show the adversarial examples of one model, a `source`, to one model of each scheme.

    The rate is that of the paper: of the images that both models read correctly, the share whose adversarial example
    fools both. Targets come from the last seed, sources from the first, so that with two seeds or more they differ.
    """

    options: ManifoldSettings

    def __call__(self, cell: Row, folder: Path) -> list[Row]:
        """A row for each threat and target."""
        options, n = self.options, cell["n"]
        source = load_model(options, n, cell["source"], cell["seed"])
        targets = str(cell["targets"]).split()
        models = {name: load_model(options, n, name, cell["target_seed"]) for name in targets}
        rows: list[Row] = []
        x, y, code = test_images(options)
        for threat, found in examples(source, options, x, y, code).items():
            for name, model in models.items():
                both = found.right & correct(model, found.x, found.y)
                fooled = ~correct(source, found.x_adv, found.y) & ~correct(model, found.x_adv, found.y)
                hits, count = int((both & fooled).sum()), int(both.sum())
                low, high = wilson_interval(hits, count)
                row = measured("transfer", hits / max(count, 1), float(low), float(high), count)
                rows.append({"threat": threat, "target": name, **row})
        return rows


@dataclass(frozen=True)
class MeasureDistance:
    """How far successful adversarial examples of a model are from the manifold, and at which angle they leave it.

    By the true manifold, where it is known, by that learned for each class, where there is one, and by the tangent
    spaces of nearest training images (`NeighbourTangent`). The values of all examples are kept in `examples.pt`.
    """

    options: ManifoldSettings

    def __call__(self, cell: Row, folder: Path) -> list[Row]:
        """A row for each threat, manifold and metric."""
        options = self.options
        model = load_model(options, cell["n"], cell["scheme"], cell["seed"])
        images, *_ = options.source.make(options.root, train_size=options.neighbour_images).tensors("train")
        tangent = NeighbourTangent.fit(images, components=40, neighbours=min(51, len(images)))
        learned = load_manifold(options, "class") if "class" in options.manifolds else None
        rows: list[Row] = []
        kept: dict[str, Tensor] = {}
        x, y, code = test_images(options)
        for threat, found in examples(model, options, x, y, code).items():
            if not bool(found.hit.any()):
                continue
            rows_hit = found.hit.nonzero()[:, 0]
            hits = found.take(rows_hit)
            points = {"tangent": tangent.project(hits.x_adv, hits.x)}
            if code is not None:
                points["true"] = nearest_on_true(hits.x_adv, hits.y, tuple(part[rows_hit] for part in code), options)
            if learned is not None:
                points["learned"] = _nearest_on_learned(learned, hits.x_adv, hits.y)
            for manifold, point in points.items():
                values = {
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


def examples(
    model: RobustClassifier, options: ManifoldSettings, x: Tensor, y: Tensor, code: Code | None
) -> Mapping[str, Attacked]:
    """Attacks off and on the manifold: the true one, or, where that is not known, the one learned for each class."""
    found = {name: attacked(model, a, x, y, code) for name, a in attacks(threats(options), options).items()}
    if "on" not in found:
        images, z, kept = reconstructed(options, x, y)
        attack = testing(along_learned(options), options)
        found["on"] = attacked(model, attack, images, y, (z,)).take(kept.nonzero()[:, 0])
    return found


def reconstructed(options: ManifoldSettings, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What the manifold of its class makes of an image: decode(encode(x)), the codes, and whether they are valid."""
    manifold = load_manifold(options, "class")
    images, codes = [], []
    with torch.no_grad():
        for part, labels in zip(x.to(device()).split(BATCH), y.to(device()).split(BATCH), strict=True):
            z = manifold.encode(part, labels)
            codes.append(z.cpu())
            images.append(manifold.decode(z, labels).clamp(0, 1).cpu())
    z = torch.cat(codes)
    return torch.cat(images), z, z.abs().amax(1) <= CODE_BOUND


def along_learned(options: ManifoldSettings) -> Threat:
    """The perturbation set of codes of the manifold learned for each class."""
    threat = threats(options, learned="class").on_class
    assert threat is not None
    return threat


def nearest_on_true(x_adv: Tensor, y: Tensor, code: Code, options: ManifoldSettings, starts: int = 3) -> Tensor:
    """The nearest point of the true manifold that Adam finds from the true code and from others within `eta` of it.

    The paper starts from the true code alone, from where some on-manifold examples are not found again.
    """
    theta, font = code
    offsets = options.eta * (2 * torch.rand(starts, *theta.shape, generator=torch.Generator().manual_seed(0)) - 1)
    offsets[0] = 0
    found = [FontsManifold("hard").project(x_adv, y, (theta + offset, font)) for offset in offsets]
    least = torch.stack([projection.distance for projection in found]).argmin(0)
    return torch.stack([projection.x for projection in found])[least, torch.arange(len(x_adv))]


def _nearest_on_learned(manifold: VAEGAN, x_adv: Tensor, y: Tensor) -> Tensor:
    """The nearest image that the manifold of its class makes of codes within the bound, from the encoder's."""
    found = [
        nearest_point(
            manifold, part.to(device()), labels.to(device()), lr=0.1, bounds=(-CODE_BOUND, CODE_BOUND)
        ).x.cpu()
        for part, labels in zip(x_adv.split(BATCH), y.split(BATCH), strict=True)
    ]
    return torch.cat(found)


def attacks(sets: Threats, options: ManifoldSettings) -> dict[str, Attack]:
    """The attacks of the evaluation: off and, where it is known, on the true manifold."""
    found = {"off": sets.pixels, "on": sets.on_true}
    return {name: testing(threat, options) for name, threat in found.items() if threat is not None}


def testing(threat: Threat, options: ManifoldSettings) -> PGD:
    """The attack of the evaluation against a threat."""
    return ATTACKS[options.attack](threat, options.test_steps, options.attempts)


def test_images(options: ManifoldSettings) -> tuple[Tensor, Tensor, Code | None]:
    """The test images that are attacked, their labels and, where they are known, the parts of their codes."""
    x, y, *rest = options.source.make(options.root).tensors("test", limit=options.attacked)
    return x, y, tuple(rest[0]) if rest else None


def threats(options: ManifoldSettings, learned: str | None = None) -> Threats:
    """The perturbation sets of the study; those along a learned manifold where `learned` names it."""
    manifold = None if learned is None else load_manifold(options, learned)
    return options.source.threats(
        options.eps,
        options.eta,
        eta_data=options.eta_data,
        ball=BALLS[options.norm],
        on_class=manifold if learned == "class" else None,
        on_data=manifold if learned == "data" else None,
    )


def new_manifold(kind: str, options: ManifoldSettings) -> VAEGAN:
    """A VAE-GAN for each class ("class") or for all ("data"), before training."""
    source = options.source
    classes = len(source.classes) if kind == "class" else 1
    beta = [source.class_beta.get(label, source.beta) for label in range(classes)] if classes > 1 else source.beta
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return VAEGAN(
            source.image_shape,
            latent=source.latent,
            num_classes=classes,
            width=options.manifold_width,
            beta=beta,
            gamma=options.manifold_gamma,
            init_std=None,
            bound=CODE_BOUND,
        )


def load_manifold(options: ManifoldSettings, kind: str) -> VAEGAN:
    """The learned manifold, on the device, frozen."""
    path = cell_folder(options.out, MANIFOLDS, {"manifold": kind}) / "manifold.pt"
    return loaded(new_manifold(kind, options), path)


def load_model(options: ManifoldSettings, n: Any, scheme: Any, seed: Any) -> RobustClassifier:
    """The trained model of a cell, on the device, frozen."""
    folder = cell_folder(options.out, MODELS, {"n": n, "scheme": scheme, "seed": seed})
    return loaded(RobustClassifier(_network(options)), folder / "model.pt")


def load_examples(options: ManifoldSettings, cell: Row) -> dict[str, Tensor]:
    """What `MeasureDistance` kept."""
    return load_artifact(cell_folder(options.out, DISTANCES, cell) / "examples.pt")


def _network(options: ManifoldSettings) -> torch.nn.Module:
    channels, *size = options.source.image_shape
    return standard_net(channels, len(options.source.classes), size)
