"""The space of inputs themselves."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_robust import _checks
from lightning_robust.attacks._tensors import set_fields, wide
from lightning_robust.attacks.attack import check_finite
from lightning_robust.attacks.ball import Ball
from lightning_robust.attacks.spaces import Chart, Space


def _step_toward(v: Tensor, target: Tensor) -> Tensor:
    """The next number of the same type on the way from `v` to `target`."""
    if v.dtype not in (torch.float16, torch.bfloat16):
        return torch.nextafter(v, target)
    # Halves are not covered on every device; as integers, numbers of one sign are ordered by size.
    away_from_zero = (target > v) == (v > 0)
    moved = (v.view(torch.int16) + torch.where(away_from_zero, 1, -1).to(torch.int16)).view(v.dtype)
    tiny = torch.full_like(v, torch.finfo(v.dtype).smallest_normal)
    return torch.where(v == 0, torch.where(target > 0, tiny, -tiny), moved)


@torch.no_grad()
def round_toward(x_adv: Tensor, x: Tensor, delta: Tensor) -> Tensor:
    """Where rounding took `x_adv` further from `x` than |delta|, take the next number towards `x`.

    Rounding x + delta to bfloat16 leaves an Linf ball by up to 6 %; to float32 by 3e-8. After this step no coordinate
    is further from `x` than |delta|, so a perturbation in a ball stays in it.
    """
    exact = torch.float32 if x.dtype in (torch.float16, torch.bfloat16) or x.device.type == "mps" else torch.float64
    over = (x_adv.to(exact) - x.to(exact)).abs() > delta.to(exact).abs()
    return torch.where(over, _step_toward(x_adv, x), x_adv)


def _entries(value: Any) -> Any:
    """Tensors and arrays, also those of no dimensions, as Python's numbers."""
    return value.tolist() if isinstance(value, Tensor | np.ndarray) else value


@dataclass(frozen=True)
class PixelSpace(Space):
    """The input itself, x_adv = x + delta, within the range of valid inputs.

    Images live in [`low`, `high`] and the radius of a ball is in these units. A model that wants normalized input
    should normalize in its first layer. Where the data arrives normalized, give `mean` and `std`: the perturbation is
    still in units of [low, high], x_adv = x + delta / std, and stays in the range of the images before normalization.

    Args:
        low: The least valid value.
        high: The greatest valid value.
        mean: The mean that was subtracted from the data, a number or one per channel; None: the data is not normalized.
        std: The deviation the data was divided by, likewise.

    Example:
        >>> chart = PixelSpace().chart(torch.tensor([[[[0.1, 0.9]]]]), torch.tensor([0]))
        >>> chart.decode(chart.clip(torch.full((1, 1, 1, 2), 0.3)))
        tensor([[[[0.4000, 1.0000]]]])
    """

    low: float = 0.0
    high: float = 1.0
    mean: float | Sequence[float] | None = None
    std: float | Sequence[float] | None = None

    def __post_init__(self) -> None:
        low, high = _checks.number("low", self.low, finite=False), _checks.number("high", self.high, finite=False)
        if not low < high:
            raise ValueError(f"Expected argument `low` to be less than `high`, but got low={low}, high={high}.")
        mean = None if self.mean is None else _checks.one_or_more("mean", _entries(self.mean))
        std = None if self.std is None else _checks.one_or_more("std", _entries(self.std), 0, above=True)
        set_fields(self, low=low, high=high, mean=mean, std=std)
        if (mean is None) != (std is None):
            raise ValueError(f"Expected arguments `mean` and `std` to come together, but got mean={mean}, std={std}.")
        numbers = {len(value) for value in (mean, std) if isinstance(value, tuple)} - {1}
        if len(numbers) > 1:
            raise ValueError(f"Expected as many numbers in `mean` as in `std`, but got mean={mean}, std={std}.")

    def _moments(self, x: Tensor) -> tuple[Tensor | float, Tensor | float]:
        if self.mean is None or self.std is None:
            return 0.0, 1.0
        shape = (1, -1) + (1,) * (x.ndim - 2)
        mean, std = (torch.as_tensor(v, dtype=x.dtype, device=x.device).reshape(shape) for v in (self.mean, self.std))
        for name, value in (("mean", mean), ("std", std)):
            if value.shape[1] not in (1, x.shape[1]):
                raise ValueError(
                    f"Expected argument `{name}` to be a number or one per channel ({x.shape[1]}), "
                    f"but got {value.shape[1]} values."
                )
        return mean, std

    def pixels(self, x: Tensor) -> Tensor:
        """Undo the normalization: the images in [low, high]."""
        mean, std = self._moments(x)
        return x * std + mean

    def difference(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """The perturbation between two inputs, in units of [low, high]."""
        x, x_adv = wide(x), wide(x_adv)
        return (x_adv - x) * self._moments(x)[1]

    def chart(self, x: Tensor, y: Tensor, code: Any = None) -> Chart:
        """The zero perturbation has the shape of `x`; the bounds keep x + delta in [low, high]."""
        base = wide(x.detach())
        _, std = self._moments(base)
        pixels = self.pixels(base)

        def move_of(delta: Tensor) -> Tensor:
            return delta if self.std is None else delta / std

        def decode(delta: Tensor) -> Tensor:
            move = move_of(delta)
            x_adv = base + move
            if x.dtype == base.dtype:
                return x_adv
            rounded = x_adv.to(x.dtype)
            return rounded + (round_toward(rounded, x, move.detach()) - rounded).detach()

        def emit(delta: Tensor) -> Tensor:
            move = move_of(delta)
            return round_toward((base + move).to(x.dtype), x.detach(), move)

        # min and max with zero: an input outside the range stays where it is instead of leaving the ball.
        lower, upper = (self.low - pixels).clamp_(max=0), (self.high - pixels).clamp_(min=0)
        return Chart(torch.zeros_like(base), decode, emit, lower, upper, lambda rows: self.chart(x[rows], y))

    def _extremes(self, x: Tensor) -> tuple[float, float]:
        """The least and the greatest pixel; NaN where there is one. One reduction, one wait for the device."""
        low, high = torch.stack(self.pixels(wide(x.detach())).aminmax()).tolist()
        return float(low), float(high)

    def check(self, x: Tensor) -> None:
        """Refuse images that are not in [low, high] after undoing the normalization."""
        low, high = self._extremes(x)
        if math.isnan(low) or math.isinf(low) or math.isinf(high):
            check_finite(x)
        tolerance = (0.02 if x.dtype in (torch.float16, torch.bfloat16) else 1e-3) * (self.high - self.low)
        if low >= self.low - tolerance and high <= self.high + tolerance:
            return
        if self.mean is None:
            advice = (
                "If the data is normalized, normalize in the model's first layer instead, or say how in the attack: "
                "Threat(Linf(8 / 255), PixelSpace(mean=..., std=...)). If images are in [0, 255], divide by 255, or "
                "say Threat(Linf(8), PixelSpace(0, 255)). If `forward` changes its input in place, let it not."
            )
        else:
            advice = "Is the data really normalized by this `mean` and `std`, and only once?"
        raise ValueError(
            f"Expected images in [{self.low:g}, {self.high:g}], but got values in [{low:.4g}, {high:.4g}]. {advice}"
        )

    def doubts(self, ball: Ball, x: Tensor) -> list[str]:
        """A radius that covers the range or is next to nothing, images that use next to nothing of the range, a type of
        inputs whose rounding takes more than a quarter of the radius.
        """
        span, whole_range = self.high - self.low, f"the range [{self.low:g}, {self.high:g}]"
        rounded, lost = [], self._lost(ball, x)
        if lost > 0.25:
            rounded.append(
                f"Rounding to {str(x.dtype).removeprefix('torch.')} takes {lost:.0%} of {ball} away, for inputs under "
                "attack have the type of `x`: robust accuracy looks too high. Give float32 inputs, and let the model "
                "compute in the other type within (autocast)."
            )
        if math.isinf(span):  # data without a range, such as samples of a normal distribution
            return rounded
        low, high = self._extremes(x)
        # The norm of a perturbation from one end of the range to the other, in radii.
        radius = torch.as_tensor(ball.radius, dtype=torch.float64).max()
        norm = ball.norm(torch.full_like(wide(x[:1]), span)).double().max()
        radii = float(norm / radius) if radius > 0 else 1.0
        doubts = []
        if radii < 1:
            doubts.append(
                f"{ball} covers the whole range [{self.low:g}, {self.high:g}] of the images: every image can be turned "
                "into every other. Did you mean 8 / 255?"
            )
        elif not ball.wants_room and radii > 1000:
            doubts.append(
                f"{ball} is less than a thousandth of {whole_range} of the images: such an attack does nothing. Is the "
                "radius in the units of the images?"
            )
        elif ball.wants_room and 0 < radius <= span / 255:
            doubts.append(
                f"{ball} cannot change one value of an image by more than a 255th of {whole_range}, and no two values "
                "by as much: such an attack does nothing. Is the radius in the units of the images?"
            )
        if 0 < high - low < span / 50:
            doubts.append(
                f"The images use [{low:.4g}, {high:.4g}] of {whole_range} alone. Were they divided by 255 twice, or is "
                "the range of the space wrong? Then robust accuracy looks too high or low."
            )
        return doubts + rounded

    @torch.no_grad()
    def _lost(self, ball: Ball, x: Tensor) -> float:
        """The share of a perturbation that rounding to the type of `x` takes away, where all coordinates move alike; in
        a ball whose perturbations have few coordinates, each by itself. Types of 32 bits and more lose next to nothing.
        """
        radius = float(torch.as_tensor(ball.radius, dtype=torch.float64).max())
        if x.dtype not in (torch.float16, torch.bfloat16) or not radius > 0:
            return 0.0
        alike = torch.ones_like(wide(x))
        norm = 1.0 if ball.sparse else float(ball.norm(alike[:1]).max())
        chart, wanted, moved = self.chart(x, torch.zeros(len(x), dtype=torch.long, device=x.device)), 0.0, 0.0
        for size in (radius / norm, -radius / norm):
            delta = chart.clip(size * alike)
            wanted += float(delta.abs().sum())
            moved += float(self.difference(x, chart.emit(delta)).abs().sum())
        return 1 - moved / wanted if wanted else 0.0
