"""What attacks did to the test images of the manifold study, and how it is counted."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from lightning_robust import Attack
from lightning_robust._fitting import correct, device
from lightning_robust._lightning import pl
from lightning_robust.attacks import Context
from lightning_robust.cells.cells import Row
from lightning_robust.metrics import AttackSuccessRate
from lightning_robust.metrics.perturbation_norm import perturbation_norm

NORMS = {"L1": 1.0, "L2": 2.0, "Linf": float("inf")}
Code = tuple[Tensor, ...]


@dataclass(frozen=True, kw_only=True)
class Attacked:
    """Images and what an attack made of them, all on the CPU.

    Args:
        x: (N, C, H, W), the images before.
        y: (N,), their labels.
        x_adv: (N, C, H, W), the best attempt at each.
        delta: (N, ...), its perturbation in the space of the threat.
        right: (N,) bool, was the image read correctly before?
        fooled: (R, N) bool, for each attempt: is it misread now?
        first: (R, N), the step at which that happened first, or -1.
    """

    x: Tensor
    y: Tensor
    x_adv: Tensor
    delta: Tensor
    right: Tensor
    fooled: Tensor
    first: Tensor

    @property
    def hit(self) -> Tensor:
        """(N,) bool: read correctly before, misread after some attempt."""
        return self.right & self.fooled.any(0)

    def take(self, rows: Tensor) -> "Attacked":
        """Some of the images."""
        values = {part.name: getattr(self, part.name) for part in fields(self)}
        return Attacked(
            **{name: value[:, rows] if name in ("fooled", "first") else value[rows] for name, value in values.items()}
        )


def attacked(
    model: pl.LightningModule, attack: Attack, x: Tensor, y: Tensor, code: Code | None = None, *, size: int = 100
) -> Attacked:
    """Attack images in batches, on the device.

    Args:
        model: images to logits.
        attack: one that tells what its attempts did, such as `PGD` with `keep="best"`.
        x: (N, C, H, W) images on the CPU.
        y: (N,) labels.
        code: the parts of known latent codes.
        size: of a batch.
    """
    outcomes = []
    for start in range(0, len(x), size):
        rows = slice(start, start + size)
        known = None if code is None else tuple(part[rows].to(device()) for part in code)
        if known is not None and len(known) == 1:
            known = known[0]  # type: ignore[assignment]
        outcomes.append(attack.run(model, x[rows].to(device()), y[rows].to(device()), Context(code=known)))
    parts = [(o.x_adv.cpu(), o.delta.cpu(), o.fooled.cpu(), o.first.cpu()) for o in outcomes]  # type: ignore[union-attr]
    x_adv, delta, fooled, first = zip(*parts, strict=True)
    return Attacked(
        x=x,
        y=y,
        x_adv=torch.cat(x_adv),
        delta=torch.cat(delta),
        right=correct(model, x, y),
        fooled=torch.cat(fooled, dim=1),
        first=torch.cat(first, dim=1),
    )


def measured(metric: str, value: float, low: float, high: float, count: int) -> Row:
    """A row of the study."""
    return {"metric": metric, "value": value, "low": low, "high": high, "count": count}


def mean_row(metric: str, values: Tensor) -> Row:
    """The mean over examples with its normal 95 % interval; NaN, where a value is not defined, is left out."""
    values = values[~values.isnan()].double()
    mean = float(values.mean())
    half = 1.96 * float(values.std()) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return measured(metric, mean, mean - half, mean + half, len(values))


def success_rows(name: str, found: Attacked, kept: Tensor | None = None) -> list[Row]:
    """The success rate of the attack, the mean over its attempts, and that of the worst attempt.

    Args:
        name: what the metrics begin with.
        found: what the attack did.
        kept: (N,) bool, the images that count; None: all. It is applied to successes and to the images they are counted
            over. The paper's code applies it to successes alone, which lowers the rate; that count is given beside it.
    """
    rate = AttackSuccessRate(len(found.fooled))
    rate.update(found.right, found.fooled, kept)
    told = {key: float(value) for key, value in rate.compute().items()}
    count = round(told["success_count"])
    if not count:
        return []
    rows = [
        measured(f"{name}{suffix}", told[key], told[f"{key}_low"], told[f"{key}_high"], count)
        for key, suffix in (("success_mean", ""), ("success_worst", ", worst attempt"))
    ]
    if kept is not None:
        share = count / int(found.right.sum())
        value, low, high = (share * told[key] for key in ("success_mean", "success_mean_low", "success_mean_high"))
        rows.append(measured(f"{name}, the paper's count", value, low, high, int(found.right.sum())))
    return rows


def class_rows(name: str, found: Attacked, classes: Sequence[str]) -> list[Row]:
    """The success rate in each class."""
    rows = []
    for label, title in enumerate(classes):
        mine = found.take((found.y == label).nonzero()[:, 0])
        rows += [row for row in success_rows(f"{name} in class {title}", mine) if "worst" not in str(row["metric"])]
    return rows


def effort_rows(name: str, found: Attacked, *, latent: bool) -> list[Row]:
    """How far successful examples are from the images and, where the perturbation is one, in codes; and after how many
    steps attempts succeeded first.
    """
    if not bool(found.hit.any()):
        return []
    hits = found.take(found.hit.nonzero()[:, 0])
    rows = [mean_row(f"{name}, {norm} distance", perturbation_norm(hits.x, hits.x_adv, p)) for norm, p in NORMS.items()]
    if latent:
        zero = torch.zeros_like(hits.delta)
        rows += [mean_row(f"{name}, {n} of codes", perturbation_norm(zero, hits.delta, p)) for n, p in NORMS.items()]
    first = hits.first[hits.first >= 0].double()
    return [*rows, mean_row(f"{name}, first success after steps", first)]
