"""The space of affine maps of an image."""

import math
import numbers
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_robust import _checks
from lightning_robust._affine import IDENTITY, warp
from lightning_robust.attacks._tensors import set_fields
from lightning_robust.attacks.pixel_space import PixelSpace
from lightning_robust.attacks.spaces import Chart, Space


def _half_or_ends(name: str, value: Any) -> float | tuple[float, float]:
    """The half of a range, or its ends, as plain numbers."""
    if isinstance(value, numbers.Real):
        return _checks.number(name, value, 0)
    low, high = (_checks.number(name, end) for end in _checks.sequence(name, value, "a number or a pair", 2))
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
        names = ("translation", "shear", "scale", "rotation")
        set_fields(self, **{name: _half_or_ends(name, getattr(self, name)) for name in names})
        if self._ranges()[4][0] <= 0:
            raise ValueError(f"Expected argument `scale` to be positive throughout, but got {self.scale}.")

    def _ranges(self) -> list[tuple[float, float]]:
        """The least and the greatest value of each of the six parameters."""
        ranges = []
        for name, times, center in (("translation", 2, 0), ("shear", 2, 0), ("scale", 1, 1), ("rotation", 1, 0)):
            value = getattr(self, name)
            low, high = value if isinstance(value, tuple) else (center - value, center + value)
            if not low <= center <= high:
                raise ValueError(
                    f"Expected argument `{name}` to be a range that holds {center}, but got ({low:g}, {high:g})."
                )
            ranges += [(low, high)] * times
        return ranges

    def chart(self, x: Tensor, y: Any, code: Any = None) -> Chart:
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
        low, high = zero.new_tensor(self._ranges()).unbind(1)

        def decode(delta: Tensor) -> Tensor:
            return warp(images, identity + delta)

        lower, upper = ((end - identity).expand_as(zero) for end in (low, high))
        return Chart(zero, decode, decode, lower, upper, lambda rows: self.chart(x[rows], None))

    def check(self, x: Tensor) -> None:
        """Refuse images that are not in [0, 1]: black beyond the border means zero."""
        PixelSpace().check(x)
