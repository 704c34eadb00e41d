"""What the manifold study shows of single images: examples, a surface of the loss, an embedding."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lightning_robust import Threat
from lightning_robust._fitting import device
from lightning_robust._lightning import pl
from lightning_robust.attacks import log_odds
from lightning_robust.cells.cells import Row
from lightning_robust.cells.files import save_artifact
from lightning_robust.manifolds import Manifold
from lightning_robust.plots import AttackedSamples, example_sheet
from lightning_robust_studies.stutz2019.attacks import Attacked, Code, attacked
from lightning_robust_studies.stutz2019.cells import (
    attacks,
    load_manifold,
    load_model,
    nearest_on_true,
    testing,
    threats,
)
from lightning_robust_studies.stutz2019.cells import test_images as images_of
from lightning_robust_studies.stutz2019.plots import embedding, loss_surface
from lightning_robust_studies.stutz2019.settings import ManifoldSettings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURES = "pictures"
_SHOWN, _GRID = 8, 33
_EMBEDDED = 400
_EXAMPLES = (
    "The first test images under each threat, for one model of the largest set; third in a group: "
    "the difference. Along a learned manifold the image is decoded from a code, which by itself changes it a little."
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
_TITLES = {
    "off": "pixels",
    "on": "the true manifold",
    "learned": "the learned manifold of its class",
    "maps": "affine maps",
}


@dataclass(frozen=True)
class Illustrate:
    """Attack the first test images of a model under every threat, and keep what the figures show in `pictures.pt`.

    - `<threat> x`, `x_adv`, `y`, `before`, `after`: the first images, for the sheet.
    - `surface`, `across`, `up`, `attack`: the gain over two directions of the codes of one image, see `surface_of`.
    - `plane`, `group`: coordinates and kinds of images of one class, see `plane_of_leaving`.
    """

    options: ManifoldSettings

    def __call__(self, cell: Row, folder: Path) -> list[Row]:
        """One row, which says what share of the images under each threat is misread."""
        options = self.options
        model = load_model(options, cell["n"], cell["scheme"], cell["seed"])
        learned = load_manifold(options, "class") if "class" in options.manifolds else None
        sets = threats(options, learned=None if learned is None else "class")
        x, y, code = images_of(options)
        found = {name: attacked(model, attack, x, y, code) for name, attack in attacks(sets, options).items()}
        small = x[:_SHOWN], y[:_SHOWN]
        for name, threat in (("learned", sets.on_class), ("maps", sets.transformations)):
            if threat is not None:
                found[name] = attacked(model, testing(threat, options), *small)
        kept: dict[str, Tensor] = {}
        for name, part in found.items():
            kept |= {f"{name} {key}": value for key, value in _sheet(model, part).items()}
        if code is not None and sets.on_true is not None and options.source.true is not None:
            kept |= surface_of(model, sets.on_true, options.source.true, found["on"], code)
            kept |= self._plane(found, code)
        save_artifact(folder / "pictures.pt", kept)
        return [
            {"threat": name, "metric": "misread", "value": float((kept[f"{name} after"] != small[1]).double().mean())}
            for name in found
        ]

    def _plane(self, found: Mapping[str, Attacked], code: Code) -> dict[str, Tensor]:
        """Images of the class with most successful examples of both kinds."""
        off, on = found["off"], found["on"]
        both = off.hit & on.hit
        if int(both.sum()) < 3:
            return {}
        label = int(off.y[both].mode().values)
        rows = (both & (off.y == label)).nonzero()[:, 0]
        x, y, theirs = off.x[rows], off.y[rows], tuple(part[rows] for part in code)
        images, labels, *_ = self.options.source.make(self.options.root).tensors("train", limit=_EMBEDDED * 10)
        data = images[labels == label][:_EMBEDDED]
        leaving = off.x_adv[rows] - nearest_on_true(off.x_adv[rows], y, theirs, self.options)
        parts = {"data": data, "clean": x, "off": off.x_adv[rows], "on": on.x_adv[rows]}
        points = plane_of_leaving(data, leaving, torch.cat(list(parts.values())))
        group = torch.cat([torch.full((len(part),), i) for i, part in enumerate(parts.values())])
        return {"plane": points, "group": group, "class": torch.tensor(label)}


def _sheet(model: pl.LightningModule, found: Attacked) -> dict[str, Tensor]:
    first = found.take(torch.arange(min(_SHOWN, len(found.x))))
    with torch.no_grad():
        before, after = (model(images.to(device())).argmax(1).cpu() for images in (first.x, first.x_adv))
    return {"x": first.x, "x_adv": first.x_adv, "y": first.y, "before": before, "after": after}


def surface_of(
    model: pl.LightningModule, threat: Threat, manifold: Manifold, found: Attacked, code: Code
) -> dict[str, Tensor]:
    """The gain of the attack over a plane of codes, around the first image whose attack succeeded.

    The plane is spanned by the perturbation of the attack and a direction orthogonal to it, both of unit length in the
    norm of the threat. The gain is `log_odds`: it is positive where the image is misread. Codes are clipped to the
    range of the data.

    Returns:
        `surface` (A, B), `across` (A,), `up` (B,), and `attack` (2,), where the adversarial example is; nothing where
        no attack succeeded.
    """
    if not bool(found.hit.any()):
        return {}
    row = int(found.hit.nonzero()[0, 0])
    z, *fixed = (part[row : row + 1] for part in code)
    delta = found.delta[row].flatten()
    first = delta / threat.ball.norm(delta[None])
    second = torch.randn(len(delta), generator=torch.Generator().manual_seed(0))
    second = second - (second @ first) / (first @ first) * first
    second = second / threat.ball.norm(second[None])
    reach = 1.5 * float(threat.ball.radius)
    axis = torch.linspace(-reach, reach, _GRID)
    a, b = torch.meshgrid(axis, axis, indexing="ij")
    low, high = getattr(manifold, "bounds")  # noqa: B009
    codes = (z + a.reshape(-1, 1) * first + b.reshape(-1, 1) * second).clamp(low, high)
    labels = found.y[row].expand(len(codes))
    with torch.no_grad():
        images = manifold.decode(codes, labels, *(part.expand(len(codes), *part.shape[1:]) for part in fixed))
        logits = torch.cat([model(part.to(device())).cpu() for part in images.split(500)])
    size = float(threat.ball.norm(delta[None]))
    return {
        "surface": log_odds(logits, labels).reshape(_GRID, _GRID),
        "across": axis,
        "up": axis,
        "attack": torch.tensor([size, 0.0]),
        "shown": torch.tensor(row),
    }


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
        images: (P, C, H, W), what to show.

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


def picture_figures(
    kept: Mapping[str, Tensor], options: Mapping[str, object], classes: tuple[str, ...]
) -> dict[str, tuple["Figure", str]]:
    """The figures of what `Illustrate` kept, with captions, by the names of their files.

    Args:
        kept: its tensors.
        options: the settings of the study, for the headings.
        classes: names of the classes.
    """
    figures: dict[str, tuple[Figure, str]] = {}
    groups = [
        AttackedSamples(
            name=f"{title}, {options['norm']} {options['eps' if name == 'off' else 'eta']}",
            **{key: kept[f"{name} {key}"] for key in ("x", "x_adv", "y", "before", "after")},
        )
        for name, title in _TITLES.items()
        if f"{name} x" in kept
    ]
    if groups:
        figures["examples"] = (
            example_sheet(groups, class_names=classes),
            _EXAMPLES,
        )
    if "surface" in kept:
        x, y = kept["attack"].tolist()
        figures["surface"] = (
            loss_surface(
                kept["surface"],
                kept["across"],
                kept["up"],
                marks={"clean": (0.0, 0.0), "attack": (x, y)},
                level=0.0,
                label="log-odds of another class",
                xlabel="direction of the attack",
                ylabel="a direction orthogonal to it",
            ),
            _SURFACE.format(int(kept["shown"])),
        )
    if "plane" in kept:
        names = ("training images", "clean test images", "off-manifold examples", "on-manifold examples")
        figures["embedding"] = (
            embedding(
                kept["plane"],
                [names[i] for i in kept["group"].tolist()],
                xlabel="along the data: first principal component",
                ylabel="direction of leaving",
            ),
            _PLANE.format(classes[int(kept["class"])]),
        )
    return figures
