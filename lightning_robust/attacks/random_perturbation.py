"""A random point of the perturbation set, where an attack would seek the worst."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lightning_robust import _checks
from lightning_robust._noise import Noise
from lightning_robust.attacks._tensors import set_fields
from lightning_robust.attacks.attack import NO_CONTEXT, Context, Model, Outcome
from lightning_robust.attacks.ball import Ball
from lightning_robust.attacks.starts import Start, uniform
from lightning_robust.attacks.threats import Threat, ThreatAttack, as_threat


@dataclass(frozen=True)
class RandomPerturbation(ThreatAttack):
    r"""Data augmentation within a threat: a random perturbation, for which the model is not asked.

    .. math:: x' = \mathrm{decode}_x(\delta), \qquad \delta \sim U(B), \text{ clipped to the bounds of the space}

    In pixels, in the codes of a manifold, or in affine parameters, as the threat says. In evaluation
    `restarted(RandomPerturbation(threat), 10)` is the worst of ten random points, the cheapest attack there is
    (Engstrom et al., ICML 2019, for affine maps).

    The augmentation of Stutz et al. (CVPR 2019), except that theirs adds no identity to the affine parameters, so that
    it always shrinks the image. Their uniform "strong" variant, which draws from all parameters, is this attack around
    the middle of the parameters, with a `Box` of their half widths: in an `AffineSpace` of symmetric ranges as it is,
    in a `LatentSpace` with the middle passed as `code`. (A large ball around another point is not the same: clipping
    would pile up its points on the bounds.)

    Args:
        threat: The perturbation set: `Threat(ball, space)`, or a ball, which means pixels in [0, 1].
        start: How a point is drawn, `(ball, noise, zero) -> delta`, as for the random starts of `PGD`; uniform in the
            ball by default.
        seed: Of the draw, together with the content of each sample and the key of the call.

    Example:
        >>> from lightning_robust.attacks import Linf
        >>> x, y = torch.full((2, 1, 4, 4), 0.5), torch.tensor([0, 1])
        >>> moved = RandomPerturbation(Linf(0.1))(torch.nn.Flatten(), x, y)
        >>> 0 < float((moved - x).abs().max()) <= 0.1
        True
    """

    threat: Threat | Ball
    start: Start = field(default=uniform, kw_only=True)
    seed: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        _checks.function("start", self.start, "(ball, noise, zero) -> delta")
        set_fields(self, threat=as_threat(self.threat), seed=_checks.seed("seed", self.seed))

    def brief(self) -> "RandomPerturbation":
        """Itself."""
        return self

    def run(self, model: Model, x: Tensor, y: Any, context: Context = NO_CONTEXT) -> Outcome:
        """Draw once, see `Attack.run`; the model is not asked."""
        with self._ready(None, x, y, context) as batch, torch.no_grad():
            chart, noise = batch.chart, Noise.of(batch.x, self.seed, context.key)
            delta = chart.clip(self.start(self._threat.ball, noise, chart.zero))
            return Outcome(chart.emit(delta), delta)
