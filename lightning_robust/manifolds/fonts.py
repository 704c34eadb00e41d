"""The true manifold of the Fonts data set."""

from dataclasses import dataclass
from typing import NoReturn

import torch
from torch import Tensor

from lightning_robust._affine import IDENTITY
from lightning_robust._fonts import Difficulty, ThetaRange, render, theta_range


@dataclass(frozen=True)
class FontsManifold:
    r"""All images of known letters in known fonts under affine maps.

    .. math::

        \{\, \text{glyph}_{font, y} \circ A(\theta) : low \le \theta \le high \,\}

    The map that made the data is its own decoder, so this manifold is exact. The code of a sample is `(theta, font)`:
    theta moves, the font stays, and so does the letter, which is the label. A clean glyph is at `identity`. Works on
    the device of its inputs. `project(manifold, x, y, code, bounds=manifold.bounds)` finds the nearest image of the
    same letter and font.

    Args:
        difficulty: "easy", "moderate" or "hard": the box of parameters, the same as of the data.

    Raises:
        ValueError: if `difficulty` is none of these.

    Example:
        >>> manifold = FontsManifold("hard")
        >>> theta = manifold.identity.repeat(2, 1).requires_grad_()
        >>> x = manifold.decode(theta, torch.tensor([0, 9]), torch.tensor([5, 5]))
        >>> x.shape, torch.autograd.grad(x.sum(), theta)[0].shape
        (torch.Size([2, 1, 28, 28]), torch.Size([2, 6]))

    References:
        Stutz, Hein, Schiele, "Disentangling Adversarial Robustness and Generalization", CVPR 2019 (arXiv 1812.00740),
        section 3.1.
    """

    difficulty: Difficulty = "hard"

    def __post_init__(self) -> None:
        theta_range(self.difficulty)

    @property
    def ranges(self) -> ThetaRange:
        """The range of each parameter."""
        return theta_range(self.difficulty)

    @property
    def bounds(self) -> tuple[Tensor, Tensor]:
        """The corners (low, high) of the box of parameters, both float32 of shape (6,)."""
        return self.ranges.bounds()

    @property
    def identity(self) -> Tensor:
        """The parameters of the clean glyph, float32 of shape (6,)."""
        return torch.tensor(IDENTITY, dtype=torch.float32)

    def encode(self, x: Tensor, y: Tensor) -> NoReturn:
        """Refuse: pixels do not tell the font.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            "The true Fonts manifold cannot be inverted from pixels without the font. Pass the code that the batch "
            "brings: AdversarialTraining(attack, code=2), or attack(model, x, y, code=code)."
        )

    def decode(self, z: Tensor, y: Tensor, font: Tensor) -> Tensor:
        """Render letters.

        Args:
            z: theta, shape (N, 6): [t_x, t_y, shear_x, shear_y, scale, rotation].
            y: int64 of shape (N,), the letters.
            font: int64 of shape (N,), the fonts.

        Returns:
            Images (N, 1, 28, 28) in [0, 1], in the type of `z`, but at least float32; differentiable in `z`.
        """
        return render(z, y, font)
