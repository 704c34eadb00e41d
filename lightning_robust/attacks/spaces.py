r"""Spaces: along what a perturbation moves.

A `Space` looks at a batch once and gives a `Chart`: the zero perturbation, the map `decode` from a perturbation to
adversarial inputs, and the box of allowed perturbations. The attack loop knows nothing else, so pixels, latent codes
and affine maps are attacked by the same code.
"""

import math
import numbers
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_robust import _checks
from lightning_robust._affine import IDENTITY, warp
from lightning_robust.attacks.attack import check_finite
from lightning_robust.attacks.balls import Ball

Bounds = tuple[float | Sequence[float] | Tensor, float | Sequence[float] | Tensor]


@dataclass(frozen=True, eq=False)
class Chart:
    """What the attack loop needs to know of one batch.

    Args:
        zero: (N, ...) the zero perturbation, float32 or float64: the shape and type of all perturbations.
        decode: A perturbation (N, ...) to adversarial inputs (N, C, H, W), differentiable.
        emit: As `decode`, for the result: rounded so that the input, as a float32 or half-precision tensor, is in the
        perturbation set.
        lower: The least allowed perturbation, not above zero; None: no bound.
        upper: The greatest allowed perturbation, not below zero; None: no bound.
    """

    zero: Tensor
    decode: Callable[[Tensor], Tensor]
    emit: Callable[[Tensor], Tensor]
    lower: Tensor | None = None
    upper: Tensor | None = None

    def clip(self, delta: Tensor) -> Tensor:
        """The nearest perturbation within the bounds."""
        if self.lower is None and self.upper is None:
            return delta
        return torch.clamp(delta, self.lower, self.upper)

    def room(self, delta: Tensor, direction: Tensor) -> Tensor:
        """How far each coordinate can go along the sign of `direction` before it meets a bound."""
        upper = torch.full_like(delta, math.inf) if self.upper is None else (self.upper - delta).clamp(min=0)
        lower = torch.full_like(delta, math.inf) if self.lower is None else (delta - self.lower).clamp(min=0)
        return torch.where(direction > 0, upper, lower)

    def contains(self, delta: Tensor, atol: float = 1e-6) -> Tensor:
        """(N, ...) -> (N,) bool: is the perturbation within the bounds, up to rounding?"""
        inside = torch.ones_like(delta, dtype=torch.bool)
        if self.lower is not None:
            inside &= delta >= self.lower - atol
        if self.upper is not None:
            inside &= delta <= self.upper + atol
        return inside.flatten(1).all(1)


class Space(ABC):
    """Along what a perturbation moves."""

    @abstractmethod
    def chart(self, x: Tensor, y: Tensor, code: Any = None) -> Chart:
        """Look at a batch once.

        Args:
            x: (N, C, H, W) clean inputs.
            y: (N,) labels.
            code: Known latent codes, where the data brings them: (N, Z) or a tuple of it and what stays fixed.
        """

    def check(self, x: Tensor) -> None:
        """Refuse inputs that this space cannot mean; called for every batch. Waits for the device once."""
        check_finite(x)

    def doubts(self, ball: Ball, x: Tensor) -> list[str]:
        """What a user should be told of these inputs in a ball of this space, though both may be meant."""
        return []


def _wide(x: Tensor) -> Tensor:
    """Perturbations live in float32 or float64."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


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
    wide = torch.float32 if x.dtype in (torch.float16, torch.bfloat16) or x.device.type == "mps" else torch.float64
    over = (x_adv.to(wide) - x.to(wide)).abs() > delta.to(wide).abs()
    return torch.where(over, _step_toward(x_adv, x), x_adv)


def _moment(name: str, value: Any, *, positive: bool = False) -> Any:
    """The mean or deviation of normalised data: a number, or a tuple of one per channel."""
    low = 0.0 if positive else -math.inf
    if value is None or isinstance(value, numbers.Real):
        return None if value is None else _checks.number(name, value, low, above=positive)
    entries = value.tolist() if isinstance(value, Tensor | np.ndarray) else value
    if isinstance(entries, numbers.Real):
        return _checks.number(name, entries, low, above=positive)
    return _checks.values(name, entries, low, above=positive)


@dataclass(frozen=True)
class PixelSpace(Space):
    """The input itself, x_adv = x + delta, within the range of valid inputs.

    Images live in [`low`, `high`] and the radius of a ball is in these units. A model that wants normalised input
    should normalise in its first layer. Where the data arrives normalised, give `mean` and `std`: the perturbation is
    still in units of [low, high], x_adv = x + delta / std, and stays in the range of the images before normalisation.

    Args:
        low: The least valid value.
        high: The greatest valid value.
        mean: The mean that was subtracted from the data, a number or one per channel; None: the data is not normalised.
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
        for name, value in (
            ("low", low),
            ("high", high),
            ("mean", _moment("mean", self.mean)),
            ("std", _moment("std", self.std, positive=True)),
        ):
            object.__setattr__(self, name, value)
        if (self.mean is None) != (self.std is None):
            raise ValueError(
                f"Expected arguments `mean` and `std` to come together, but got mean={self.mean}, std={self.std}."
            )

    def _moments(self, x: Tensor) -> tuple[Tensor | float, Tensor | float]:
        if self.mean is None or self.std is None:
            return 0.0, 1.0
        shape = (1, -1) + (1,) * (x.ndim - 2)
        mean, std = (torch.as_tensor(v, dtype=x.dtype, device=x.device).reshape(shape) for v in (self.mean, self.std))
        for name, value in (("mean", mean), ("std", std)):
            if value.shape[1] not in (1, x.shape[1]):
                raise ValueError(
                    f"Expected argument `{name}` to be a number or one per channel ({x.shape[1]}), but got "
                    f"{value.shape[1]} values."
                )
        return mean, std

    def pixels(self, x: Tensor) -> Tensor:
        """Undo the normalisation: the images in [low, high]."""
        mean, std = self._moments(x)
        return x * std + mean

    def difference(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """The perturbation between two inputs, in units of [low, high]."""
        x, x_adv = _wide(x), _wide(x_adv)
        return (x_adv - x) * self._moments(x)[1]

    def chart(self, x: Tensor, y: Tensor, code: Any = None) -> Chart:
        """The zero perturbation has the shape of `x`; the bounds keep x + delta in [low, high]."""
        base = _wide(x.detach())
        _, std = self._moments(base)
        pixels = self.pixels(base)
        half = x.dtype != base.dtype

        def scaled(delta: Tensor) -> Tensor:
            return delta if self.std is None else delta / std

        def decode(delta: Tensor) -> Tensor:
            move = scaled(delta)
            x_adv = base + move
            if not half:
                return x_adv
            rounded = x_adv.to(x.dtype)
            return rounded + (round_toward(rounded, x, move.detach()) - rounded).detach()

        def emit(delta: Tensor) -> Tensor:
            move = scaled(delta)
            return round_toward((base + move).to(x.dtype), x.detach(), move)

        # min and max with zero: an input outside the range stays where it is instead of leaving the ball.
        return Chart(
            torch.zeros_like(base), decode, emit, (self.low - pixels).clamp_(max=0), (self.high - pixels).clamp_(min=0)
        )

    def check(self, x: Tensor) -> None:
        """Refuse images that are not in [low, high] after undoing the normalisation."""
        # One reduction: NaN stays NaN, and infinity is out of every range.
        low, high = (float(v) for v in torch.stack(self.pixels(_wide(x.detach())).aminmax()).tolist())
        if math.isnan(low) or math.isinf(low) or math.isinf(high):
            check_finite(x)
        tolerance = (0.02 if x.dtype in (torch.float16, torch.bfloat16) else 1e-3) * (self.high - self.low)
        if low >= self.low - tolerance and high <= self.high + tolerance:
            return
        if self.mean is None:
            advice = (
                "If the data is normalised, normalise in the model's first layer instead, or say how in the attack: "
                "Threat(Linf(8 / 255), PixelSpace(mean=..., std=...)). If images are in [0, 255], divide by 255, or "
                "say Threat(Linf(8), PixelSpace(0, 255)). If `forward` changes its input in place, let it not."
            )
        else:
            advice = "Is the data really normalised by this `mean` and `std`, and only once?"
        raise ValueError(
            f"Expected images in [{self.low:g}, {self.high:g}], but got values in [{low:.4g}, {high:.4g}]. {advice}"
        )

    def doubts(self, ball: Ball, x: Tensor) -> list[str]:
        """A radius that covers the range or is next to nothing, images that use next to nothing of the range."""
        span = self.high - self.low
        if math.isinf(span):  # data without a range, such as samples of a normal distribution
            return []
        low, high = (float(v) for v in torch.stack(self.pixels(_wide(x.detach())).aminmax()).tolist())
        # The norm of a perturbation from one end of the range to the other, in radii.
        whole = torch.full_like(_wide(x[:1]), span)
        radius = torch.as_tensor(ball.radius, dtype=torch.float64).max()
        radii = float(ball.norm(whole).double().max() / radius) if radius > 0 else 1.0
        found = []
        if radii < 1:
            found.append(
                f"{ball} covers the whole range [{self.low:g}, {self.high:g}] of the images: every image can be turned "
                "into every other. Did you mean 8 / 255?"
            )
        elif not ball.wants_room and radii > 1000:
            found.append(
                f"{ball} is less than a thousandth of the range [{self.low:g}, {self.high:g}] of the images: such an "
                "attack does nothing. Is the radius in the units of the images?"
            )
        if 0 < high - low < span / 50:
            found.append(
                f"The images use [{low:.4g}, {high:.4g}] of the range [{self.low:g}, {self.high:g}] alone. Were they "
                "divided by 255 twice, or is the range of the space wrong? Then robust accuracy looks too high or low."
            )
        return found


@dataclass(frozen=True, eq=False)
class LatentSpace(Space):
    """The codes of a manifold: x_adv = decode(z + delta).

    The code z is the one that the batch brings, where it brings one, else `manifold.encode(x, y)`. On-manifold
    adversarial examples are those of Stutz et al. (CVPR 2019): the class stays the true one, because the decoder is
    given the true label.

    Args:
        manifold: Anything with `encode(x, y) -> z` and `decode(z, y) -> x`; a code may also be a tuple (z, *fixed) of
            which only z moves, then `decode(z, y, *fixed)` is called.
        bounds: (low, high) of valid codes, numbers or (Z,) each; None: `manifold.bounds` if it has any, else no bounds.
            (The paper takes the least and greatest code of the data.)
    """

    manifold: Any
    bounds: Bounds | None = None

    def __post_init__(self) -> None:
        for name in ("encode", "decode"):
            if isinstance(self.manifold, type) or not callable(getattr(self.manifold, name, None)):
                kind = self.manifold if isinstance(self.manifold, type) else type(self.manifold)
                got = f"the class {kind.__name__}" if kind is self.manifold else kind.__name__
                raise TypeError(f"Expected argument `manifold` to have a method `{name}`, but got {got}.")
        if self.bounds is not None:
            _checks.sequence("bounds", self.bounds, "a pair (low, high) of numbers or tensors (Z,)", 2)
            try:
                low, high = map(torch.as_tensor, self.bounds)
            except (TypeError, ValueError, RuntimeError):
                raise TypeError(
                    f"Expected argument `bounds` to be a pair (low, high) of numbers or tensors, but got {self.bounds}."
                ) from None
            if not bool((low <= high).all()):
                raise ValueError(f"Expected argument `bounds` to be a pair with low <= high, but got {self.bounds}.")

    def chart(self, x: Tensor, y: Tensor, code: Any = None) -> Chart:
        """The zero perturbation has the shape (N, Z) of the codes; the bounds keep z + delta a valid code."""
        if code is None:
            with torch.no_grad():
                code = self.manifold.encode(x, y)
        z, *fixed = code if isinstance(code, tuple | list) else (code,)
        if not isinstance(z, Tensor) or z.ndim < 2 or len(z) != len(x) or not z.is_floating_point():
            got = f"{z.dtype} {tuple(z.shape)}" if isinstance(z, Tensor) else type(z).__name__
            raise ValueError(f"Expected the code to be a float tensor of shape (N, Z) with N={len(x)}, but got {got}.")
        z = _wide(z.detach())

        def decode(delta: Tensor) -> Tensor:
            return self.manifold.decode(z + delta, y, *fixed).to(x.dtype)

        lower = upper = None
        bounds = getattr(self.manifold, "bounds", None) if self.bounds is None else self.bounds
        if bounds is not None:
            low, high = (torch.as_tensor(b, dtype=z.dtype, device=z.device) for b in bounds)
            lower, upper = (low - z).clamp(max=0), (high - z).clamp(min=0)
        return Chart(torch.zeros_like(z), decode, decode, lower, upper)


def _half_or_ends(name: str, value: Any) -> float | tuple[float, float]:
    """The half of a range, or its ends, as plain numbers."""
    if isinstance(value, numbers.Real):
        return _checks.number(name, value, 0)
    low, high = (_checks.number(name, end) for end in _checks.sequence(name, value, "a number or a pair", 2))
    return low, high


def _interval(name: str, value: float | tuple[float, float], centre: float) -> tuple[float, float]:
    low, high = value if isinstance(value, tuple) else (centre - value, centre + value)
    if not low <= centre <= high:
        raise ValueError(
            f"Expected argument `{name}` to be a range that holds {centre:g}, but got ({low:g}, {high:g})."
        )
    return low, high


@dataclass(frozen=True)
class AffineSpace(Space):
    """Affine maps of the image around the identity: "adversarial transformations" (Stutz et al., CVPR 2019).

    The perturbation is (N, 6): translation x, y (in units of half the image), shear x, y, scale minus 1, rotation
    (radians), applied to the sampling grid with bilinear interpolation, black beyond the border, `align_corners=True`.
    The defaults are the paper's ranges for EMNIST, Fashion-MNIST and CelebA. The paper's code has a sign quirk in one
    entry of the matrix, which is not repeated here.

    Args:
        translation: The range of both translations, (low, high) or +- one number.
        shear: The range of both shears.
        scale: The range of the scale; one number s means 1 +- s.
        rotation: The range of the angle.
    """

    translation: float | tuple[float, float] = 0.15
    shear: float | tuple[float, float] = 0.2
    scale: float | tuple[float, float] = 0.15
    rotation: float | tuple[float, float] = math.pi / 10

    def __post_init__(self) -> None:
        for name in ("translation", "shear", "scale", "rotation"):
            object.__setattr__(self, name, _half_or_ends(name, getattr(self, name)))
        low, _ = self._box()
        if low[4] <= 0:
            raise ValueError(f"Expected argument `scale` to be positive throughout, but got {self.scale}.")

    def _box(self) -> tuple[list[float], list[float]]:
        """The least and the greatest parameters."""
        shift, shear = _interval("translation", self.translation, 0.0), _interval("shear", self.shear, 0.0)
        scale, turn = _interval("scale", self.scale, 1.0), _interval("rotation", self.rotation, 0.0)
        ranges = (shift, shift, shear, shear, scale, turn)
        return [low for low, _ in ranges], [high for _, high in ranges]

    def chart(self, x: Tensor, y: Tensor, code: Any = None) -> Chart:
        """The zero perturbation has the shape (N, 6) and is the identity."""
        if x.ndim != 4:
            raise ValueError(f"Expected images of shape (N, C, H, W), but got {tuple(x.shape)}.")
        if isinstance(y, Tensor) and y.ndim >= 3:
            raise ValueError(
                f"Expected labels of whole images in AffineSpace, but got shape {tuple(y.shape)}: labels of positions "
                "would not move with the image."
            )
        images = x.detach()
        dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        zero = torch.zeros(len(x), 6, dtype=dtype, device=x.device)
        identity = zero.new_tensor(IDENTITY)
        low, high = (zero.new_tensor(side) for side in self._box())

        def decode(delta: Tensor) -> Tensor:
            return warp(images, identity + delta)

        return Chart(zero, decode, decode, (low - identity).expand_as(zero), (high - identity).expand_as(zero))

    def check(self, x: Tensor) -> None:
        """Black beyond the border means zero: refuse images that are not in [0, 1]."""
        PixelSpace().check(x)
