"""The laws of `docs/design.md`, each over the one list of balls, spaces, gains and attacks in `tests/helpers.py`."""

import contextlib
import math
import re
from dataclasses import fields
from functools import partial
from inspect import signature
from types import FunctionType
from typing import get_origin

import pytest
import torch
from torch import nn

from lightning_robust._noise import Noise
from lightning_robust.attacks import (
    PGD,
    Anchored,
    Ball,
    Context,
    Linf,
    PixelSpace,
    RandomPerturbation,
    WarmUp,
    cross_entropy,
    scope,
    worst_of,
)
from lightning_robust.attacks._combined import Combined
from lightning_robust.attacks.differences import FiniteDifferences
from lightning_robust.attacks.schedules import Progress
from lightning_robust.attacks.starts import norm_uniform, uniform
from lightning_robust.attacks.threats import ThreatAttack
from tests.helpers import (
    ATTACKS,
    BALLS,
    GAINS,
    PIXEL_SPACES,
    SHAPE,
    SPACES,
    THREATS,
    Classes,
    K,
    Linear,
    Recurrent,
    W,
    batch,
    class_scores,
    images,
    manifold_of,
    net,
    threat_of,
    unchanged,
)

every_attack = pytest.mark.parametrize("name", ATTACKS)
every_threat = pytest.mark.parametrize("name", THREATS)
every_ball = pytest.mark.parametrize("ball", BALLS)
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


# 1 -------------------------------------------------------------------------------------------------- inert

CONTEXTS = {
    "plain": contextlib.nullcontext,
    "no_grad": torch.no_grad,
    "inference": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
}


@every_attack
def test_inert(name):
    case, model = ATTACKS[name], net()
    for context in CONTEXTS:
        with CONTEXTS[context]():
            x, y, code = batch(case.space, 4)
            kept = x.clone(), y.clone()
            with unchanged(model, manifold_of(case.space)):
                x_adv = case.attack(model, x, y, code=code)
        assert torch.equal(x, kept[0]), context
        assert torch.equal(y, kept[1]), context
        assert not x.requires_grad, context
        assert x.grad is None, context
        assert not x_adv.requires_grad, context
        assert x_adv.shape == x.shape, context
        assert x_adv.dtype == x.dtype, context
        assert x_adv.isfinite().all(), context


class Failing(nn.Module):
    """A network that fails at its k-th forward."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.net, self.left = net(), k

    def forward(self, x):
        self.left -= 1
        if not self.left:
            raise KeyError("on purpose")
        return self.net(x)


@every_attack
def test_inert_after_an_exception(name):
    case, model = ATTACKS[name], Failing(1)
    x, y, code = batch(case.space, 4)
    for model.left in (1, 2):
        with unchanged(model, manifold_of(case.space)), contextlib.suppress(KeyError):
            case.attack(model, x, y, code=code)
            assert model.left > 0, "the exception has been swallowed"


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("make", [net, Recurrent], ids=["net", "recurrent"])
def test_inert_in_both_modes_whatever_the_flags_were(make, mode):
    x, y, _ = batch()
    for prepare in (nn.Module.train, nn.Module.eval, lambda m: m):
        model = make()
        prepare(model)
        with unchanged(model):
            PGD(threat_of("L2", "pixels"), steps=2, restarts=2, mode=mode)(model, x, y)


def test_inert_with_a_buffer_that_was_made_under_inference_mode():
    class Lazy(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net()
            self.register_buffer("scale", None)

        def forward(self, x):
            if self.scale is None:
                self.scale = torch.full_like(x[:1], 0.5)
            return self.net(x * self.scale)

    model, (x, y, _) = Lazy(), batch()
    with torch.inference_mode():
        model(x)
    assert model.scale.is_inference()
    with unchanged(model):
        assert not torch.equal(PGD(threat_of("Linf", "pixels"))(model, x, y), x)


def test_inert_with_a_buffer_that_is_written_in_evaluation_mode():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x):
            self.calls += 1
            return self.net(x)

    model, (x, y, _) = Counting(), batch()
    with unchanged(model):
        PGD(threat_of("Linf", "pixels"))(model, x, y)


def test_the_modes_of_the_model_during_the_attack():
    seen = {}

    class Watched(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net()

        def forward(self, x):
            seen["flags"] = [m.training for m in self.net.modules()]
            seen["trainable"] = [p.requires_grad for p in self.parameters()]
            return self.net(x)

    model, (x, y, _) = Watched(), batch()
    flags = [m.training for m in model.net.modules()]
    PGD(threat_of("Linf", "pixels"))(model, x, y)
    assert not any(seen["flags"])
    assert not any(seen["trainable"])
    PGD(threat_of("Linf", "pixels"), mode="train")(model, x, y)
    assert seen["flags"] == flags


# 2 ------------------------------------------------------------------------------------ alone as in company

alone = pytest.mark.parametrize("name", [name for name, case in ATTACKS.items() if case.alone])


@alone
def test_alone_as_in_company(name):
    case, model = ATTACKS[name], net(dtype=torch.float64)
    data = batch(case.space, 6, dtype=torch.float64)

    def attack(part):
        return case.attack(model, part.x, part.y, code=part.code, key=3)

    together = attack(data)
    for order in ([0], [5], [1, 2], [4, 1, 5, 0, 3, 2]):
        part = torch.tensor(order)
        torch.testing.assert_close(attack(data[part]), together[part], rtol=1e-9, atol=1e-9)


@every_attack
def test_same_again_and_whatever_was_drawn_before(name):
    case, model = ATTACKS[name], net()
    x, y, code = batch(case.space)
    first = case.attack(model, x, y, code=code, key=5)
    torch.rand(7)
    assert torch.equal(case.attack(model, x, y, code=code, key=5), first)


@pytest.mark.parametrize("start", [uniform, norm_uniform])
@every_threat
def test_starts_are_alone_as_in_company_bit_for_bit(name, start):
    ball, space = THREATS[name]
    x, y, code = batch(space, 8)
    threat = threat_of(ball, space)

    def starts(x, y, code, *key):
        chart = threat.space.chart(x, y, code)
        return start(threat.ball, Noise.of(x, *key), chart.zero)

    together = starts(x, y, code, 0, 1)
    parts = [batch(space, 8)[i : i + 1] for i in range(8)]
    assert torch.equal(torch.cat([starts(*part, 0, 1) for part in parts]), together)
    others = [starts(x, y, code, *key) for key in ((0, 2), (1, 1), (0, 1 << 32), (0, -1))]
    for other in (*others, together.roll(1, 0)):
        assert not (other == together).flatten(1).all(1).any()


def test_key_seed_and_restart_change_the_start():
    x, y = images(6), torch.zeros(6).long()
    threat, model = threat_of("L2", "pixels"), Linear(torch.zeros(SHAPE))  # a model without a gradient: starts stay
    results = [PGD(threat, steps=1, seed=seed)(model, x, y, key=key) for seed, key in ((0, 0), (0, 1), (1, 0), (5, 5))]
    noise = Noise.of(x, 0, 0)
    starts = [PGD(threat)._start(threat.space.chart(x, y), partial(noise.fold, r)) for r in range(3)]
    for one, other in [(0, 1), (0, 2), (1, 2), (2, 3), (0, 3)]:
        assert not torch.isclose(results[one], results[other]).flatten(1).all(1).any()
    assert torch.equal(results[0], threat.space.chart(x, y).emit(starts[0]))
    assert not (starts[0] == starts[1]).flatten(1).all(1).any()
    assert not (starts[1] == starts[2]).flatten(1).all(1).any()


# 3 ----------------------------------------------------------------------------------------------- feasible


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("space", PIXEL_SPACES)
@every_ball
def test_feasible_in_pixels(ball, space, dtype):
    x, y, _ = batch(space, 8, dtype=dtype)
    size = torch.linspace(0, 1, 8)
    for radius in (1.0, size):
        threat = threat_of(ball, space, radius)
        for attack in (PGD(threat, steps=3), PGD(threat, steps=1, rel_step_size=1.0, random_start=False)):
            x_adv = attack(class_scores, x, y)
            delta = SPACES[space].space.difference(x.double(), x_adv.double())
            norm = BALLS[ball].norm(delta)
            limit = SPACES[space].size * BALLS[ball].radius(SHAPE) * torch.as_tensor(radius)
            assert threat.contains(x, x_adv).all()
            assert (norm <= limit * (1 + 2e-6) + 1e-12).all()
            assert norm[-1] > 0.3 * limit.reshape(-1)[-1]
    if PixelSpace.pixels(SPACES[space].space, x) is not x and SPACES[space].space.mean is None:
        assert x_adv.min() >= SPACES[space].space.low
        assert x_adv.max() <= SPACES[space].space.high
    pixels = SPACES[space].space.pixels(x_adv.double())
    slack = 0 if SPACES[space].space.mean is None else {torch.bfloat16: 8e-3, torch.float16: 1e-3}.get(dtype, 1e-6)
    assert pixels.min() >= SPACES[space].space.low - slack
    assert pixels.max() <= SPACES[space].space.high + slack


@pytest.mark.parametrize("eps", [8 / 255, 0.1, 0.3])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_feasible_to_the_last_bit_in_linf(dtype, eps):
    x, y, _ = batch(n=32, dtype=dtype)
    for attack in (PGD(threat_of("Linf", "pixels", 10 * eps), steps=4), ATTACKS["stutz"].attack):
        limit = attack.threat.ball.eps
        x_adv = attack(class_scores, x, y)
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        assert (x_adv.to(wide) - x.to(wide)).abs().max() <= limit
        assert (x_adv.double() - x.double()).abs().max() <= torch.tensor(limit, dtype=wide).double()
        assert x_adv.min() >= 0
        assert x_adv.max() <= 1


@pytest.mark.parametrize("name", [name for name, (_, space) in THREATS.items() if space not in PIXEL_SPACES])
def test_feasible_in_other_spaces(name):
    ball, space = THREATS[name]
    x, y, code = batch(space, 8)
    model = net()
    for radius in (1.0, torch.linspace(0, 1, 8)):
        threat = threat_of(ball, space, radius)
        chart = threat.space.chart(x, y, code)
        for attack in (PGD(threat, steps=3), PGD(threat, steps=3, restarts=2, keep="best", random_start=norm_uniform)):
            outcome = attack.run(model, x, y, Context(code))
            limit = SPACES[space].size * BALLS[ball].radius(SPACES[space].shape) * torch.as_tensor(radius)
            assert threat.admits(chart, outcome.delta).all()
            assert (BALLS[ball].norm(outcome.delta.double()) <= limit * (1 + 2e-6)).all()
    if code is not None and threat.space.manifold.bounds is not None:
        assert (code + outcome.delta).abs().max() <= 0.9 + 1e-6


@every_attack
def test_feasible_for_every_attack(name):
    case = ATTACKS[name]
    x, y, code = batch(case.space)
    inner = case.attack.attack if isinstance(case.attack, FiniteDifferences) else case.attack
    if not isinstance(inner, ThreatAttack):
        pytest.skip("has no threat of its own")
    outcome = case.attack.run(net(), x, y, Context(code))
    threat = inner.threat
    assert threat.admits(threat.space.chart(x, y, code), outcome.delta).all()


def test_the_membership_check_finds_what_is_outside():
    x = images(4)
    for ball in BALLS:
        threat = threat_of(ball, "pixels")
        step = threat.ball.support(torch.where(x < 0.5, 1.0, -1.0) * torch.rand_like(x))
        assert threat.contains(x, (x + 0.999 * step)).all()
        assert not threat.contains(x, x + 1.001 * step).any()
        assert not threat.contains(x.round(), x.round() + 1e-3 * (x.round() - 0.5)).any()  # leaves [0, 1]


# 4 ------------------------------------------------------------------------------------------------ optimal

STARTS = {"zero": False, "uniform": True, "norm_uniform": norm_uniform}


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("slopes", [(0.0, 1.0), (-1.0, 0.5, 1.0, 0.0)], ids=["two", "four"])
@pytest.mark.parametrize("name", [name for name, (_, space) in THREATS.items() if space != "affine"])
def test_optimal_on_a_linear_model(name, slopes, start):
    """The optimum over a ball is the dual norm, in pixels and behind a linear decoder."""
    ball, space = THREATS[name]
    n, w = 16, torch.randn(SHAPE, dtype=torch.float64)
    case = SPACES[space]
    x = case.inputs(0.5 + 0.01 * images(n, dtype=torch.float64))
    y = torch.zeros(n, dtype=torch.long)
    code = case.code(images(n, dtype=torch.float64))
    if code is not None:
        code = (0.1 * code[0].double(), code[1].double()) if isinstance(code, tuple) else 0.1 * code.double()
    model, threat = Linear(w, slopes), threat_of(ball, space, 0.3)
    with scope(manifold_of(space)):
        chart = threat.space.chart(x, y, code)
        zero = chart.zero.requires_grad_()
        clean = chart.decode(zero).flatten(1) @ w.flatten()
        (g,) = torch.autograd.grad(clean.sum(), zero)
    best = clean.detach() + 0.3 * case.size * BALLS[ball].dual(g)

    attack = PGD(threat, steps=40, rel_step_size=0.25, random_start=STARTS[start])
    reached = attack(model, x, y, code=code).flatten(1) @ w.flatten()
    clean = clean.detach()
    assert (reached <= best + 1e-6 * best.abs()).all()
    assert ((reached - clean) / (best - clean)).min() > 0.999


@pytest.mark.parametrize("gain", [name for name, g in GAINS.items() if not isinstance(g, Anchored) and name != "dlr"])
@every_ball
def test_optimal_for_every_gain(ball, gain):
    n, w = 16, torch.randn(SHAPE)
    x, y = 0.5 + 0.01 * images(n), torch.zeros(n, dtype=torch.long)
    slopes = torch.tensor([-1.0, 0.5, 1.0])
    clean = x.flatten(1) @ w.flatten()
    best = GAINS[gain]((clean + 0.1 * BALLS[ball].dual(w[None]))[:, None] * slopes, y)
    start = GAINS[gain](clean[:, None] * slopes, y)
    model = Linear(w, tuple(slopes.tolist()))
    x_adv = PGD(threat_of(ball, "pixels"), steps=40, rel_step_size=0.25, gain=GAINS[gain])(model, x, y)
    assert ((GAINS[gain](model(x_adv), y) - start) / (best - start)).min() > 0.999


@pytest.mark.parametrize("start", STARTS)
def test_optimal_in_linf_where_the_pixel_range_binds(start):
    x, w = images(16), torch.randn(SHAPE)
    best = torch.where(w > 0, (x + 0.3).clamp(max=1), (x - 0.3).clamp(min=0))
    x_adv = PGD(threat_of("Linf", "pixels", 3.0), random_start=STARTS[start])(Linear(w), x, torch.zeros(16).long())
    torch.testing.assert_close(x_adv, best)


def test_optimal_in_l1_where_the_pixel_range_binds():
    """One whole step from the clean image is the greedy solution of the knapsack, which is optimal."""
    x, w, eps = images(16), torch.randn(SHAPE), 3.0
    threat = threat_of("L1", "pixels", eps / 0.2)
    x_adv = PGD(threat, steps=1, rel_step_size=1.0, random_start=False)(Linear(w), x, torch.zeros(16).long())
    for one, clean in zip(x_adv, x, strict=True):
        left, value = eps, 0.0
        for i in w.flatten().abs().argsort(descending=True).tolist():
            pixel = float(clean.flatten()[i])
            spent = min(left, 1 - pixel if w.flatten()[i] > 0 else pixel)
            left, value = left - spent, value + spent * float(w.flatten()[i].abs())
        assert math.isclose(float(((one - clean) * w).sum()), value, rel_tol=1e-4)


@pytest.mark.parametrize("ball", ["L2", "L1"])
def test_optimal_where_the_pixel_range_binds(ball):
    """The optimum of a linear function over a ball and a box, by bisection on the multiplier of the ball."""
    x, w = images(16, dtype=torch.float64), torch.randn(SHAPE, dtype=torch.float64)
    room = torch.where(w > 0, 1 - x, x).flatten(1)
    size = w.abs().flatten()
    threat = threat_of(ball, "pixels", {"L2": 5.0, "L1": 15.0}[ball])
    if ball == "L2":  # v_i = min(|w_i| / lambda, room_i) with |v| = eps
        low, high = torch.full((16, 1), 1e-9).double(), torch.full((16, 1), 1e9).double()
        for _ in range(200):
            middle = (low * high).sqrt()
            large = torch.minimum(size / middle, room).norm(dim=1, keepdim=True) > 1.5
            low, high = torch.where(large, middle, low), torch.where(large, high, middle)
        best = (torch.minimum(size / high, room) * size).sum(1)
    else:
        order = size.argsort(descending=True)
        before = room[:, order].cumsum(1) - room[:, order]
        best = (torch.minimum(room[:, order], (3.0 - before).clamp(min=0)) * size[order]).sum(1)
    attack = PGD(threat, steps=100, rel_step_size=0.1, random_start=False, keep="best")
    reached = ((attack(Linear(w), x, torch.zeros(16).long()) - x) * w).flatten(1).sum(1)
    assert (reached <= best * (1 + 1e-6)).all()
    assert (reached / best).min() > 0.99


def own(ball):
    """A ball that hands everything on and says nothing of limits: it is told how far each coordinate can go."""
    members = {name: staticmethod(getattr(ball, name)) for name in ("norm", "project", "support", "sample")}
    return type("Own", (Ball,), {**members, "radius": ball.radius, "scaled": None})()


@every_ball
def test_a_ball_of_ones_own_is_as_strong_as_ours(ball):
    """Also where the pixel range binds, which it meets through `room` alone."""
    x, y = images(20), torch.arange(20) % K
    listed = BALLS[ball].make(SHAPE, 1.0)
    for start in (True, False):
        one, other = (PGD(b, steps=10, rel_step_size=0.25, random_start=start) for b in (listed, own(listed)))
        torch.testing.assert_close(other(class_scores, x, y), one(class_scores, x, y))


@pytest.mark.parametrize("ball", ["Linf", "Box"])
def test_a_projection_of_ones_own_is_obeyed(ball):
    """A box in which only the left half may move: the shortcut for boxes is not taken where `project` says more."""
    kind = type(BALLS[ball].make(SHAPE, 1.0))

    class LeftHalf(kind):
        def project(self, delta):
            return super().project(delta) * (torch.arange(delta.shape[-1]) < delta.shape[-1] // 2)

    whole = BALLS[ball].make(SHAPE, 0.1)
    half = LeftHalf(**{f.name: getattr(whole, f.name) for f in fields(whole)})
    x, y = images(6), torch.arange(6) % K
    moved = PGD(half, steps=3, random_start=False)(class_scores, x, y) - x
    assert not moved[..., W // 2 :].any()
    assert moved[..., : W // 2].any()


@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("classes", [3, 10])
def test_evaluation_of_several_classes_is_close_to_the_exact_robust_accuracy(classes, scale):
    """Soft logits pull log-odds towards all wrong classes at once; in evaluation some restarts raise the margin."""
    model, x = Classes(classes, scale), images(200)
    y = model(x).argmax(1)
    eps = 0.02 if classes == 10 else 0.05
    exact = float(model.robust(x, y, eps).float().mean())
    assert 0.1 < exact < 0.9
    attack = PGD(Linf(eps), steps=20, restarts=4)
    robust_acc = float((model(attack.thorough()(model, x, y)).argmax(1) == y).float().mean())
    assert exact <= robust_acc <= exact + 0.02


def test_the_default_of_a_single_step_is_the_whole_radius():
    x, y, w = 0.5 + 0.01 * images(8), torch.zeros(8).long(), torch.randn(SHAPE)
    for ball in BALLS:
        threat = threat_of(ball, "pixels", 2.0)
        x_adv = PGD(threat, steps=1, random_start=False)(Linear(w), x, y)
        best = 0.2 * BALLS[ball].dual(w[None])
        assert (((x_adv - x) * w).flatten(1).sum(1) / best).min() > 0.999


# 5 ----------------------------------------------------------------------------------------------- monotone


def _accuracy(attack, model, x, y):
    return model(attack(model, x, y)).argmax(1) == y


@every_ball
def test_monotone_in_steps_restarts_and_attacks(ball):
    x, model = images(48), class_scores
    y = model(x).argmax(1)
    threat = threat_of(ball, "pixels", 5.0 if ball == "L1" else 0.3)

    def survivors(steps=3, restarts=1):
        attack = PGD(threat, steps=steps, restarts=restarts, rel_step_size=0.3, keep="best")
        return _accuracy(attack, model, x, y)

    few, more_steps, more_restarts = survivors(), survivors(steps=9), survivors(restarts=4)
    assert not (more_steps & ~few).any()
    assert not (more_restarts & ~few).any()
    other = PGD(threat_of("Linf", "pixels", 0.4), steps=2)
    first = PGD(threat, steps=3, rel_step_size=0.3, keep="best")
    both = _accuracy(worst_of(first, other), model, x, y)
    assert not (both & ~few).any()
    assert not (both & ~_accuracy(other, model, x, y)).any()
    assert 0 < more_steps.sum() < len(x), "the attack is to do something, not everything"


def test_monotone_in_the_radius_on_a_linear_model():
    x, w = 0.5 + 0.01 * images(32), torch.randn(SHAPE)
    y = (x.flatten(1) @ w.flatten() > 0).long()
    for ball in BALLS:
        attack = PGD(threat_of(ball, "pixels"), random_start=False)
        model = Linear(w)
        before = torch.ones(32, dtype=torch.bool)
        for epoch in range(5):
            after = _accuracy(WarmUp(epochs=4)(attack, Progress(epoch, 0)), model, x, y)
            assert not (after & ~before).any()
            before = after


# 9 ---------------------------------------------------------------------------------- errors at first batch

WRONG_INPUTS = {
    "uint8": (lambda x: (255 * x).byte(), r"inputs to be a float tensor, but got torch.uint8"),
    "nan": (lambda x: torch.where(x == x.max(), math.nan, x), r"inputs to be finite, but \d+ values are NaN"),
    "infinite": (lambda x: x * math.inf, r"inputs to be finite|got values in"),
    "empty": (lambda x: x[:0], r"at least|N >= 1 samples, .* got shape \(0, 3, 6, 6\)"),
    "not a tensor": (lambda x: x.numpy(), r"inputs to be a float tensor, but got ndarray"),
}
WRONG_LABELS = {
    "float": (lambda y: y.float(), r"class labels for .*y\.long\(\)"),
    "negative": (lambda y: y - 1, r"labels to be at least 0, but got -1"),
    "fewer": (lambda y: y[:-1], r"one label per input|6 samples"),
    "none": (lambda y: None, r"class labels for .*NoneType"),
    "one-hot integers": (lambda y: nn.functional.one_hot(y, K), r"class labels for .*y\.argmax\(1\)"),
    "multi-hot": (lambda y: torch.ones(len(y), K), r"float labels of shape \(N, K\) to be probabilities"),
    "too large": (lambda y: y + 5, r"labels to be less than the number of classes, 5, but got \d"),
}
ASKS_NO_LABELS = [
    name for name in ATTACKS if "random_perturbation" in name or "divergence" in name or "anchored" in name
]


def _refused(error, message, attack, *args, **kwargs):
    """What is wrong with how a call is refused; None: it raises such an error with such a message."""
    try:
        attack(*args, **kwargs)
    except error as raised:
        return None if re.search(message, str(raised)) else f"{type(raised).__name__}: {raised}"
    return "taken"


@every_attack
def test_wrong_inputs_are_refused(name):
    case, model = ATTACKS[name], net()
    x, y, code = batch(case.space)
    with unchanged(model):
        for wrong, (spoil, message) in WRONG_INPUTS.items():
            if "foreign" not in name or wrong in ("nan", "infinite"):  # what else a guest takes is its own affair
                found = _refused((TypeError, ValueError), message, case.attack, model, spoil(x), y, code=code)
                assert found is None, wrong


@pytest.mark.parametrize("name", [name for name in ATTACKS if name not in ASKS_NO_LABELS and "foreign" not in name])
def test_wrong_labels_are_refused(name):
    """By the gain (one of class labels has `of_classes` do so) or the attack that needs them, with what to do."""
    case, model = ATTACKS[name], net()
    x, y, code = batch(case.space)
    with unchanged(model):
        for wrong, (spoil, message) in WRONG_LABELS.items():
            found = _refused((TypeError, ValueError), message, case.attack, model, x, spoil(y), code=code)
            assert found is None, wrong


@pytest.mark.parametrize("name", ASKS_NO_LABELS)
def test_attacks_that_need_no_labels_take_none(name):
    case = ATTACKS[name]
    if isinstance(case.attack, Combined):
        pytest.skip("the worst of several is chosen by the labels")
    x, y, code = batch(case.space)
    if case.space.startswith("latent") or case.space == "affine":
        y = torch.zeros(len(x))
    x_adv = case.attack(net(), x, y if case.space != "pixels" else None, code=code)
    assert x_adv.shape == x.shape


@pytest.mark.parametrize("name", [name for name in ATTACKS if name not in ASKS_NO_LABELS and "foreign" not in name])
def test_labels_of_all_kinds_give_the_same_examples(name):
    """(N,) of any integer type, (N, 1), and probabilities that are certain."""
    case, model = ATTACKS[name], net().double()
    x, y, code = batch(case.space, dtype=torch.float64)
    expected = case.attack(model, x, y, code=code)
    for other in (y.to(torch.uint8), y.to(torch.int16)[:, None], nn.functional.one_hot(y, K).double()):
        torch.testing.assert_close(case.attack(model, x, other, code=code), expected)


@pytest.mark.parametrize(
    "name", [n for n, c in ATTACKS.items() if c.space in ("pixels", "normalized", "affine", "bytes")]
)
def test_images_out_of_range_are_refused(name):
    case, model = ATTACKS[name], net()
    if "foreign" in name:
        pytest.skip("a guest says nothing of its range")
    x, y, _ = batch(case.space)
    wrong = x * 255 if case.space != "bytes" else x - 100
    with unchanged(model), pytest.raises(ValueError, match=r"Expected images in \[0, (1|255)\], but got values in \["):
        case.attack(model, wrong, y)


class Blocked(nn.Module):
    """A forward without gradient, by `detach` or by `no_grad`, or with an output that is not logits."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.net, self.how = net(), how

    def forward(self, x):
        if self.how == "detached":
            return self.net(x.detach()) + 0 * self.net[7].bias
        if self.how == "no grad":
            with torch.no_grad():
                return self.net(x)
        if self.how == "constant":
            return self.net(torch.zeros_like(x)) + torch.zeros(len(x), 1).requires_grad_()
        if self.how == "dict":
            return {"logits": self.net(x)}
        if self.how == "flat":
            return self.net(x)[:, 0]
        return self.net(x)[:-1]


WRONG_MODELS = {
    "detached": (RuntimeError, "model's output to depend on its input differentiably"),
    "no grad": (RuntimeError, "model's output to depend on its input differentiably"),
    "constant": (RuntimeError, "model's output to depend on its input, but no gradient arrives"),
    "dict": (TypeError, r"model to return logits, a tensor \(N, K\), but got dict"),
    "flat": (ValueError, r"class labels for .* one logit"),
    "short": (ValueError, r"logits of shape \(N, K\) with N=6, but got \(5, 5\)"),
}


@every_attack
def test_models_that_cannot_be_attacked_are_refused(name):
    case, model = ATTACKS[name], Blocked("")
    if "foreign" in name:
        pytest.skip("a guest calls the model by itself")
    if isinstance(case.attack, RandomPerturbation):
        pytest.skip("the model is not asked")
    asks_no_gradient = any(kind in name for kind in ("search", "differences", "random", "square"))
    x, y, code = batch(case.space)
    with unchanged(model, manifold_of(case.space)):
        for model.how, (error, message) in WRONG_MODELS.items():
            if (asks_no_gradient and error is RuntimeError) or (model.how == "flat" and name in ASKS_NO_LABELS):
                continue  # one logit will do where no labels are asked for
            if model.how == "short" and ("on_fraction" in name or "in_turn" in name):
                message = r"logits of shape \(N, K\)"
            assert _refused(error, message, case.attack, model, x, y, code=code) is None, model.how


# ------------------------------------------------------------------------------------ gradients that vanish


def _fitted(scale: float) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """A classifier of four blobs in [0, 1]^16 whose logits have been scaled: it is as sure as `scale` says."""
    centers = torch.rand(4, 16)
    y = torch.arange(64) % 4
    x = (centers[y] + 0.05 * torch.randn(64, 16)).clamp(0, 1)
    model = nn.Sequential(nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 4))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        cross_entropy(model(x), y).mean().backward()
        optimizer.step()
    with torch.no_grad():
        sure = (-GAINS["margin"](model(x), y)).quantile(0.5)
        model[2].weight *= scale / sure
        model[2].bias *= scale / sure
    return model.eval(), x, y


@pytest.mark.parametrize("gain", ["log_odds", "cross_entropy", "margin"])
def test_half_precision_does_not_lose_the_gradient(gain):
    from lightning_robust.attacks._step import gain_and_gradient

    model, x, y = _fitted(scale=14.8)  # 1 - p_y of about 4e-7, as after training

    def gradient(dtype, scaled=True):
        delta = torch.zeros_like(x, requires_grad=True)
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            logits = model(x + delta)
            if not scaled:
                return torch.autograd.grad(cross_entropy(logits, y).mean(), delta)[0]
            return gain_and_gradient(lambda z: GAINS[gain](z, y), logits, delta)[1]

    exact, half, unscaled = gradient(torch.float32), gradient(torch.float16), gradient(torch.float16, scaled=False)
    assert (unscaled.abs().amax(1) == 0).float().mean() > 0.3, "the trap that this is about"
    assert half.isfinite().all()
    assert (half.abs().amax(1) > 0).all()
    assert (half.sign() == exact.sign()).float().mean() > 0.98
    torch.testing.assert_close(half.norm(dim=1), exact.norm(dim=1), rtol=0.1, atol=0)
    assert (gradient(torch.bfloat16).sign() == exact.sign()).float().mean() > 0.95


def test_an_attack_in_half_precision_finds_what_it_finds_in_single():
    model, x, y = _fitted(scale=14.8)
    attack = PGD(threat_of("Linf", "pixels", 4.0), steps=10, random_start=False, keep="best")
    single = attack.run(model, x, y)
    with torch.autocast("cpu", torch.float16):
        half = attack.run(model, x, y)
    assert not half.stuck.any()
    assert single.fooled.float().mean() > 0.2
    assert abs(half.fooled.float().mean() - single.fooled.float().mean()) <= 0.05


@pytest.mark.parametrize("scale", [1e3, 1e4])
def test_huge_logits_do_not_stall_the_default_gain(scale):
    model, x, y = _fitted(scale=5.0)
    attack = PGD(threat_of("Linf", "pixels", 4.0), steps=10, random_start=False, keep="best")
    usual = attack.run(model, x, y)
    hot = nn.Sequential(model)
    with torch.no_grad():
        model[2].weight *= scale / 5
        model[2].bias *= scale / 5
    huge = attack.run(hot, x, y)
    stalled = PGD(threat_of("Linf", "pixels", 4.0), steps=10, random_start=False, gain=cross_entropy).run(hot, x, y)
    assert not huge.stuck.any()
    assert stalled.stuck.float().mean() > 0.5, "the trap that this is about, and the attack says so"
    assert huge.fooled.float().mean() >= usual.fooled.float().mean() - 0.05


def test_the_lists_are_complete():
    """The lists hold every ball, space, gain and attack that the package exports, and an outsider's."""
    import lightning_robust.attacks as attacks

    exported = [getattr(attacks, name) for name in attacks.__all__]
    exported = [one for one in exported if get_origin(one) is None]  # for Python 3.10 an alias of a type is a type
    reads = [f for f in exported if isinstance(f, FunctionType) and list(signature(f).parameters) == ["logits", "y"]]
    gains = [f.__name__ for f in reads if f is not attacks.classified and not f.__name__.startswith("binary_")]
    listed = [getattr(gain, "__name__", "") for gain in GAINS.values()]
    assert set(gains) < set(listed), f"Give {sorted(set(gains) - set(listed))} a line in GAINS"
    kinds = {a for a in exported if isinstance(a, type) and issubclass(a, attacks.Attack) and a is not attacks.Attack}
    assert kinds < {type(case.attack) for case in ATTACKS.values()}
    balls = {b for b in exported if isinstance(b, type) and issubclass(b, attacks.Ball) and b is not attacks.Ball}
    spaces = {s for s in exported if isinstance(s, type) and issubclass(s, attacks.Space) and s is not attacks.Space}
    assert balls < {type(BALLS[name].make(SHAPE, 1.0)) for name in BALLS}
    assert spaces < {type(case.space) for case in SPACES.values()}
