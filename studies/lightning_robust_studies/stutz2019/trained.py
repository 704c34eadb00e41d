"""What earlier stages left, read back, and the attacks of the evaluation on it."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lightning_robust import L2, PGD, LatentSpace, Linf, Threat
from lightning_robust._fitting import device, loaded
from lightning_robust.attacks import Ball, stutz
from lightning_robust.cells import Cell, cell_folder
from lightning_robust.manifolds import Manifold, project
from lightning_robust.models import RobustClassifier, resnet, standard_net
from lightning_robust_studies.stutz2019.attacks import AttackedImages, Code, attack_images
from lightning_robust_studies.stutz2019.kinds import KINDS
from lightning_robust_studies.stutz2019.learned import Learned, inside, load_manifold, reconstructed
from lightning_robust_studies.stutz2019.schemes import SCHEMES, Threats
from lightning_robust_studies.stutz2019.settings import EvaluationSettings, ModelSettings

MODELS, EVALUATION, ALONG, LEAK = "models", "evaluation", "along", "leak"
TRANSFER, DISTANCES, PICTURES = "transfer", "distances", "pictures"
"""The stages; each has a folder of its name."""
BALLS: Mapping[str, Callable[[float], Ball]] = {"linf": Linf, "l2": L2}


def _steepest(threat: Threat, steps: int, restarts: int) -> PGD:
    return PGD(threat, steps, rel_step_size=2.5 / steps, restarts=restarts, keep="best")


ATTACKS: Mapping[str, Callable[[Threat, int, int], PGD]] = {"stutz": stutz, "pgd": _steepest}
"""The attacks of the evaluation, `(threat, steps, restarts) -> attack`: the paper's, by Adam, or PGD."""


def network(settings: ModelSettings, scheme: str) -> nn.Module:
    """The classifier of a scheme, before training."""
    channels, *size = settings.source.image_shape
    classes = len(settings.source.classes)
    if SCHEMES[scheme].network == "resnet":
        return resnet(channels, classes, (3, 3, 3) if channels == 3 else (2, 2, 2), settings.resnet_width)
    return standard_net(channels, classes, size)


def load_model(settings: ModelSettings, cell: Cell) -> RobustClassifier:
    """The model that a cell with the names n, scheme and seed trained, on the device, frozen."""
    folder = cell_folder(Path(settings.out) / MODELS, {name: cell[name] for name in ("n", "scheme", "seed")})
    return loaded(RobustClassifier(network(settings, str(cell["scheme"]))), folder / "model.pt")


def threats(settings: ModelSettings, *learned: str | None) -> Threats:
    """The perturbation sets of the study; those along learned manifolds for the names of `learned`."""
    source, ball = settings.source, BALLS[settings.norm]
    known = None if source.true is None else LatentSpace(source.true)
    return Threats(
        pixels=Threat(ball(settings.eps)),
        transformations=Threat(ball(settings.eta), source.maps),
        on_true=None if known is None else Threat(ball(settings.eta), known),
        learned={name: threat_along(settings, name)[1] for name in learned if name is not None},
    )


def threat_along(settings: ModelSettings, name: str) -> tuple[Learned, Threat]:
    """A learned manifold, and the perturbation set along it."""
    manifold, radius = load_manifold(settings, name), getattr(settings, KINDS[name].radius)
    return manifold, Threat(BALLS[settings.norm](radius), LatentSpace(manifold))


def test_images(settings: EvaluationSettings) -> tuple[Tensor, Tensor, Code | None]:
    """The test images that are attacked, their labels and, where they are known, the parts of their codes."""
    x, y, *rest = settings.source.make(settings.root).tensors("test", limit=settings.attacked)
    return x, y, tuple(rest[0]) if rest else None


def attack_of(threat: Threat, settings: EvaluationSettings) -> PGD:
    """The attack of the evaluation against a threat."""
    return ATTACKS[settings.attack](threat, settings.test_steps, settings.restarts)


def examples(model: RobustClassifier, settings: EvaluationSettings, on: str | None = None) -> dict[str, AttackedImages]:
    """Attacks "off" the manifold and "on" it: the learned one named `on`, or, where it is None, the true one."""
    x, y, code = test_images(settings)
    sets = threats(settings)
    attacked = {"off": attack_images(model, attack_of(sets.pixels, settings), x, y)}
    if on is not None:
        attacked["on"] = examples_along(model, on, settings)
    elif sets.on_true is not None:
        attacked["on"] = attack_images(model, attack_of(sets.on_true, settings), x, y, code)
    return attacked


def examples_along(model: RobustClassifier, name: str, settings: EvaluationSettings) -> AttackedImages:
    """Attacks on what a learned manifold makes of an image, decode(encode(x)), along its code.

    The image before is the decoded one. Only those count whose code is within the bounds of the manifold.
    """
    x, y, _ = test_images(settings)
    manifold, threat = threat_along(settings, name)
    images, code = reconstructed(manifold, x, y)
    return attack_images(model, attack_of(threat, settings), images, y, code, valid=inside(manifold, code[0]))


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
