"""The attacks of foolbox (Rauber et al., JOSS 2020) as `Attack`s."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from lightning_robust import _checks
from lightning_robust._optional import optional
from lightning_robust.attacks.attack import NO_CONTEXT, Attack, Context, Model, Outcome
from lightning_robust.attacks.balls import L1, L2, Ball, Linf
from lightning_robust.attacks.pixel_space import PixelSpace
from lightning_robust.attacks.threats import Threat
from lightning_robust.interop._bridge import ForeignAttack, run_foreign


def _ball(attack: Any, eps: float | None) -> Ball | None:
    """The ball that the attack is confined to; None where it has none, and for L0."""
    import foolbox

    if eps is None or not isinstance(attack, foolbox.attacks.base.AttackWithDistance):
        return None
    balls: dict[float, Callable[[float], Ball]] = {1: L1, 2: L2, math.inf: Linf}
    distance = attack.distance
    if not isinstance(distance, foolbox.distances.LpDistance) or distance.p not in balls:
        return None
    return balls[distance.p](eps)


@dataclass(frozen=True, eq=False)
class FoolboxAttack(ForeignAttack):
    """An attack of foolbox, see `from_foolbox`.

    Args:
        attack: The attack.
        eps: Its radius, or None.
        space: The range of the images and the normalisation of the data.
        seed: Seeds the attack, together with the images and the key of the call.
    """

    attack: Any
    eps: float | None
    space: PixelSpace = field(default_factory=PixelSpace)
    seed: int = 0

    @property
    def threat(self) -> Threat | None:
        """The set that the results are in; None where there is none but the range of the images."""
        ball = _ball(self.attack, self.eps)
        return None if ball is None else Threat(ball, self.space)

    @property
    def effort(self) -> tuple[float, float] | None:
        """The number of steps and how far they go together, in radii, where all have one size; else None."""
        steps, size, plain = (getattr(self.attack, n, None) for n in ("steps", "abs_stepsize", "rel_stepsize"))
        if not self.eps or steps is None or (size is None and plain is None):
            return None
        return steps, steps * (plain if size is None else size / self.eps)

    @property
    def gives_back(self) -> bool:
        """May it return the clean input of a sample that it does not break? Those of minimum norm do."""
        import foolbox

        return isinstance(self.attack, foolbox.attacks.base.MinimizationAttack)

    def doubts(self, x: Tensor) -> list[str]:
        """What may be wrong with the radius, the range and these inputs."""
        return [] if self.threat is None else self.space.doubts(self.threat.ball, x)

    def scaled(self, factor: float) -> Attack:
        """The same attack with the radius times `factor`; a relative step size, the default of foolbox, follows."""
        return super().scaled(factor) if self.eps is None else replace(self, eps=self.eps * factor)

    def run(self, model: Model, x: Tensor, y: Any, context: Context = NO_CONTEXT) -> Outcome:
        """Run the attack, see `Attack.run`. The outcome tells per sample what foolbox calls its success."""
        import foolbox

        def find(shell: nn.Module, pixels: Tensor, labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
            bounds = (self.space.low, self.space.high)
            target = foolbox.PyTorchModel(shell, bounds=bounds, device=pixels.device)
            _, clipped, success = self.attack(target, pixels, labels, epsilons=self.eps)
            return clipped, success

        ball = _ball(self.attack, self.eps)
        return run_foreign(find, model, x, y, context, space=self.space, seed=self.seed, ball=ball, also=self.attack)


def from_foolbox(
    attack: Any,
    eps: float | None,
    *,
    bounds: tuple[float, float] = (0.0, 1.0),
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    seed: int = 0,
) -> FoolboxAttack:
    """Make an `Attack` of an attack of foolbox.

    Args:
        attack: An attack of foolbox, e.g. `foolbox.attacks.LinfPGD(steps=10)`.
        eps: The radius in the norm of the attack and in the units of `bounds`. A minimum-norm attack takes None too: it
            finds the nearest adversarial example however far it is. With a number it is that example clipped to the
            ball, so that a sample whose nearest one is further away counts as robust. Only L1, L2 and Linf are clipped.
        bounds: The range of the images.
        mean: The mean that was subtracted from the data, a number or one per channel; None: the data is not normalised.
        std: The deviation the data was divided by, likewise.
        seed: Seeds the attack, together with the images and the key of the call.

    Example:
        >>> import foolbox, torch
        >>> attack = from_foolbox(foolbox.attacks.LinfPGD(steps=10), eps=8 / 255)
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
        >>> x, y = torch.rand(4, 3, 2, 2), torch.tensor([0, 1, 2, 0])
        >>> x_adv = attack(model, x, y)
        >>> bool((x_adv - x).abs().max() <= 8 / 255)
        True
    """
    foolbox = optional("foolbox", "foolbox")
    if not isinstance(attack, foolbox.attacks.base.Attack):
        raise TypeError(
            "Expected argument `attack` to be an attack of foolbox, e.g. foolbox.attacks.LinfPGD(steps=10), "
            f"but got {attack!r}."
        )
    core = attack
    while isinstance(core, foolbox.attacks.base.Repeated):
        core = core.attack
    if eps is None and isinstance(core, foolbox.attacks.base.FixedEpsilonAttack):
        raise ValueError(
            f"Expected argument `eps` to be a number, because {type(core).__name__} is not a minimum-norm attack, "
            "but got None."
        )
    eps = None if eps is None else _checks.number("eps", eps, 0)
    _ball(attack, eps)  # foolbox says what is wrong with an attack whose distance is not known
    space = PixelSpace(*_checks.interval("bounds", bounds), mean=mean, std=std)
    return FoolboxAttack(attack, eps, space, _checks.seed("seed", seed))
