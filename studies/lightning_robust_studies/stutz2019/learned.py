"""How the manifolds of the study are learned, kept and read back."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_robust._codes import parts
from lightning_robust._fitting import device, loaded, quiet_trainer
from lightning_robust._lightning import pl
from lightning_robust.cells import Row, cell_folder, save_artifact
from lightning_robust.datamodules import ImageDataModule
from lightning_robust.manifolds import VAEGAN, FlowManifold, PCAManifold, Residual
from lightning_robust.manifolds.quality import CodeQuality
from lightning_robust_studies.stutz2019.kinds import KINDS, Kind, weights_of
from lightning_robust_studies.stutz2019.settings import BATCH, LearnedSettings
from lightning_robust_studies.stutz2019.told import class_told

MANIFOLDS = "manifolds"
Learned = VAEGAN | PCAManifold | FlowManifold | Residual
CODE_BOUND = 2.0
"""Codes of VAE-GANs are valid up to this size."""
HELD_OUT = 2000
"""Images on which learned manifolds are measured."""
TOLD = 20_000
"""Training images by whose codes it is learned what codes tell of the class, at most."""


def _vaegan(kind: Kind, settings: LearnedSettings, classes: int, seed: int) -> VAEGAN:
    source = settings.source
    beta = [source.class_beta.get(label, source.beta) for label in range(classes)] if classes > 1 else source.beta
    return VAEGAN(
        source.image_shape,
        latent=source.latent,
        num_classes=classes,
        conditional=kind.conditional,
        confusion=kind.confusion,
        width=settings.manifold_width,
        beta=beta,
        gamma=settings.manifold_gamma,
        init_std=None,
        bound=CODE_BOUND,
        seed=seed,
    )


def _pca(kind: Kind, settings: LearnedSettings, classes: int, seed: int) -> PCAManifold:
    return PCAManifold(settings.source.image_shape, settings.source.latent, classes)


def _flow(kind: Kind, settings: LearnedSettings, classes: int, seed: int) -> FlowManifold:
    return FlowManifold(settings.source.image_shape, num_classes=classes, seed=seed)


_LEARNERS: Mapping[str, Callable[[Kind, LearnedSettings, int, int], VAEGAN | PCAManifold | FlowManifold]] = {
    "vaegan": _vaegan,
    "pca": _pca,
    "flow": _flow,
}


def new_manifold(name: str, settings: LearnedSettings, seed: int = 0) -> VAEGAN | PCAManifold | FlowManifold:
    """A manifold before it is learned, with weights from a seed."""
    kind = KINDS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        classes = len(settings.source.classes) if kind.per_class or kind.conditional else 1
        return _LEARNERS[kind.learner](kind, settings, classes, seed)


def learn_manifold(name: str, settings: LearnedSettings, folder: Path, seed: int = 0) -> list[Row]:
    """Learn a manifold, keep its weights in `manifold.pt`, and measure it on held-out images.

    That is how well it reconstructs them, and how often a classifier reads their class from their codes.
    """
    module = new_manifold(name, settings, seed)
    data = settings.source.make(
        settings.root,
        train_size=settings.manifold_size,
        val_size=HELD_OUT,
        # A step costs as much for K classes as for one; more of them of half the paper's batch do better.
        batch_size=BATCH * len(settings.source.classes) // 2 if KINDS[name].per_class else BATCH,
        seed=seed,
    )
    if isinstance(module, pl.LightningModule):
        metrics = _fit(module, data, settings)
    else:
        x, y, *_ = data.tensors("train")
        metrics = _quality(module.fit(x, y).to(device()), *data.tensors("val")[:2])
    codes = [_codes(module, *data.tensors(part, limit=TOLD)[:2]) for part in ("train", "val")]
    told = class_told(codes[0], codes[1], len(settings.source.classes))
    metrics = {**metrics, "class read from codes": told.value}
    save_artifact(folder / "manifold.pt", module.cpu().state_dict())
    return [{"metric": metric, "value": value} for metric, value in metrics.items()]


def _fit(module: VAEGAN | FlowManifold, data: ImageDataModule, settings: LearnedSettings) -> Mapping[str, float]:
    """Train it, and give what its own validation says."""
    options: dict[str, Any] = {"precision": settings.manifold_precision}
    if isinstance(module, FlowManifold):
        options = {"gradient_clip_val": 1.0}
    trainer = quiet_trainer(max_epochs=settings.manifold_epochs, limit_val_batches=0, **options)
    trainer.fit(module, data)
    (metrics,) = quiet_trainer().validate(module, data, verbose=False)
    return {name.removeprefix("val/"): value for name, value in metrics.items()}


@torch.no_grad()
def _codes(manifold: Learned, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The codes of images, and their labels."""
    manifold = manifold.to(device())
    pairs = zip(x.to(device()).split(BATCH), y.to(device()).split(BATCH), strict=True)
    return torch.cat([parts(manifold.encode(*pair))[0].cpu() for pair in pairs]), y


def _quality(manifold: Learned, x: Tensor, y: Tensor) -> Mapping[str, float]:
    images, code = reconstructed(manifold, x, y)
    quality = CodeQuality()
    quality.update(x, images, code[0])
    return {name: float(value) for name, value in quality.compute().items()}


def load_manifold(settings: LearnedSettings, name: str, seed: int = 0) -> Learned:
    """The learned manifold, on the device, frozen."""
    weights = weights_of(name)
    folder = cell_folder(Path(settings.out) / MANIFOLDS, {"manifold": weights, "seed": seed})
    module = loaded(new_manifold(weights, settings, seed), folder / "manifold.pt")
    return module if weights == name else Residual(module).eval()


@torch.no_grad()
def reconstructed(manifold: Learned, x: Tensor, y: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The images decode(encode(x)) and the parts of their codes, all on the CPU."""
    images, codes = [], []
    for part, labels in zip(x.to(device()).split(BATCH), y.to(device()).split(BATCH), strict=True):
        code = parts(manifold.encode(part, labels))
        codes.append([each.cpu() for each in code])
        images.append(manifold.decode(code[0], labels, *code[1:]).clamp(0, 1).cpu())
    return torch.cat(images), tuple(torch.cat(each) for each in zip(*codes, strict=True))


def inside(manifold: Learned, z: Tensor) -> Tensor:
    """Which codes (N, Z) are within the bounds of the manifold, (N,) bool; all where it has none."""
    low, high = (bound.to(z) for bound in manifold.bounds or (z.amin(0), z.amax(0)))
    return ((z >= low) & (z <= high)).all(1)
