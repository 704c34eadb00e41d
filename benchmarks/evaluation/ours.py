"""What `standard` says of the same images, and at which cost."""

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.evaluation.models import OnModels
from benchmarks.evaluation.oracles import Counted
from lightning_robust import cells, evaluate
from lightning_robust.attacks import L1, Linf
from lightning_robust.evaluation import Report, standard

SCALES = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)
CLASSES = (3, 4, 10, 100)
FRACTIONS = (0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0)
"""Radii of the curve, in radii of the threat."""


def fingerprint_of_plan() -> str:
    """What tells one `standard` from another, in a dense ball and in a sparse one, with radii and without."""
    plans = [standard(ball, radii=radii) for ball in (Linf(0.1), L1(1.0)) for radii in (False, True)]
    text = re.sub(" at 0x[0-9a-f]+", "", repr([list(plan.attacks.items()) for plan in plans]))
    return f"{zlib.crc32(text.encode()):08x}"


def judged(network: nn.Module, x: Tensor, y: Tensor, ball: Any, *, radii: bool = False) -> tuple[Report, int]:
    """The report of `standard`, and the passes that were counted outside it."""
    counted = Counted(network)
    report = evaluate(counted, (x, y), standard(ball, radii=radii), progress=False)
    return report, counted.passes


@dataclass(frozen=True)
class Standard(OnModels):
    """The work of a cell: what `standard` breaks of some test images of a model. Of another plan it is another work."""

    plan: str = field(default_factory=fingerprint_of_plan, kw_only=True)

    def __call__(self, cell: cells.Row, folder: Path) -> Sequence[dict[str, Any]]:
        """One row for each image."""
        first = int(str(cell["first"]))
        model, network, x, y = self.given(cell)
        report, passes = judged(network, x, y, model.ball, radii=bool(cell["radii"]))
        known = report.images
        assert known is not None
        return [
            {
                "image": first + i,
                "clean": bool(known.clean[i]),
                "attack": known.attack[i],
                "target": int(known.target[i]),
                "step": int(known.step[i]),
                "radius": _written(float(known.radius[i])),
                "passes": int(known.passes[i]),
                "counted": passes / len(x),
            }
            for i in range(len(x))
        ]


def _written(radius: float) -> float:
    return -1.0 if radius == torch.inf else radius


@dataclass(frozen=True)
class Curve(OnModels):
    """The work of a cell: the robust accuracy at one radius, of a run made for it."""

    plan: str = field(default_factory=fingerprint_of_plan, kw_only=True)

    def __call__(self, cell: cells.Row, folder: Path) -> Sequence[dict[str, Any]]:
        """One row."""
        model, network, x, y = self.given(cell)
        report, passes = judged(network, x, y, model.ball.scaled(float(str(cell["fraction"]))))
        assert report.images is not None
        return [{"robust": int(report.images.robust.sum()), "passes": passes / len(x)}]


def linear(num_classes: int, count: int, seed: int) -> tuple[nn.Sequential, Tensor, Tensor, Tensor]:
    r"""A linear model of K classes, images, labels that are right, and the exact least Linf radius of each.

    It is :math:`\min_k (z_y - z_k) / \|w_y - w_k\|_1`: images are so far inside [0, 1] that its bounds never matter.
    """
    generator = torch.Generator().manual_seed(seed)
    layer = nn.Linear(64, num_classes).requires_grad_(False)
    layer.weight.copy_(torch.randn(num_classes, 64, generator=generator) / 8)
    layer.bias.zero_()
    x = 0.4 + 0.2 * torch.rand(count, 1, 8, 8, generator=generator)
    logits = layer(x.flatten(1)).double()
    y = logits.argmax(1)
    gaps = logits.gather(1, y[:, None]) - logits
    weights = layer.weight.double()
    norms = (weights[y][:, None] - weights[None]).abs().sum(2)
    radius = (gaps / norms.clamp(min=1e-12)).scatter(1, y[:, None], torch.inf).amin(1)
    return nn.Sequential(nn.Flatten(), layer).eval(), x, y, radius


@dataclass(frozen=True)
class LinearModels:
    """The work of a cell: the verdict on a linear model, beside the exact one."""

    plan: str = field(default_factory=fingerprint_of_plan, kw_only=True)

    def __call__(self, cell: cells.Row, folder: Path) -> Sequence[dict[str, Any]]:
        """One row: the robust images by `standard`, exactly, and those on which both agree."""
        count, seed = int(str(cell["count"])), int(str(cell["seed"]))
        model, x, y, radius = linear(int(str(cell["classes"])), count, seed)
        middle = radius.sort().values[int(0.7 * count) - 1 : int(0.7 * count) + 1].mean()
        layer = model[1]
        assert isinstance(layer, nn.Linear)
        layer.weight.mul_(float(str(cell["scale"])))
        report, passes = judged(model, x, y, Linf(float(middle)))
        assert report.images is not None
        exact = radius > middle
        agree = int((report.images.robust == exact).sum())
        robust = int(report.images.robust.sum())
        return [{"robust": robust, "exact": int(exact.sum()), "agree": agree, "passes": passes / count}]
