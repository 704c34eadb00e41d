"""The true manifold of the Fonts data set."""

from dataclasses import dataclass
from typing import NamedTuple, NoReturn

import torch
from torch import Tensor

from lightning_robust._affine import IDENTITY
from lightning_robust._checks import count, number
from lightning_robust._fonts import Difficulty, ThetaRange, render, theta_range


class Projection(NamedTuple):
    """The nearest point of a manifold, as far as it was found.

    Fields:
        theta: its code, float32 of shape (N, 6).
        x: the point, float32 of shape (N, 1, 28, 28).
        distance: how far the input is from it, Euclidean, float32 of shape (N,).
    """

    theta: Tensor
    x: Tensor
    distance: Tensor


@dataclass(frozen=True)
class FontsManifold:
    r"""All images of known letters in known fonts under affine maps.

    .. math::

        \{\, \text{glyph}_{font, y} \circ A(\theta) : low \le \theta \le high \,\}

    The map that made the data is its own decoder, so this manifold is exact. The code of a sample is `(theta, font)`:
    theta moves, the font stays, and so does the letter, which is the label. A clean glyph is at `identity`.
    Works on the device of its inputs.

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

    def project(
        self,
        x: Tensor,
        y: Tensor,
        code: tuple[Tensor, Tensor],
        steps: int = 100,
        lr: float = 0.09,
        decay: float = 0.95,
        every: int = 10,
    ) -> Projection:
        r"""Find the nearest image of the same letter and font.

        .. math::

            \min_{low \le \theta \le high} \| x - \mathrm{decode}(\theta, y, font) \|_2

        by Adam from the known code, clipped to the box after each step. Each sample is on its own, and the best point
        on its way is returned, so that the distance is at most that to the start.

        Args:
            x: images (N, 1, 28, 28), for instance adversarial ones.
            y: int64 of shape (N,), the true letters.
            code: (theta, font), the codes of the clean images.
            steps: of Adam.
            lr: its step size.
            decay: what the step size is multiplied by, every so many steps.
            every: so many.

        Returns:
            theta, the image and the distance.

        References:
            Stutz et al. (CVPR 2019) measure the distance to the manifold so, with these numbers. They take the last
            point, not the best.
        """
        steps, every = count("steps", steps, 0), count("every", every)
        lr, decay = number("lr", lr, 0, above=True), number("decay", decay, 0, above=True)
        with torch.inference_mode(False), torch.enable_grad():
            target = x.detach().to(torch.float32).clone()
            start, font, y = code[0].detach().clone(), code[1].clone(), y.clone()
            low, high = (bound.to(target.device) for bound in self.bounds)
            theta = start.to(torch.float32).clamp(low, high).requires_grad_()
            best, least = theta.detach().clone(), torch.full((len(target),), torch.inf, device=target.device)
            optimizer = torch.optim.Adam([theta], lr=lr)
            schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=every, gamma=decay)
            for step in range(steps + 1):
                squared = (self.decode(theta, y, font) - target).square().flatten(1).sum(1)
                better = squared.detach() < least
                least = torch.where(better, squared.detach(), least)
                best = torch.where(better[:, None], theta.detach(), best)
                if step == steps:
                    break
                (theta.grad,) = torch.autograd.grad(squared.sum() / target[0].numel(), theta)
                optimizer.step()
                schedule.step()
                with torch.no_grad():
                    theta.clamp_(low, high)
            return Projection(best, self.decode(best, y, font), least.sqrt())
