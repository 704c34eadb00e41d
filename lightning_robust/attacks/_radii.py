"""Step rules that look for the nearest misclassified perturbation: the radius of each sample moves with its steps."""

import math
from abc import abstractmethod
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_robust import _checks
from lightning_robust.attacks._sparse import project_within
from lightning_robust.attacks._tensors import column, dims, set_fields
from lightning_robust.attacks.rules import Iterate, Rule


class Nearest(NamedTuple):
    """What is remembered per sample, all in shares of the radius of the ball.

    share: (N,) the present radius. norm: (N,) the least norm that fooled the model, infinite where none did. delta:
    (N, ...) the perturbation of that norm. found: (N,) has the run itself found it? far: (N,) was it given up?
    """

    share: Tensor
    norm: Tensor
    delta: Tensor
    found: Tensor
    far: Tensor


def falling(first: float, last: float, at: Iterate) -> float:
    """From `first` to `last` along half a cosine."""
    return last + (first - last) * (1 + math.cos(math.pi * at.step / at.steps)) / 2


def unit(grad: Tensor) -> Tensor:
    """The gradient of each sample divided by its Euclidean norm; zero stays."""
    norm = torch.linalg.vector_norm(grad, dim=dims(grad), keepdim=True)
    return grad / torch.where(norm > 0, norm, torch.ones_like(norm))


def shares(at: Iterate, value: Tensor) -> Tensor:
    """Norms (N,) as shares of the radius of the ball."""
    return value / torch.as_tensor(at.ball.radius, dtype=value.dtype, device=value.device).clamp_min(1e-30)


@dataclass(frozen=True)
class NearestRule(Rule):
    """What the rules here share: they keep the nearest misclassified perturbation, and the last step returns it.

    Args:
        below: (N,) norms at which the samples are known to be misclassified: only less is of interest.
    """

    below: Tensor | None = field(default=None, repr=False, compare=False, kw_only=True)

    def __post_init__(self) -> None:
        if self.below is not None:
            _checks.instance("below", self.below, Tensor, "a tensor (N,) of norms, or None")

    def init(self, at: Iterate) -> Nearest:
        """Nothing was found yet."""
        most = torch.full_like(at.gain, math.inf)
        norm = most if self.below is None else shares(at, self.below.to(most))
        none = torch.zeros_like(at.gain, dtype=torch.bool)
        return Nearest(norm, norm, at.delta, none, none)

    def __call__(self, at: Iterate, state: Nearest) -> tuple[Tensor, Nearest]:
        """Look at the present perturbation, then step."""
        if at.fooled is None:
            raise ValueError(
                f"Expected labels that tell when a sample is misclassified, for {type(self).__name__} looks for the "
                "nearest such point. Say what is right: correct=(output, y) -> (N,) bool."
            )
        norm = shares(at, at.ball.norm(at.delta))
        closer = at.fooled & (norm < state.norm)
        state = state._replace(
            norm=torch.where(closer, norm, state.norm),
            delta=torch.where(column(closer, at.delta), at.delta, state.delta),
            found=state.found | closer,
        )
        moved, share = self.step(at, state, norm)
        if self.below is not None:
            factor = self.factor(at)
            if factor is not None:
                linear = norm + at.gain.abs() / steepest_rise(at)
                state = state._replace(far=state.far | (~state.found & (linear > factor * state.norm)))
            moved = torch.where(column(state.far, moved), at.delta, moved)  # where samples cannot leave they stay
        if at.step == at.steps - 1:
            moved = torch.where(column(state.found, moved), state.delta, moved)
            state = state._replace(delta=moved)
        return moved, state._replace(share=share)

    @abstractmethod
    def step(self, at: Iterate, state: Nearest, norm: Tensor) -> tuple[Tensor, Tensor]:
        """The next perturbation, and the next radius (N,); `norm` (N,) is that of the present one."""

    def factor(self, at: Iterate) -> float | None:
        """How many times the least radius known the boundary may be away, to first order; None: it is not asked now."""
        return None

    def over(self, at: Iterate, state: Nearest) -> Tensor | None:
        """Those whose boundary is too far."""
        return None if self.below is None or self.factor(at) is None else state.far

    def result(self, state: Nearest) -> Tensor:
        """The nearest misclassified perturbation; the last one where none was."""
        return state.delta


def furthest(at: Iterate) -> Tensor:
    """(N,) the norm of the furthest corner of the bounds, as a share of the radius; 1 at most."""
    chart = at.chart
    if chart.lower is None or chart.upper is None:
        return torch.ones_like(at.gain)
    corner = torch.maximum(-chart.lower, chart.upper).nan_to_num(posinf=3e38)
    return shares(at, at.ball.norm(corner)).clamp(max=1)


@dataclass(frozen=True)
class DDN(NearestRule):
    r"""Decoupled direction and norm (Rony et al., CVPR 2019, algorithm 1), for class labels.

    .. math:: \epsilon \leftarrow (1 \mp \gamma)\,\epsilon, \qquad \delta \leftarrow \epsilon\,\frac{\delta + \alpha g /
        \|g\|_2}{\|\delta + \alpha g / \|g\|_2\|}

    The radius falls where the sample is misclassified and grows elsewhere; :math:`\alpha` falls from 1 to 0.01 along a
    cosine. Raise the cross entropy, from the clean input. In units of images in [0, 1], whatever the radius of the
    ball, which only bounds the search. Where the gradient is zero nothing moves; the authors draw a direction.

    Args:
        gamma: By which share the radius changes.
        first: The first radius.
        levels: Number of levels to which images are rounded in each step; None: they are not.
    """

    gamma: float = 0.05
    first: float = 1.0
    levels: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        set_fields(
            self,
            gamma=_checks.number("gamma", self.gamma, 0, 1, above=True, below=True),
            first=_checks.number("first", self.first, 0, above=True),
            levels=None if self.levels is None else _checks.count("levels", self.levels, 2),
        )

    def step(self, at: Iterate, state: Nearest, norm: Tensor) -> tuple[Tensor, Tensor]:
        """Step along the gradient, then onto the new sphere."""
        assert at.grad is not None
        assert at.fooled is not None
        share = state.share
        if at.step == 0:
            share = torch.minimum(share, shares(at, torch.full_like(norm, self.first)))
        share = torch.minimum(share * torch.where(at.fooled, 1 - self.gamma, 1 + self.gamma), furthest(at))
        moved = at.delta + falling(1, 0.01, at) * unit(at.grad)
        length = shares(at, at.ball.norm(moved))
        moved = at.chart.clip(moved * column(share / torch.where(length > 0, length, 1.0), moved))
        lower, upper = at.chart.lower, at.chart.upper
        if self.levels is not None and lower is not None and upper is not None:
            width = (upper - lower) / (self.levels - 1)
            width = torch.where(width > 0, width, torch.ones_like(width))
            moved = ((moved - lower) / width).round() * width + lower
        return moved, share


@dataclass(frozen=True)
class FMN(NearestRule):
    r"""Fast minimum-norm steps (Pintor et al., NeurIPS 2021, algorithm 1), for every ball.

    .. math:: \delta \leftarrow \Pi_{\epsilon}\big(\delta + \alpha\,g / \|g\|_2\big)

    Until the model is fooled, the radius is that at which a linear model would be, :math:`\epsilon = \|\delta\| +
    |G| / \|g\|_*`. Then it falls by the share :math:`\gamma` where the sample is misclassified, to the least that
    fooled at most, and grows by it elsewhere. :math:`\alpha` (in the units of the space) and :math:`\gamma` fall along
    a cosine. Raise `margin`, which is zero at the boundary, from the clean input.

    Args:
        size: First and last :math:`\alpha`.
        gamma: First and last :math:`\gamma`.
    """

    size: tuple[float, float] = (1.0, 0.01)
    gamma: tuple[float, float] = (0.05, 0.001)

    def __post_init__(self) -> None:
        super().__post_init__()
        _set_pairs(self, "size", "gamma")

    def step(self, at: Iterate, state: Nearest, norm: Tensor) -> tuple[Tensor, Tensor]:
        """Change the radius, step, project."""
        assert at.grad is not None
        assert at.fooled is not None
        gamma = falling(*self.gamma, at)
        linear = norm + at.gain.abs() / steepest_rise(at)
        known = torch.where(state.norm.isfinite(), state.share * (1 + gamma), linear)
        share = torch.where(at.fooled, torch.minimum(state.share * (1 - gamma), state.norm), known)
        share = torch.minimum(share, furthest(at))
        moved = at.delta + falling(*self.size, at) * unit(at.grad)
        return at.chart.clip(at.ball.scaled(share).project(moved)), share  # type: ignore[arg-type]


@dataclass(frozen=True)
class Boundary(NearestRule):
    r"""Steepest steps in a ball whose radius follows the boundary by Newton's method; the default of `MinimumNorm`.

    A linear model would be at the boundary at the radius :math:`\epsilon^* = \|\delta\| \mp |G| / \|g\|_*`, with the
    dual norm of the ball; minus where the sample is misclassified. The radius goes a little beyond, but changes by the
    share :math:`\gamma` at most, and stays below the least that fooled.
    The step has the length :math:`\alpha\,\epsilon` and is the steepest one of the ball. :math:`\alpha` and
    :math:`\gamma` fall along a cosine. Raise a gain that is zero at the boundary (`margin`, or `targeted_margin`, with
    which it finds more), from the clean input.

    A sample that is misclassified at a known norm, `below`, is given up where the boundary of this gain is much
    farther: where :math:`\epsilon^*` is more than `far` times that norm and the run has fooled the model nowhere.

    Args:
        size: First and last :math:`\alpha`; None: 2 and 0.02, in balls with sparse steps 0.5 and 0.02.
        gamma: First and last :math:`\gamma`.
        far: The factor in the first step, and the one after a sixth of the steps; None: no sample is given up. On
            three robust networks of ten classes it spares the nine targets of `MinimumNorm` 58 to 70 % of their passes.
            The radii in the L2 and Linf balls were the same, the mean in the L1 ball 0.4 % larger.
    """

    size: tuple[float, float] | None = None
    gamma: tuple[float, float] = (0.3, 0.003)
    far: tuple[float, float] | None = (3.0, 1.5)

    def __post_init__(self) -> None:
        super().__post_init__()
        _set_pairs(self, "gamma", *(name for name in ("size", "far") if getattr(self, name) is not None))

    def factor(self, at: Iterate) -> float | None:
        """The two of `far`, each in its step."""
        return None if self.far is None else {at.steps // 6: self.far[1], 0: self.far[0]}.get(at.step)

    def step(self, at: Iterate, state: Nearest, norm: Tensor) -> tuple[Tensor, Tensor]:
        """Change the radius, step, project."""
        assert at.grad is not None
        assert at.fooled is not None
        gamma = falling(*self.gamma, at)
        size = falling(*(self.size or (0.5 if at.ball.sparse else 2.0, 0.02)), at)
        # The sign is that of the verdict: gains such as cross entropy are not zero at the boundary.
        gap = torch.where(at.fooled, at.gain.abs(), -at.gain.abs()) / steepest_rise(at)
        share = (norm - gap) * (1.002 + gamma / 10)
        if at.step:
            share = torch.minimum(torch.maximum(share, state.share * (1 - gamma)), state.share * (1 + gamma))
        share = torch.where(at.fooled, torch.minimum(share, norm * (1 - gamma / 2)), share)
        share = torch.minimum(share, 0.9995 * state.norm).clamp(0, 1)
        length = column(size * share, at.delta)
        room = at.chart.room(at.delta, at.grad) / length.clamp_min(1e-12) if at.ball.wants_room else None
        moved = at.delta + length * at.ball.support(at.grad, 1.0, room)
        return project_within(moved, at.ball.scaled(share), at.chart), share  # type: ignore[arg-type]


def steepest_rise(at: Iterate) -> Tensor:
    """(N,) the dual norm of the gradient: by how much a linear gain rises within the ball."""
    assert at.grad is not None
    return (at.grad * at.ball.support(at.grad)).sum(dims(at.grad)).to(at.gain).clamp_min(1e-37)


def _set_pairs(rule: Rule, *names: str) -> None:
    """Check that fields are pairs of positive numbers."""
    for name in names:
        pair = _checks.sequence(name, getattr(rule, name), "a pair of positive numbers", 2)
        set_fields(rule, **{name: tuple(_checks.number(name, value, 0, above=True) for value in pair)})
