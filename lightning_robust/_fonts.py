"""The glyphs of the Fonts data set and how an image is made of one: data access and rendering, torch and numpy only.

An image is a clean glyph, chosen by a font and a letter, under an affine map of six parameters (see
`lightning_robust._affine`). So the manifold of the data is known exactly: it is what `render` can make with
parameters in a box.
"""

import functools
import hashlib
import math
from dataclasses import dataclass
from importlib.resources import files
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lightning_robust._affine import warp
from lightning_robust._checks import choice

Difficulty = Literal["easy", "moderate", "hard"]

NUM_FONTS = 1000
NUM_CLASSES = 10
IMAGE_SHAPE = (1, 28, 28)

_FILE = "datamodules/data/fonts.npz"
_SHA256 = "e3503ff82f71a1468a738e17104bbc1d418f82d781b3eabc88ded6a18dc90d64"


@dataclass(frozen=True)
class ThetaRange:
    """The box of affine parameters [t_x, t_y, shear_x, shear_y, scale, rotation] that a data set draws from.

    Args:
        translation: the range is -translation to translation, in units of half the image.
        shear: likewise.
        scale: (low, high).
        rotation: likewise +-, in radians.
    """

    translation: float
    shear: float
    scale: tuple[float, float]
    rotation: float

    def bounds(self, device: torch.device | str | None = None) -> tuple[Tensor, Tensor]:
        """The corners (low, high) of the box, both float32 of shape (6,)."""
        t, s, r = self.translation, self.shear, self.rotation
        low = torch.tensor([-t, -t, -s, -s, self.scale[0], -r], dtype=torch.float32, device=device)
        high = torch.tensor([t, t, s, s, self.scale[1], r], dtype=torch.float32, device=device)
        return low, high


_RANGES: dict[Difficulty, ThetaRange] = {
    "easy": ThetaRange(0.1, 0.2, (0.9, 1.1), math.pi / 6),
    "moderate": ThetaRange(0.2, 0.4, (0.85, 1.15), math.pi / 3),
    "hard": ThetaRange(0.2, 0.5, (0.75, 1.15), math.pi / 2),
}


def theta_range(difficulty: Difficulty) -> ThetaRange:
    """The parameters' range of Stutz et al. (CVPR 2019) for a difficulty; "hard" is the one of all their experiments.

    Raises:
        ValueError: if `difficulty` is none of "easy", "moderate", "hard".

    Example:
        >>> theta_range("easy").scale
        (0.9, 1.1)
    """
    return _RANGES[choice("difficulty", difficulty, tuple(_RANGES))]


class Glyphs(NamedTuple):
    """The clean glyphs, ink 255 on ground 0, and which of the faces belong together.

    Fields:
        images: uint8 of shape (1000, 10, 28, 28): font, letter A to J, rows, columns.
        family: int64 of shape (1000,): the family of each font; weights and widths of one design share it.
    """

    images: Tensor
    family: Tensor


def load_glyphs(device: torch.device | str = "cpu") -> Glyphs:
    """Read the glyphs that are installed with the package; a second call returns the same tensors.

    Args:
        device: where the tensors shall lie.

    Returns:
        The glyphs. They are shared by all callers: do not write to them.

    Raises:
        RuntimeError: if the file is not the one that this version of the package was made with.
    """
    return _load(str(device))


@functools.cache
@torch.inference_mode(False)
def _load(device: str) -> Glyphs:
    if device != "cpu":
        return Glyphs(*(tensor.to(device) for tensor in _load("cpu")))
    with files("lightning_robust").joinpath(_FILE).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        images, family = arrays["images"], arrays["family_id"].astype(np.int64)
    checksum = hashlib.sha256(images.tobytes()).hexdigest()
    if checksum != _SHA256 or images.shape != (NUM_FONTS, NUM_CLASSES, *IMAGE_SHAPE[1:]):
        raise RuntimeError(
            f"Expected {_FILE} to hold glyphs with SHA-256 {_SHA256}, but got {checksum}. Reinstall lightning-robust."
        )
    return Glyphs(torch.from_numpy(images), torch.from_numpy(family))


def glyph(font: Tensor, y: Tensor) -> Tensor:
    """The clean images of letters in fonts.

    Args:
        font: int64 of shape (N,), 0 to 999.
        y: int64 of shape (N,), 0 (A) to 9 (J), on the device of `font`.

    Returns:
        float32 of shape (N, 1, 28, 28) in [0, 1], on the device of `font`.
    """
    return load_glyphs(font.device).images[font, y].unsqueeze(1).to(torch.float32) / 255


def render(theta: Tensor, y: Tensor, font: Tensor) -> Tensor:
    r"""Make images: :math:`\mathrm{clamp}_{[0,1]}(\text{glyph}_{font,y} \circ A(\theta))`.

    The map is applied to the sampling grid, bilinear, black beyond the border, corners aligned. Differentiable in
    `theta`.

    Args:
        theta: shape (N, 6), see `lightning_robust._affine.affine_matrix`; on the device of `font`.
        y: int64 of shape (N,), the letters.
        font: int64 of shape (N,), the fonts.

    Returns:
        Shape (N, 1, 28, 28) in [0, 1], in the type of `theta`, but at least float32.

    References:
        Stutz, Hein, Schiele, "Disentangling Adversarial Robustness and Generalization", CVPR 2019 (arXiv 1812.00740),
        section 3.1. The glyphs are not those of the paper: other (free) faces, rendered by us. The paper's code has a
        sign quirk in the entry (1, 1) of the matrix, which is not repeated.
    """
    dtype = torch.promote_types(theta.dtype, torch.float32)
    return warp(glyph(font, y).to(dtype), theta).clamp(0, 1)
