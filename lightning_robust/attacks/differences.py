r"""Attacks by estimated gradients: of the model nothing is asked but its logits at nearby points.

The estimate is put behind the true logits as a linear function of the input that is zero there,

.. math:: f(x) + \hat J\,(x - \bar x), \qquad \hat J = \frac1S \sum_k
          \frac{f(x + h u_k) - f(x - h u_k)}{2h}\, u_k^\top,

where :math:`\bar x` is x without a gradient. Autograd then does the rest, for every gain, ball, space and precision:
the gradient of v is :math:`v^\top \hat J`, antithetic differences of the scalar :math:`\langle v, f \rangle`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from lightning_robust import _checks
from lightning_robust._noise import Noise
from lightning_robust.attacks._combined import Combined
from lightning_robust.attacks._tensors import set_fields
from lightning_robust.attacks.attack import NO_CONTEXT, Attack, Context, Model, Outcome, as_attack, rows_of
from lightning_robust.attacks.scope import ordinary, own_random_stream

_MOST = 10_000

Probe = Callable[[int], tuple[Tensor, Tensor]]
"""Number k of a direction to the inputs (N, ...) behind and ahead, x - h u_k and x + h u_k."""


class _Along(torch.autograd.Function):
    """How far x has moved along each of S directions: (N, S) zeros, whose gradient is not zero.

    The directions are made again in the backward pass, so that memory does not grow with their number.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, probe: Probe, count: int) -> Tensor:
        ctx.probe, ctx.count = probe, count
        return torch.zeros(len(x), count, dtype=torch.promote_types(x.dtype, torch.float32), device=x.device)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (weights,) = grads
        total = None
        for k in range(ctx.count):
            behind, ahead = ctx.probe(k)
            gap = (ahead.to(weights.dtype) - behind.to(weights.dtype)).reshape(len(behind), -1)
            # Per coordinate, by the way that was really made: in half precision it is not exactly 2 h.
            direction = torch.where(gap == 0, gap, 1 / gap)
            term = weights[:, k, None] * direction
            total = term if total is None else total + term
        assert total is not None
        return total.reshape(behind.shape).to(behind.dtype), None, None


@dataclass
class _Count:
    """The number of the ascent and of the step, in an object of its own, which `scope` does not put back."""

    ascent: int = 0
    step: int = 0
    ended: bool = False

    def forward(self) -> None:
        self.ascent, self.step = (self.ascent + 1, 0) if self.ended else (self.ascent, self.step + 1)
        self.ended = False


class _Estimated(nn.Module):
    """A model with its logits as they are, and estimated gradients. It owns the model, so that `scope` reaches it.

    `noise` is that of the batch that is attacked, `key` that of the call.
    """

    whole_batches = True  # its directions count the forwards of the batch

    def __init__(self, model: Model, estimate: "FiniteDifferences", noise: Noise, key: int) -> None:
        super().__init__()
        self.model, self._estimate, self._noise, self._key, self._count = model, estimate, noise, key, _Count()

    def _directions(self, x: Tensor) -> tuple[Noise, int]:
        """The random numbers of this forward, and one seed for all samples.

        They belong to (sample, ascent, step), where a forward without gradient ends an ascent: so it does not matter to
        a sample how many steps the others make. Where an attack hands over other samples than it was given, such as
        a part of the batch, the numbers belong to the content of the input.
        """
        count, noise = self._count, self._noise
        count.forward()
        if len(noise.words) != len(x):
            noise = Noise.of(x, self._estimate.seed, self._key)
        return noise.fold(count.ascent, count.step), (count.ascent << 20) + count.step

    def rows(self, rows: slice) -> "_Estimated":
        """For some samples of the batch."""
        return _Estimated(rows_of(self.model, rows), self._estimate, Noise(self._noise.words[rows]), self._key)

    def through(self, wrap: Callable[[Any], Any]) -> "_Estimated":
        """The same around `wrap(model)`."""
        return _Estimated(wrap(self.model), self._estimate, self._noise, self._key)

    def forward(self, x: Tensor) -> Any:
        if not (torch.is_grad_enabled() and x.requires_grad):
            self._count.ended = True
            return self.model(x)
        center, count = x.detach(), self._estimate.samples
        if count is None:
            count = math.prod(x.shape[1:])
            if count > _MOST:
                raise ValueError(
                    f"Expected argument `samples` to be a number for inputs of {count} coordinates: "
                    "None asks the model twice for each of them."
                )
        noise, seed = self._directions(center)
        probe = self._probe(center, noise)
        differences = []
        with torch.no_grad():
            value = self.model(center.clone())
            if not isinstance(value, Tensor) or value.ndim < 1 or len(value) != len(x):
                return value  # the attack says what is wrong with it
            for k in range(count):
                # What a model draws inside, such as dropout in training mode, is the same ahead and behind.
                sides = []
                for side in probe(k):
                    with own_random_stream((seed << 20) + k, x.device):
                        sides.append(self.model(side).to(torch.promote_types(value.dtype, torch.float32)))
                differences.append((sides[1] - sides[0]).reshape(len(x), -1))
        # Where the model breaks down nearby, nothing is known of its slope.
        slopes = torch.stack(differences, 1).nan_to_num_(0.0, 0.0, 0.0)
        if self._estimate.samples is not None:
            slopes /= count
        moved = (_Along.apply(x, probe, count)[:, :, None] * slopes).sum(1)
        return value + moved.reshape(value.shape).to(value.dtype)

    def _probe(self, x: Tensor, noise: Noise) -> Probe:
        width, random, shape = self._estimate.width, self._estimate.samples is not None, tuple(x.shape[1:])

        def probe(k: int) -> tuple[Tensor, Tensor]:
            if random:
                step = torch.where(noise.uniform(shape, k) < 0.5, -width, width).to(x.dtype)
            else:
                step = torch.zeros(math.prod(shape), dtype=x.dtype, device=x.device)
                step[k] = width
                step = step.reshape(shape)
            return x - step, x + step

        return probe


@dataclass(frozen=True)
class FiniteDifferences(Combined):
    """An attack whose gradients are estimated, see `finite_differences`."""

    attack: Attack
    width: float
    samples: int | None = 32
    seed: int = 0

    def __post_init__(self) -> None:
        samples = self.samples
        set_fields(
            self,
            width=_checks.number("width", self.width, 0, above=True),
            samples=None if samples is None else _checks.count("samples", samples),
            seed=_checks.seed("seed", self.seed),
        )

    def brief(self) -> Attack | None:
        """With one direction."""
        attack = self.attack.brief()
        return None if attack is None else replace(self, attack=attack, samples=1)

    def run(self, model: Model, x: Tensor, y: Any, context: Context = NO_CONTEXT) -> Outcome:
        """Run the attack on the model with estimated gradients."""
        with torch.inference_mode(False):
            noise = Noise.of(ordinary(x), self.seed, context.key)
        return self.attack.run(_Estimated(model, self, noise, context.key), x, y, context)


def finite_differences(attack: Any, width: float, *, samples: int | None = 32, seed: int = 0) -> FiniteDifferences:
    r"""Let any attack use numerical gradients of the model, for networks that mask their own.

    .. math:: v^\top J \approx \frac1S \sum_{k=1}^S
              \frac{\langle v, f(x + h u_k)\rangle - \langle v, f(x - h u_k)\rangle}{2h}\, u_k,
              \qquad u_k \in \{-1, 1\}^d \text{ at random}

    Simultaneous perturbation, SPSA (Spall, IEEE Transactions on Automatic Control 1992), with which Uesato et al. (ICML
    2018) attack networks of masked gradients. The gradient with respect to the model's input is estimated; what lies
    before it (a decoder, an affine map) is differentiated as ever.

    Use it where parts of a network have no gradient or a misleading one: thresholds, rounding, saturation. A width
    that is larger than the flat zone sees across it. Where it finds more than the attack by itself, the robust accuracy
    under that was too optimistic. (On scikit-learn's digits, a network with thresholds 0.1 above black and below white
    kept 14.5 % under 20 steps of PGD of radius 0.2, and with a width of 0.15 11.5 % with 32 signs, 3.5 % with 128,
    0.5 % with all 64 coordinates, as through `Bpda`.)

    In an input of d numbers the mean over S signs has a cosine of about :math:`\sqrt{S / (S + d)}` with the gradient:
    take many samples or many steps. Each step costs 1 + 2 S forwards, the probes leave the range of images by up to the
    width, and with logits in half precision the width must be large enough to change them.

    Uesato et al. take Adam, which is `PGD(rule=Adam(...))` here.

    Args:
        attack: What uses the gradients, such as `PGD(threat)`, or a function `(model, x, y) -> x_adv`.
        width: h, in units of the model's input.
        samples: S, the number of directions. None: all coordinates one after the other, which is exact on linear and
            quadratic models, for inputs of few dimensions.
        seed: Of the directions, together with the content of each sample and the key of the call.

    Example:
        >>> from lightning_robust.attacks import PGD, Linf
        >>> def rounded(x):  # whose gradient is zero
        ...     total = (x * 10).round().sum(1)
        ...     return torch.stack([10.5 - total, total - 10.5], 1)
        >>> x, y = torch.full((1, 4), 0.25), torch.tensor([0])
        >>> attack = PGD(Linf(0.1))
        >>> rounded(attack(rounded, x, y)).argmax(1)
        tensor([0])
        >>> rounded(finite_differences(attack, width=0.1)(rounded, x, y)).argmax(1)
        tensor([1])
    """
    return FiniteDifferences(as_attack(attack), width, samples, seed)
