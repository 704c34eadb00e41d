"""What the manifold study shows of single images: examples, a surface of the loss, an embedding."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lightning_robust import Threat
from lightning_robust._fitting import device
from lightning_robust._lightning import pl
from lightning_robust.attacks import log_odds
from lightning_robust.cells import Row, save_artifact
from lightning_robust.manifolds import Manifold, Residual
from lightning_robust.plots import AttackedSamples, example_sheet
from lightning_robust_studies.stutz2019 import trained
from lightning_robust_studies.stutz2019.attacks import AttackedImages, Code, attack_images
from lightning_robust_studies.stutz2019.kinds import KINDS, along
from lightning_robust_studies.stutz2019.learned import Learned, load_manifold, reconstructed
from lightning_robust_studies.stutz2019.plots import embedding, loss_surface
from lightning_robust_studies.stutz2019.settings import EvaluationSettings, ModelSettings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHOWN, _POSITIONS = 8, 33
_EMBEDDED = 400
_EXAMPLES = (
    "The first test images under each threat, for one model of the largest set; third in a group: the difference. "
    "Along a learned manifold an attack starts from what the manifold makes of the image, its reconstruction; a "
    "residual manifold gives the image itself."
)
_SURFACE = (
    "What the model makes of the images around test image {} on the true manifold: two directions in the six affine "
    "parameters. Orange: misread. Beyond the range of the data parameters stay at its edge."
)
_PLANE = (
    "Images of the class {}: successful off- and on-manifold adversarial examples of the same clean images. Across: "
    "the first principal component of the data; up: the direction in which off-manifold examples leave the manifold "
    "most, compared with how the data varies along it. Both axes have one scale."
)
_GROUPS = ("training images", "clean test images", "off-manifold examples", "on-manifold examples")
_TITLES = {
    "off": "pixels",
    "on": "the true manifold",
    **{name: along(name) for name in KINDS},
    "maps": "affine maps",
}


@dataclass(frozen=True)
class Illustrate:
    """Attack the first test images of a model under every threat, and keep what the figures show in `pictures.pt`.

    - `<threat> x`, `x_adv`, `y`, `before`, `after`: the first images, for the sheet; `<threat> decoded` where x is the
      reconstruction of an image.
    - `surface`, `axis`, `attack`, `shown`: the gain over two directions of the codes of one image, see `surface_of`.
    - `plane`, `group`, `class`: coordinates and kinds of images of one class, see `plane_of`.

    Args:
        settings: of this stage and those before it.
        along: learned manifolds to attack along too. A cell that is finished stays as it is.
    """

    settings: EvaluationSettings
    along: tuple[str, ...] = field(default=(), repr=False)

    def __call__(self, cell: Mapping[str, Any], folder: Path) -> list[Row]:
        """One row for each threat: the share of the images of the sheet that is misread."""
        settings, model = self.settings, trained.load_model(self.settings, cell)
        sets = trained.threats(settings, *self.along)
        x, y, code = trained.test_images(settings)
        images = {"off": attack_images(model, trained.attack_of(sets.pixels, settings), x, y)}
        if sets.on_true is not None:
            images["on"] = attack_images(model, trained.attack_of(sets.on_true, settings), x, y, code)
        kept: dict[str, Tensor] = {}
        x_first, y_first = x[:_SHOWN], y[:_SHOWN]
        for name, threat in sets.learned.items():
            attack, manifold = trained.attack_of(threat, settings), load_manifold(settings, name)
            images[name] = attack_images(model, attack, *_start(manifold, x_first, y_first))
            if not isinstance(manifold, Residual):
                kept[f"{name} decoded"] = torch.tensor(True)
        images["maps"] = attack_images(model, trained.attack_of(sets.transformations, settings), x_first, y_first)
        for name, part in images.items():
            kept |= {f"{name} {key}": value for key, value in _sheet(model, part).items()}
        if code is not None and sets.on_true is not None and settings.source.true is not None:
            kept |= surface_of(model, sets.on_true, settings.source.true, images["on"], code)
            kept |= plane_of(images["off"], images["on"], code, settings)
        save_artifact(folder / "pictures.pt", kept)
        return [
            {"threat": name, "metric": "misread", "value": float((kept[f"{name} after"] != y[:_SHOWN]).double().mean())}
            for name in images
        ]


def _start(manifold: Learned, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Code]:
    """Where attacks along a learned manifold start: reconstructions, their labels and codes."""
    images, code = reconstructed(manifold, x, y)
    return images, y, code


def _sheet(model: pl.LightningModule, images: AttackedImages) -> dict[str, Tensor]:
    first = images.take(torch.arange(min(_SHOWN, len(images.x))))
    with torch.no_grad():
        before, after = (model(part.to(device())).argmax(1).cpu() for part in (first.x, first.x_adv))
    return {"x": first.x, "x_adv": first.x_adv, "y": first.y, "before": before, "after": after}


def surface_of(
    model: pl.LightningModule, threat: Threat, manifold: Manifold, images: AttackedImages, code: Code
) -> dict[str, Tensor]:
    """The gain of the attack over a plane of codes, around the first image whose attack succeeded.

    The plane is spanned by the perturbation of the attack and a direction orthogonal to it, both of unit length in the
    norm of the threat. The gain is `log_odds`: it is positive where the image is misread. Codes are clipped to the
    range of the data.

    Returns:
        `surface` (A, A), `axis` (A,), `attack` (2,), the place of the adversarial example, and `shown` (), the number
        of the image; nothing where no attack succeeded.
    """
    if not bool(images.hit.any()):
        return {}
    row = int(images.hit.nonzero()[0, 0])
    z, *fixed = (part[row : row + 1] for part in code)
    delta = images.delta[row].flatten()
    first = delta / threat.ball.norm(delta[None])
    second = torch.randn(len(delta), generator=torch.Generator().manual_seed(0))
    second = second - (second @ first) / (first @ first) * first
    second = second / threat.ball.norm(second[None])
    reach = 1.5 * float(threat.ball.radius)
    axis = torch.linspace(-reach, reach, _POSITIONS)
    a, b = torch.meshgrid(axis, axis, indexing="ij")
    low, high = getattr(manifold, "bounds")  # noqa: B009
    codes = (z + a.reshape(-1, 1) * first + b.reshape(-1, 1) * second).clamp(low, high)
    labels = images.y[row].expand(len(codes))
    with torch.no_grad():
        points = manifold.decode(codes, labels, *(part.expand(len(codes), *part.shape[1:]) for part in fixed))
        logits = torch.cat([model(part.to(device())).cpu() for part in points.split(500)])
    return {
        "surface": log_odds(logits, labels).reshape(_POSITIONS, _POSITIONS),
        "axis": axis,
        "attack": torch.tensor([float(threat.ball.norm(delta[None])), 0.0]),
        "shown": torch.tensor(row),
    }


def plane_of(off: AttackedImages, on: AttackedImages, code: Code, settings: ModelSettings) -> dict[str, Tensor]:
    """The plane of `plane_of_leaving` for the class with most images that both attacks succeed on.

    Returns:
        `plane` (P, 2), `group` (P,), the place in `_GROUPS`, and `class` (); nothing with fewer than three such images.
    """
    both = off.hit & on.hit
    if int(both.sum()) < 3:
        return {}
    label = int(off.y[both].mode().values)
    rows = both & (off.y == label)
    x, y, x_adv = off.x[rows], off.y[rows], off.x_adv[rows]
    images, labels, *_ = settings.source.make(settings.root).tensors("train", limit=_EMBEDDED * 10)
    data = images[labels == label][:_EMBEDDED]
    leaving = x_adv - trained.nearest_on_true(x_adv, y, tuple(part[rows] for part in code), settings)
    parts = data, x, x_adv, on.x_adv[rows]
    points = plane_of_leaving(data, leaving, torch.cat(parts))
    group = torch.cat([torch.full((len(part),), i) for i, part in enumerate(parts)])
    return {"plane": points, "group": group, "class": torch.tensor(label)}


def plane_of_leaving(data: Tensor, leaving: Tensor, images: Tensor) -> Tensor:
    r"""Coordinates of images in a plane that shows what leaves the data.

    The first axis is the principal component of `data`, along which it varies most. The second is the direction v along
    which the examples leave the manifold most, compared with how the data varies along it,

    .. math:: \max_{\|v\| = 1} \frac{\sum_i \langle v, x_i' - \pi(x_i') \rangle^2}{v^T (\Sigma + \lambda I) v},

    with the covariance :math:`\Sigma` of the data and its mean variance of a pixel for :math:`\lambda`. Of v the part
    orthogonal to the first axis is taken.

    Args:
        data: images (M, C, H, W) of one class.
        leaving: (N, C, H, W), examples minus their projections onto the manifold.
        images: (P, C, H, W), the images to show.

    Returns:
        (P, 2), float64, relative to the mean of the data.
    """
    mean = data.flatten(1).double().mean(0)
    flat, rest = data.flatten(1).double() - mean, leaving.flatten(1).double()
    covariance = flat.T @ flat / len(flat)
    first = torch.linalg.eigh(covariance).eigenvectors[:, -1]
    ridge = covariance.diagonal().mean() * torch.eye(len(mean), dtype=covariance.dtype)
    root = torch.linalg.cholesky(covariance + ridge)
    whitened = torch.linalg.solve_triangular(root, rest.T, upper=False)
    leading = torch.linalg.svd(whitened, full_matrices=False).U[:, :1]
    second = torch.linalg.solve_triangular(root.T, leading, upper=True)[:, 0]
    second = second - (second @ first) * first
    second = second / torch.linalg.vector_norm(second)
    return (images.flatten(1).double() - mean) @ torch.stack([first, second], dim=1)


def picture_figures(kept: Mapping[str, Tensor], settings: ModelSettings) -> dict[str, tuple["Figure", str]]:
    """The figures of what `Illustrate` kept, with captions, by the names of their files."""
    figures: dict[str, tuple[Figure, str]] = {}
    classes, radii = settings.source.classes, {"off": "eps", "on": "eta", "maps": "eta"}
    groups = [
        AttackedSamples(
            name=f"{title}, {settings.norm} {getattr(settings, KINDS[name].radius if name in KINDS else radii[name])}",
            start="reconstruction" if f"{name} decoded" in kept else "clean",
            **{key: kept[f"{name} {key}"] for key in ("x", "x_adv", "y", "before", "after")},
        )
        for name, title in _TITLES.items()
        if f"{name} x" in kept
    ]
    if groups:
        figures["examples"] = (example_sheet(groups, class_names=classes), _EXAMPLES)
    if "surface" in kept:
        across, up = kept["attack"].tolist()
        surface = loss_surface(
            kept["surface"],
            kept["axis"],
            {"clean": (0.0, 0.0), "attack": (across, up)},
            label="log-odds of another class",
            xlabel="direction of the attack",
            ylabel="a direction orthogonal to it",
        )
        figures["surface"] = (surface, _SURFACE.format(int(kept["shown"])))
    if "plane" in kept:
        points = {name: kept["plane"][kept["group"] == i] for i, name in enumerate(_GROUPS)}
        plane = embedding(points, xlabel="along the data: first principal component", ylabel="direction of leaving")
        figures["embedding"] = (plane, _PLANE.format(classes[int(kept["class"])]))
    return figures
