"""The one list of balls, spaces, gains and attacks that the laws are tested on, and small models to attack.

A new ball joins `BALLS`, a new space `SPACES`, a new gain `GAINS`, a new attack `ATTACKS`: it inherits every law.
"""

import itertools
import math
import random
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from lightning_robust.attacks import (
    DDN,
    FMN,
    L1,
    L2,
    PGD,
    Adam,
    AffineSpace,
    Anchored,
    Attack,
    Ball,
    Box,
    GridSearch,
    LatentSpace,
    Linf,
    MinimumNorm,
    PixelSpace,
    RandomPerturbation,
    RandomSearch,
    Space,
    Square,
    Steepest,
    Threat,
    apgd,
    as_attack,
    bim,
    carlini_wagner,
    confident_margin,
    cross_entropy,
    divergence,
    dlr,
    fast,
    fgsm,
    finite_differences,
    in_turn,
    least_likely,
    log_odds,
    margin,
    mim,
    normalized,
    on_fraction,
    pgd_cw,
    restarted,
    rs_fgsm,
    stutz,
    targeted,
    targeted_dlr,
    targeted_margin,
    worst_of,
)
from lightning_robust.attacks.starts import norm_uniform
from tests.outsider import Directions, Halves, Halving, Line, mean_gap

C, H, W, K, Z = 3, 6, 6, 5, 7
SHAPE = (C, H, W)
Size = float | Tensor


# ---------------------------------------------------------------------------------------------------- balls


class BallCase(NamedTuple):
    """A ball, and independent formulas of its norm and of the dual norm, by which everything else is judged."""

    make: Callable[[tuple[int, ...], Size], Ball]  # (shape of a perturbation, size) -> ball
    radius: Callable[[tuple[int, ...]], float]  # the radius at size 1
    norm: Callable[[Tensor], Tensor]  # (N, ...) -> (N,), in units where the ball of size 1 is radius(shape)
    dual: Callable[[Tensor], Tensor]  # (N, ...) -> (N,), max <g, v> over the ball of size 1


def widths(shape: tuple[int, ...]) -> Tensor:
    """Half-widths from 0.1 to 1."""
    return torch.linspace(0.1, 1, math.prod(shape)).reshape(shape)


def _vector_norm(order: float) -> Callable[[Tensor], Tensor]:
    return lambda g: torch.linalg.vector_norm(g.flatten(1), order, dim=1)


def _box_norm(delta: Tensor) -> Tensor:
    w = widths(tuple(delta.shape[1:])).to(delta).expand_as(delta)
    return torch.where(delta == 0, 0.0, delta.abs() / w).flatten(1).amax(1)


def _halves(delta: Tensor) -> Tensor:
    """(N, 2): the Euclidean norms of the first half of the coordinates and of the second."""
    flat = delta.flatten(1)
    middle = flat.shape[1] // 2
    return torch.stack([flat[:, :middle].square().sum(1).sqrt(), flat[:, middle:].square().sum(1).sqrt()], 1)


BALLS: dict[str, BallCase] = {
    "Linf": BallCase(lambda s, r: Linf(r), lambda s: 1.0, _vector_norm(math.inf), _vector_norm(1)),
    "L2": BallCase(lambda s, r: L2(3 * r), lambda s: 3.0, _vector_norm(2), lambda g: 3 * _vector_norm(2)(g)),
    "L1": BallCase(lambda s, r: L1(2 * r), lambda s: 2.0, _vector_norm(1), lambda g: 2 * _vector_norm(math.inf)(g)),
    "Box": BallCase(
        lambda s, r: Box(widths(s), r),
        lambda s: 1.0,
        _box_norm,
        lambda g: (widths(tuple(g.shape[1:])).to(g) * g.abs()).flatten(1).sum(1),
    ),
    "Halves": BallCase(
        lambda s, r: Halves(2 * r),
        lambda s: 2.0,
        lambda d: _halves(d).amax(1),
        lambda g: 2 * _halves(g).sum(1),
    ),
}


# --------------------------------------------------------------------------------------------------- spaces


class Plane(nn.Module):
    """A linear manifold with a dropout that must be off, a weight that must stay trainable: x = 0.5 + z A [+ shift]."""

    def __init__(self, bounds: tuple[float, float] | None = None) -> None:
        super().__init__()
        basis = torch.randn(Z, math.prod(SHAPE), generator=torch.Generator().manual_seed(1)) / 20
        self.weight = nn.Parameter(basis)
        self.dropout = nn.Dropout(0.5)
        self.register_buffer("center", torch.tensor(0.5))
        self.bounds = None if bounds is None else (torch.full((Z,), bounds[0]), torch.full((Z,), bounds[1]))

    def encode(self, x: Tensor, y: Tensor) -> Tensor:
        wide = x.double() if x.dtype == torch.float64 else x.float()
        return (wide - self.center).flatten(1) @ torch.linalg.pinv(self.weight.to(wide.dtype))

    def decode(self, z: Tensor, y: Tensor, *fixed: Tensor) -> Tensor:
        x = self.center + (self.dropout(z) @ self.weight.to(z.dtype)).reshape(-1, *SHAPE)
        return x + sum(fixed) if fixed else x


NORMALIZED = PixelSpace(mean=(0.5, 0.4, 0.3), std=(0.25, 0.2, 0.3))


def _normalize(x: Tensor) -> Tensor:
    mean, std = (torch.tensor(v, dtype=x.dtype).reshape(1, C, 1, 1) for v in (NORMALIZED.mean, NORMALIZED.std))
    return (x - mean) / std


def _codes(x: Tensor) -> Tensor:
    """Codes that belong to the sample: the same alone as in a batch."""
    return x.flatten(1)[:, :Z].float() * 1.6 - 0.8


class SpaceCase(NamedTuple):
    """A space, the shape of its perturbations, a size for its balls, and how a batch of images in [0, 1] gets there."""

    space: Space
    shape: tuple[int, ...]
    size: float
    inputs: Callable[[Tensor], Tensor] = lambda x: x
    code: Callable[[Tensor], Any] = lambda x: None


SPACES: dict[str, SpaceCase] = {
    "pixels": SpaceCase(PixelSpace(), SHAPE, 0.1),
    "bytes": SpaceCase(PixelSpace(0, 255), SHAPE, 25.0, lambda x: 255 * x),
    "normalized": SpaceCase(NORMALIZED, SHAPE, 0.1, _normalize),
    "latent": SpaceCase(LatentSpace(Plane()), (Z,), 0.5),
    "latent_code": SpaceCase(LatentSpace(Plane((-0.9, 0.9))), (Z,), 0.5, code=_codes),
    "latent_tuple": SpaceCase(
        LatentSpace(Plane(), bounds=(-1, 1)),
        (Z,),
        0.5,
        code=lambda x: (_codes(x), x.flatten(1)[:, :1, None, None] / 50),
    ),
    "affine": SpaceCase(AffineSpace(), (6,), 0.2),
    "directions": SpaceCase(Directions(4, math.prod(SHAPE)), (4,), 0.5),
    "line": SpaceCase(LatentSpace(Line(SHAPE)), (3,), 0.5),
}
PIXEL_SPACES = [name for name, case in SPACES.items() if isinstance(case.space, PixelSpace)]


def threat_of(ball: str, space: str, size: Size = 1.0) -> Threat:
    """The threat of one ball and one space of the lists."""
    case = SPACES[space]
    return Threat(BALLS[ball].make(case.shape, case.size * size), case.space)


_SOME = {
    "bytes": ("Linf", "L1"),
    "normalized": ("Linf", "L2", "L1"),
    "latent": ("Linf", "L2"),
    "latent_code": ("Linf", "Box"),
    "directions": ("Linf", "Halves"),
    "line": ("L2", "L1"),
}
THREATS: dict[str, tuple[str, str]] = {
    f"{space}-{ball}": (ball, space) for space in SPACES for ball in _SOME.get(space, BALLS)
}
"""Every ball in pixels, in codes and in affine maps; some in spaces that differ little from these."""


# ---------------------------------------------------------------------------------------- gains and attacks

GAINS: dict[str, Any] = {
    "log_odds": log_odds,
    "cross_entropy": cross_entropy,
    "margin": margin,
    "confident_margin": confident_margin(20.0),
    "dlr": dlr,
    "divergence": divergence,
    "targeted": targeted(margin),
    "targeted_constant": targeted(log_odds, to=2),
    "targeted_least_likely": targeted(cross_entropy, to=least_likely),
    "targeted_dlr": targeted_dlr(2),
    "targeted_margin": targeted_margin(2),
    "normalized": normalized(cross_entropy),
    "mean_gap": mean_gap,
    "anchored": Anchored(lambda logits, anchor: (logits - anchor).square().sum(1), lambda logits, y: logits, flat=True),
}


def foreign(model: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
    """A guest with bad manners, such as are found in the wild: what it breaks must be put back."""
    if isinstance(model, nn.Module):
        model.train()
        model.zero_grad()
    x.requires_grad = True
    noise = torch.rand_like(x) + float(np.random.rand()) + random.random()  # noqa: NPY002
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    return (x + 0.03 * (x.grad + 1e-3 * noise).sign()).clamp(0, 1)


class AttackCase(NamedTuple):
    """An attack and the space whose batches it wants; `alone`: does it by its nature treat every sample alone?"""

    attack: Attack
    space: str = "pixels"
    alone: bool = True


_LINF = Linf(0.1)
ATTACKS: dict[str, AttackCase] = {
    **{name: AttackCase(PGD(threat_of(*pair), steps=3), pair[1]) for name, pair in THREATS.items()},
    **{f"gain_{name}": AttackCase(PGD(_LINF, steps=3, gain=gain)) for name, gain in GAINS.items()},
    "center": AttackCase(PGD(_LINF, steps=3, random_start=False)),
    "best": AttackCase(PGD(_LINF, steps=3, keep="best")),
    "restarts": AttackCase(PGD(L2(1.0), steps=3, restarts=3)),
    "early_stop": AttackCase(PGD(_LINF, steps=5, early_stop=True)),
    "early_stop_best": AttackCase(PGD(_LINF, steps=3, early_stop=True, restarts=2, keep="best")),
    "momentum": AttackCase(PGD(_LINF, steps=3, rule=Steepest(momentum=0.9))),
    "halving": AttackCase(PGD(_LINF, steps=3, rule=Halving(1))),
    "adam": AttackCase(PGD(_LINF, steps=3, rule=Adam(0.01))),
    "apgd": AttackCase(apgd(_LINF, steps=5)),
    "apgd_l2": AttackCase(apgd(L2(1.0), steps=5, restarts=2)),
    "apgd_l1": AttackCase(apgd(L1(3.0), steps=5, restarts=2)),
    "apgd_latent": AttackCase(apgd(threat_of("L2", "latent_tuple"), steps=5), "latent_tuple"),
    "apgd_line": AttackCase(apgd(threat_of("L1", "line"), steps=5), "line"),
    "minimum_norm": AttackCase(MinimumNorm(_LINF, steps=3, targets=2)),
    "minimum_norm_ddn": AttackCase(MinimumNorm(L2(1.0), steps=3, gain=cross_entropy, rule=DDN(levels=256))),
    "minimum_norm_fmn": AttackCase(MinimumNorm(L1(3.0), steps=3, gain=margin, rule=FMN(), early_stop=True)),
    "minimum_norm_latent": AttackCase(MinimumNorm(threat_of("L2", "latent_tuple"), 3, targets=2), "latent_tuple"),
    "fgsm": AttackCase(fgsm(_LINF)),
    "rs_fgsm": AttackCase(rs_fgsm(_LINF)),
    "bim": AttackCase(bim(_LINF, 3)),
    "mim": AttackCase(mim(_LINF, 3)),
    "stutz": AttackCase(stutz(_LINF, steps=3, restarts=2)),
    "stutz_latent": AttackCase(stutz(threat_of("Linf", "latent_tuple"), steps=3, restarts=2), "latent_tuple"),
    "pgd_cw": AttackCase(pgd_cw(L2(1.0), steps=3)),
    "carlini_wagner": AttackCase(carlini_wagner(_LINF, steps=3, lr=0.03)),
    "carlini_wagner_latent": AttackCase(carlini_wagner(threat_of("L2", "latent_tuple"), steps=3), "latent_tuple"),
    "zero_radius": AttackCase(PGD(L2(0.0), steps=2)),
    "worst_of": AttackCase(worst_of(PGD(_LINF, steps=2), PGD(L2(1.0), steps=2, keep="best"), fgsm(L1(3.0)))),
    "restarted": AttackCase(restarted(PGD(_LINF, steps=2), 2)),
    "on_fraction": AttackCase(on_fraction(PGD(_LINF, steps=2), 0.5), alone=False),
    "in_turn": AttackCase(in_turn(PGD(_LINF, steps=2), PGD(L2(1.0), steps=2)), alone=False),
    "train_mode": AttackCase(PGD(_LINF, steps=3, mode="train"), alone=False),
    "grid_search": AttackCase(GridSearch(threat_of("Linf", "affine"), points=2, random_points=3), "affine"),
    "grid_search_latent": AttackCase(
        GridSearch(threat_of("L2", "latent_code"), points=(3, 3, 1, 1, 1, 1, 2)), "latent_code"
    ),
    "grid_search_random": AttackCase(GridSearch(L1(0.2), points=1, random_points=3)),
    "random_search": AttackCase(RandomSearch(_LINF, queries=8)),
    "random_search_log_odds": AttackCase(RandomSearch(_LINF, queries=8, gain=log_odds, seed=3)),
    "square_search": AttackCase(
        PGD(_LINF, steps=8, rule=Square(), gain=targeted_margin(), random_start=False, early_stop=True)
    ),
    "square_search_restarts": AttackCase(PGD(L2(1.0), steps=4, rule=Square(), gain=margin, keep="best", restarts=2)),
    **{
        f"random_search_{space}": AttackCase(RandomSearch(threat_of(ball, space), queries=8), space)
        for ball, space in (
            ("L2", "latent_tuple"),
            ("L1", "bytes"),
            ("L2", "normalized"),
            ("Box", "affine"),
            ("Halves", "directions"),
        )
    },
    **{
        f"random_perturbation_{space}": AttackCase(RandomPerturbation(threat_of(ball, space)), space)
        for ball, space in (("Linf", "pixels"), ("L1", "normalized"), ("L2", "latent"), ("Box", "latent_tuple"))
    },
    "random_perturbation_affine": AttackCase(
        RandomPerturbation(threat_of("Linf", "affine"), start=norm_uniform), "affine"
    ),
    "worst_of_random": AttackCase(restarted(RandomPerturbation(_LINF), 3)),
    "differences": AttackCase(finite_differences(PGD(_LINF, steps=3), 0.1, samples=3)),
    "differences_exact": AttackCase(finite_differences(PGD(L2(1.0), steps=1), 1e-2, samples=None)),
    "differences_latent": AttackCase(
        finite_differences(PGD(threat_of("L2", "latent_tuple"), steps=2, restarts=2), 0.1, samples=3), "latent_tuple"
    ),
    "differences_affine": AttackCase(finite_differences(PGD(threat_of("Linf", "affine"), steps=2), 0.1), "affine"),
    "differences_stopped": AttackCase(
        finite_differences(PGD(_LINF, steps=5, restarts=2, early_stop=True), 0.1, samples=2)
    ),
    "differences_of_worst": AttackCase(
        finite_differences(worst_of(RandomSearch(_LINF, queries=4), PGD(_LINF, steps=2)), 0.1, samples=2)
    ),
    "differences_in_turn": AttackCase(
        finite_differences(in_turn(PGD(_LINF, steps=2), PGD(L2(1.0), steps=2)), 0.1, samples=2), alone=False
    ),
    "differences_foreign": AttackCase(finite_differences(foreign, 0.1, samples=2), alone=False),
    "fast": AttackCase(fast(PGD(_LINF, steps=3), compile="eager", channels_last=True)),
    "fast_latent": AttackCase(fast(PGD(threat_of("Linf", "latent_tuple"), steps=3), compile="eager"), "latent_tuple"),
    "fast_bf16": AttackCase(fast(PGD(_LINF, steps=3, keep="best"), precision="bf16")),
    "foreign": AttackCase(as_attack(foreign), alone=False),
    "restarted_foreign": AttackCase(restarted(foreign, 2), alone=False),
}


# ------------------------------------------------------------------------------------------ data and models


class Batch(NamedTuple):
    """What an attack is called with."""

    x: Tensor
    y: Tensor
    code: Any = None

    def __getitem__(self, index: Any) -> "Batch":  # type: ignore[override]
        code = self.code
        part = tuple(c[index] for c in code) if isinstance(code, tuple) else code if code is None else code[index]
        return Batch(self.x[index], self.y[index], part)


def images(n: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """(n, C, H, W) random images, of whose pixels about a third are exactly 0 or 1."""
    u = torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (1.5 * u - 0.25).clamp(0, 1).to(dtype)


def batch(space: str = "pixels", n: int = 6, seed: int = 0, dtype: torch.dtype = torch.float32) -> Batch:
    """A batch for the attacks of a space."""
    case, x = SPACES[space], images(n, seed, dtype)
    code = case.code(x)
    if code is not None and dtype == torch.float64:
        code = tuple(c.double() for c in code) if isinstance(code, tuple) else code.double()
    return Batch(case.inputs(x).to(dtype), torch.arange(n) % K, code)


def net(seed: int = 0, dtype: torch.dtype = torch.float32) -> nn.Sequential:
    """A network with all that an attack may disturb: statistics, a frozen BatchNorm, dropout, gradients, flags."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = nn.Sequential(
            nn.Conv2d(C, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.Softplus(),
            nn.Dropout(0.2),
            nn.Sequential(nn.Conv2d(6, 6, 3), nn.BatchNorm2d(6), nn.InstanceNorm2d(6, track_running_stats=True)),
            nn.Softplus(),
            nn.Flatten(),
            nn.Linear(6 * 4 * 4, K),
        ).to(dtype)
        for name, buffer in model.named_buffers():
            if "num_batches" not in name:
                buffer.copy_(torch.rand_like(buffer) + 0.5)
        for p in model.parameters():
            p.grad = torch.randn_like(p)
    model[4][1].eval()
    model[4][1].requires_grad_(False)
    model[0].weight.grad = None
    return model


class Recurrent(nn.Module):
    """Rows of the image through an LSTM; cuDNN wants it in training mode for gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(C * W, 8, batch_first=True)
        self.dropped = nn.GRU(8, 8, num_layers=2, dropout=0.5, batch_first=True)
        self.head = nn.Linear(8, K)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.transpose(1, 2).flatten(2)
        return self.head(self.dropped(self.lstm(rows)[0])[0][:, -1])


class Classes(nn.Module):
    """Logits that are linear with weights of their own for each class, times a scale.

    The exact robust accuracy in a maximum-norm ball within [0, 1] is known: a sample is robust if no single class can
    overtake its own.
    """

    def __init__(self, classes: int, scale: float = 1.0, d: int = math.prod(SHAPE)) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight, self.scale = nn.Parameter(torch.randn(classes, d, generator=generator)), scale

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * (x.flatten(1) @ self.weight.T)

    def robust(self, x: Tensor, y: Tensor, eps: float) -> Tensor:
        """(N,) bool, exactly."""
        flat, w = x.flatten(1), self.weight.detach()
        low, high = (-flat).clamp(min=-eps), (1 - flat).clamp(max=eps)
        z = flat @ w.T
        robust = torch.ones(len(x), dtype=torch.bool)
        for k in range(len(w)):
            direction = w[k] - w[y]
            reach = (direction * torch.where(direction > 0, high, low)).sum(1) + z[:, k] - z.gather(1, y[:, None])[:, 0]
            robust &= (reach <= 0) | (y == k)
        return robust


class Linear(nn.Module):
    """Logits z_j = slope_j <w, x> of one number <w, x>: whatever raises it, or lowers it, is the optimal attack."""

    def __init__(self, w: Tensor, slopes: tuple[float, ...] = (0.0, 1.0)) -> None:
        super().__init__()
        self.w, self.slopes = nn.Parameter(w.clone()), slopes

    def forward(self, x: Tensor) -> Tensor:
        return (x.flatten(1) @ self.w.flatten())[:, None] * x.new_tensor(self.slopes)


def class_scores(x: Tensor) -> Tensor:
    """A smooth model without parameters in any precision, (N, C, H, W) -> (N, K)."""
    weight = torch.sin(torch.arange(K * math.prod(x.shape[1:]), dtype=torch.float64)).reshape(K, -1)
    return torch.tanh(x.flatten(1)) @ weight.to(x.dtype).T


# -------------------------------------------------------------------------------------------------- law one


def _bits(tensor: Tensor | None) -> bytes | None:
    """The content of a tensor, so that NaN equals itself and -0 is not 0."""
    return None if tensor is None else tensor.detach().clone().contiguous().view(torch.uint8).numpy().tobytes()


def _content(tensor: Tensor | None) -> tuple[int, bytes | None] | None:
    if tensor is None:
        return None
    flat = tensor.detach().clone().reshape(-1)
    return id(tensor), _bits(flat)


def state_of(*modules: nn.Module | None) -> dict[str, Any]:
    """Everything that law 1 wants unchanged: of the modules, and of the process."""
    state: dict[str, Any] = {
        "torch stream": torch.get_rng_state().numpy().tobytes(),
        "numpy stream": str(np.random.get_state()),  # noqa: NPY002
        "python stream": random.getstate(),
        "grad mode": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "autocast": (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")),
        "autocast cache": torch.is_autocast_cache_enabled(),
    }
    for module in (m for m in modules if m is not None):
        for name, child in module.named_modules():
            state[f"flag of {name}"] = child.training
            for key, buffer in child._buffers.items():
                state[f"buffer {name}.{key}"] = _content(buffer)
        for name, p in module.named_parameters():
            state[f"parameter {name}"] = (_content(p), p.requires_grad)
            state[f"gradient {name}"] = _content(p.grad)
    return state


@contextmanager
def unchanged(*modules: nn.Module | None):
    """Assert that what happens inside leaves the modules and the process as they were, bit for bit."""
    before = state_of(*modules)
    yield
    after = state_of(*modules)
    assert before.keys() == after.keys()
    changed = [name for name in before if before[name] != after[name]]
    assert not changed, f"changed: {changed}"


def manifold_of(space: str) -> nn.Module | None:
    """The network behind a space of the list, if any."""
    kept = [value for value in vars(SPACES[space].space).values() if isinstance(value, nn.Module)]
    return kept[0] if kept else None


class Killed(nn.Module):
    """A model that ends its process after some forwards; -1: never. `next(count)` is their number so far."""

    def __init__(self, model: nn.Module, forwards: int = -1) -> None:
        super().__init__()
        self.model, self.count, self._forwards = model, itertools.count(), forwards

    def forward(self, x: Tensor) -> Tensor:
        if next(self.count) == self._forwards:
            raise KeyboardInterrupt
        return self.model(x)
