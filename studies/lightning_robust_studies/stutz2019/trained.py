"""What earlier stages left, read back, and the attacks of the evaluation on it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lightning_robust import PGD, LatentSpace, Threat
from lightning_robust._fitting import device, loaded
from lightning_robust.cells import Cell, cell_folder
from lightning_robust.manifolds import VAEGAN, Manifold, project
from lightning_robust.models import RobustClassifier, standard_net
from lightning_robust_studies.stutz2019.attacks import AttackedImages, Code, attack_images
from lightning_robust_studies.stutz2019.schemes import Threats
from lightning_robust_studies.stutz2019.settings import (
    ATTACKS,
    BALLS,
    BATCH,
    DataSettings,
    EvaluationSettings,
    LearnedSettings,
    ModelSettings,
)

MANIFOLDS, MODELS, EVALUATION, LEARNED = "manifolds", "models", "evaluation", "learned"
TRANSFER, DISTANCES, PICTURES = "transfer", "distances", "pictures"
"""The stages; each has a folder of its name."""
CODE_BOUND = 2.0
"""Learned codes are valid up to this size, and images with larger ones are not counted."""


def network(settings: DataSettings) -> nn.Module:
    """The classifier of the study, before training."""
    channels, *size = settings.source.image_shape
    return standard_net(channels, len(settings.source.classes), size)


def new_manifold(kind: str, settings: LearnedSettings) -> VAEGAN:
    """A VAE-GAN for each class ("class") or for all ("data"), before training."""
    source = settings.source
    classes = len(source.classes) if kind == "class" else 1
    beta = [source.class_beta.get(label, source.beta) for label in range(classes)] if classes > 1 else source.beta
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return VAEGAN(
            source.image_shape,
            latent=source.latent,
            num_classes=classes,
            width=settings.manifold_width,
            beta=beta,
            gamma=settings.manifold_gamma,
            init_std=None,
            bound=CODE_BOUND,
        )


def load_manifold(settings: LearnedSettings, kind: str) -> VAEGAN:
    """The learned manifold, on the device, frozen."""
    folder = cell_folder(Path(settings.out) / MANIFOLDS, {"manifold": kind})
    return loaded(new_manifold(kind, settings), folder / "manifold.pt")


def load_model(settings: ModelSettings, cell: Cell) -> RobustClassifier:
    """The model that a cell with the names n, scheme and seed trained, on the device, frozen."""
    folder = cell_folder(Path(settings.out) / MODELS, {name: cell[name] for name in ("n", "scheme", "seed")})
    return loaded(RobustClassifier(network(settings)), folder / "model.pt")


def threats(settings: ModelSettings, learned: str | None = None) -> Threats:
    """The perturbation sets of the study; those along a learned manifold where `learned` names it."""
    source, ball = settings.source, BALLS[settings.norm]
    known = None if source.true is None else LatentSpace(source.true)
    space = None if learned is None else LatentSpace(load_manifold(settings, learned))
    return Threats(
        pixels=Threat(ball(settings.eps)),
        transformations=Threat(ball(settings.eta), source.maps),
        on_true=None if known is None else Threat(ball(settings.eta), known),
        on_class=Threat(ball(settings.eta), space) if space is not None and learned == "class" else None,
        on_data=Threat(ball(settings.eta_data), space) if space is not None and learned == "data" else None,
    )


def test_images(settings: EvaluationSettings) -> tuple[Tensor, Tensor, Code | None]:
    """The test images that are attacked, their labels and, where they are known, the parts of their codes."""
    x, y, *rest = settings.source.make(settings.root).tensors("test", limit=settings.attacked)
    return x, y, tuple(rest[0]) if rest else None


def attack_of(threat: Threat, settings: EvaluationSettings) -> PGD:
    """The attack of the evaluation against a threat."""
    return ATTACKS[settings.attack](threat, settings.test_steps, settings.restarts)


def examples(model: RobustClassifier, settings: EvaluationSettings) -> dict[str, AttackedImages]:
    """Attacks "off" and "on" the manifold: the true one, or, where it is not known, that learned for each class."""
    x, y, code = test_images(settings)
    sets = threats(settings)
    attacked = {"off": attack_images(model, attack_of(sets.pixels, settings), x, y)}
    if sets.on_true is not None:
        attacked["on"] = attack_images(model, attack_of(sets.on_true, settings), x, y, code)
    else:
        attacked["on"] = examples_along_learned(model, settings)
    return attacked


def examples_along_learned(model: RobustClassifier, settings: EvaluationSettings) -> AttackedImages:
    """Attacks on what the manifold of its class makes of an image, decode(encode(x)), along its code.

    The image before is the decoded one. Only those count whose code has no entry beyond `CODE_BOUND`.
    """
    x, y, _ = test_images(settings)
    threat = threats(settings, "class").known("on_class")
    images, z = reconstructed(load_manifold(settings, "class"), x, y)
    return attack_images(model, attack_of(threat, settings), images, y, (z,), valid=z.abs().amax(1) <= CODE_BOUND)


@torch.no_grad()
def reconstructed(manifold: VAEGAN, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The images decode(encode(x)) and their codes, both on the CPU."""
    images, codes = [], []
    for part, labels in zip(x.to(device()).split(BATCH), y.to(device()).split(BATCH), strict=True):
        z = manifold.encode(part, labels)
        codes.append(z.cpu())
        images.append(manifold.decode(z, labels).clamp(0, 1).cpu())
    return torch.cat(images), torch.cat(codes)


def nearest(manifold: Manifold, x: Tensor, y: Tensor, starts: Sequence[Any] = (None,), **options: Any) -> Tensor:
    """The nearest points of a manifold that `project` finds for images (N, C, H, W), of several starts the best.

    Args:
        manifold: with `encode` and `decode`, on the device.
        x: images on the CPU.
        y: (N,) labels.
        starts: codes to start from, as `project` takes them; None: that of the encoder.
        **options: further options of `project`.
    """
    ways = [project(manifold, x.to(device()), y.to(device()), start, **options) for start in starts]
    least = torch.stack([way.distance for way in ways]).argmin(0)
    return torch.stack([way.x for way in ways])[least, torch.arange(len(x), device=least.device)].cpu()


def nearest_on_true(x_adv: Tensor, y: Tensor, code: Code, settings: ModelSettings, starts: int = 3) -> Tensor:
    """The nearest points of the true manifold, from the true codes and from others within `eta` of them.

    The paper starts from the true code alone, from where some on-manifold examples are not found again.
    """
    manifold = settings.source.true
    if manifold is None:
        raise ValueError(f"Expected argument `data` to have a known manifold, but got {settings.data}.")
    theta, font = code
    offsets = settings.eta * (2 * torch.rand(starts, *theta.shape, generator=torch.Generator().manual_seed(0)) - 1)
    offsets[0] = 0
    codes = [((theta + offset).to(device()), font.to(device())) for offset in offsets]
    return nearest(manifold, x_adv, y, codes, bounds=manifold.bounds)
