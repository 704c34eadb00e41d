"""What an attack did to images, and the rows that the manifold study makes of it."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from lightning_robust import Attack
from lightning_robust._fitting import device
from lightning_robust._lightning import pl
from lightning_robust.attacks import Context
from lightning_robust.cells import Row
from lightning_robust.metrics import AttackSuccessRate, perturbation_norm
from lightning_robust_studies.stages import share_of
from lightning_robust_studies.stutz2019.settings import BATCH

NORMS = {"L1": 1.0, "L2": 2.0, "Linf": float("inf")}
Code = tuple[Tensor, ...]


@dataclass(frozen=True, kw_only=True)
class AttackedImages:
    """Images and what an attack made of them, all on the CPU.

    Args:
        x: (N, C, H, W), the images before.
        y: (N,), their labels.
        x_adv: (N, C, H, W), of all restarts the best.
        delta: (N, ...), its perturbation in the space of the threat.
        right: (N,) bool, whether the image was read correctly before.
        fooled: (R, N) bool, whether it is misread after each restart.
        first: (R, N), the step at which that happened first, or -1.
        valid: (N,) bool, the images that count; None: all.
    """

    x: Tensor
    y: Tensor
    x_adv: Tensor
    delta: Tensor
    right: Tensor
    fooled: Tensor
    first: Tensor
    valid: Tensor | None = None

    @property
    def hit(self) -> Tensor:
        """(N,) bool: read correctly before, misread after some restart."""
        return self.right & self.fooled.any(0)

    def take(self, chosen: Tensor) -> "AttackedImages":
        """Some of the images: those at the indices (M,), or where a mask (N,) is true."""
        by_restart = ("fooled", "first")
        parts = {part.name: getattr(self, part.name) for part in fields(self) if getattr(self, part.name) is not None}
        return replace(self, **{n: v[:, chosen] if n in by_restart else v[chosen] for n, v in parts.items()})

    def counted(self) -> "AttackedImages":
        """The images that count."""
        return self if self.valid is None else self.take(self.valid)


def attack_images(
    model: pl.LightningModule,
    attack: Attack,
    x: Tensor,
    y: Tensor,
    code: Code | None = None,
    *,
    valid: Tensor | None = None,
    batch_size: int = BATCH,
) -> AttackedImages:
    """Attack images (N, C, H, W) with labels (N,), both on the CPU, in batches on the device.

    Args:
        model: images to logits.
        attack: an attack that tells what its restarts did, such as `PGD` with `keep="best"`.
        x: the images.
        y: their labels.
        code: the parts of known latent codes.
        valid: (N,) bool, the images that count; None: all.
        batch_size: number of images in a batch; the result does not depend on it.
    """
    parts = []
    for rows in torch.arange(len(x)).split(batch_size):
        known = None if code is None else tuple(part[rows].to(device()) for part in code)
        context = Context(code=known[0] if known is not None and len(known) == 1 else known)
        outcome = attack.run(model, x[rows].to(device()), y[rows].to(device()), context)
        if outcome.delta is None or outcome.fooled is None or outcome.first is None:
            raise ValueError(
                f"Expected argument `attack` to tell what its restarts did, but got {attack}. Pass a PGD with "
                '`keep="best"`.'
            )
        parts.append([part.cpu() for part in (outcome.x_adv, outcome.delta, outcome.fooled, outcome.first)])
    x_adv, delta, fooled, first = zip(*parts, strict=True)
    return AttackedImages(
        x=x,
        y=y,
        x_adv=torch.cat(x_adv),
        delta=torch.cat(delta),
        right=correct(model, x, y),
        fooled=torch.cat(fooled, dim=1),
        first=torch.cat(first, dim=1),
        valid=valid,
    )


@torch.no_grad()
def correct(module: pl.LightningModule, x: Tensor, y: Tensor) -> Tensor:
    """Is each image classified as labeled? (N,) bool on the CPU; the module is in evaluation mode from here on.

    Args:
        module: images (N, C, H, W) to logits (N, K).
        x: images, on any device.
        y: (N,) labels, on the CPU.
    """
    module.eval()
    return torch.cat([module(part.to(module.device)).argmax(1).cpu() for part in x.split(1000)]) == y


def attack_rows(threat: str, images: AttackedImages, classes: Sequence[str]) -> list[Row]:
    """Success rates, in all and by class, distances and steps; metrics begin with the name of the threat.

    Where not all images count, they are what a manifold made of the test images, whose error comes first.
    """
    error = [{"metric": f"{threat} error on reconstructions", **share_of(~images.right)}]
    name = f"{threat} success"
    return [
        *([] if images.valid is None else error),
        *success_rows(name, images),
        *effort_rows(name, images.counted()),
        *class_rows(name, images.counted(), classes),
    ]


def mean_row(metric: str, values: Tensor) -> Row:
    """The mean over examples with its normal 95 % interval; NaN, where a value is not defined, is left out."""
    values = values[~values.isnan()].double()
    mean = float(values.mean())
    half = 1.96 * float(values.std()) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return _row(metric, mean, mean - half, mean + half, len(values))


def success_rows(name: str, images: AttackedImages) -> list[Row]:
    """The success rate of the attack, the mean over its restarts, and that of the worst restart.

    `AttackedImages.valid` is applied to the successes and to the images that they are counted over. The paper's code
    applies it to the successes alone, which lowers the rate; that count is given beside it.
    """
    metric = AttackSuccessRate(len(images.fooled))
    metric.update(images.right, images.fooled, images.valid)
    rates = {key: float(value) for key, value in metric.compute().items()}
    count = round(rates["success_count"])
    if not count:
        return []
    rows = [
        _row(f"{name}{suffix}", rates[key], rates[f"{key}_low"], rates[f"{key}_high"], count)
        for key, suffix in (("success_mean", ""), ("success_worst", ", worst restart"))
    ]
    if images.valid is not None:
        right = int(images.right.sum())
        value, low, high = (
            count / right * rates[key] for key in ("success_mean", "success_mean_low", "success_mean_high")
        )
        rows.append(_row(f"{name}, the paper's count", value, low, high, right))
    return rows


def class_rows(name: str, images: AttackedImages, classes: Sequence[str]) -> list[Row]:
    """The success rate in each class."""
    return [
        row
        for label, title in enumerate(classes)
        for row in success_rows(f"{name} in class {title}", images.take(images.y == label))[:1]
    ]


def effort_rows(name: str, images: AttackedImages) -> list[Row]:
    """How far successful examples are from the images and, in latent spaces, from their codes, and how many steps the
    first success took.
    """
    if not bool(images.hit.any()):
        return []
    hits = images.take(images.hit)
    rows = [mean_row(f"{name}, {norm} distance", perturbation_norm(hits.x, hits.x_adv, p)) for norm, p in NORMS.items()]
    if hits.delta.shape != hits.x.shape:
        zero = torch.zeros_like(hits.delta)
        rows += [mean_row(f"{name}, {n} of codes", perturbation_norm(zero, hits.delta, p)) for n, p in NORMS.items()]
    return [*rows, mean_row(f"{name}, first success after steps", hits.first[hits.first >= 0].double())]


def _row(metric: str, value: float, low: float, high: float, count: int) -> Row:
    return {"metric": metric, "value": value, "low": low, "high": high, "count": count}
