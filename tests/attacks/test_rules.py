import pytest
import torch

from lightning_robust._noise import Noise
from lightning_robust.attacks import (
    L1,
    L2,
    PGD,
    Adam,
    Context,
    Iterate,
    Linf,
    PixelSpace,
    Rule,
    Steepest,
    Threat,
    cross_entropy,
    margin,
)
from tests.helpers import BALLS, SHAPE, Linear, class_scores, images


def test_adam_is_that_of_torch():
    """Far from every bound; the perturbation as a parameter, with `maximize`."""
    x, y = images(4, dtype=torch.float64), torch.arange(4)
    settings = {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-6}
    parameter = torch.nn.Parameter(torch.zeros_like(x))
    optimizer = torch.optim.Adam([parameter], maximize=True, **settings)
    for _ in range(12):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(class_scores(x + parameter), y, reduction="sum").backward()
        optimizer.step()
    threat = Threat(Linf(100.0), PixelSpace(-1000, 1000))
    attack = PGD(threat, 12, random_start=False, gain=cross_entropy, rule=Adam(**settings))
    outcome = attack.run(class_scores, x, y)
    torch.testing.assert_close(outcome.delta, parameter.detach(), rtol=1e-9, atol=1e-12)


def test_adam_moves_by_about_lr_in_each_coordinate_at_first():
    x, y = torch.full((2, 3, 6, 6), 0.5), torch.zeros(2).long()
    delta = PGD(Linf(0.3), steps=1, random_start=False, rule=Adam(0.02)).run(class_scores, x, y).delta
    torch.testing.assert_close(delta.abs(), torch.full_like(delta, 0.02), rtol=1e-3, atol=0)


def iterate(grad, ball, size=0.5, x=None, step=0):
    """What the loop knows at the zero perturbation, in images of 0.5."""
    x = torch.full_like(grad, 0.5) if x is None else x
    chart = PixelSpace().chart(x, torch.zeros(len(x)))
    zero, project = torch.zeros_like(grad), Threat(ball).projection(chart)
    return Iterate(zero, grad.flatten(1)[:, 0], grad, ball, chart, size, step, 9, None, project, None, None)


def run(rule, grads, ball):
    state, moves = rule.init(iterate(grads[0], ball)), []
    for step, grad in enumerate(grads):
        move, state = rule(iterate(grad, ball, step=step), state)
        moves.append(move)
    return moves


@pytest.mark.parametrize("name", BALLS)
def test_steepest_without_momentum_is_the_support(name):
    grads = [torch.randn(4, 3, 6, 6) for _ in range(3)]
    ball = BALLS[name].make((3, 6, 6), 0.05)
    for step, grad in zip(run(Steepest(), grads, ball), grads, strict=True):
        torch.testing.assert_close(step, ball.support(grad, 0.5))


def test_steepest_with_momentum_is_the_published_recursion():
    grads = [10.0**k * torch.randn(4, 3, 6, 6) for k in (-2, 3, 0, 1)]
    m = torch.zeros(4, 3, 6, 6)
    for step, grad in zip(run(Steepest(0.7), grads, L2(0.1)), grads, strict=True):
        m = 0.7 * m + grad / grad.flatten(1).abs().sum(1).reshape(-1, 1, 1, 1)
        torch.testing.assert_close(step, L2(0.1).support(m, 0.5), rtol=1e-4, atol=1e-7)


def test_momentum_takes_a_gradient_of_zero():
    steps = run(Steepest(0.5), [torch.zeros(2, 3), torch.ones(2, 3), torch.zeros(2, 3)], Linf(0.1))
    assert torch.equal(steps[0], torch.zeros(2, 3))
    assert torch.equal(steps[1], torch.full((2, 3), 0.05))
    assert torch.equal(steps[2], torch.full((2, 3), 0.05))


def test_l1_steps_do_not_press_against_the_pixel_range():
    x, grad = torch.tensor([[1.0, 0.9, 0.5, 0.0]]), torch.tensor([[4.0, 3.0, 2.0, -1.0]])
    step, _ = Steepest()(iterate(grad, L1(0.3), 1.0, x), None)
    torch.testing.assert_close(step, torch.tensor([[0.0, 0.1, 0.2, 0.0]]))


@pytest.mark.parametrize("betas", [(1.0, 0.9), (0.9, -0.1)])
def test_betas_are_less_than_one(betas):
    with pytest.raises(ValueError, match=r"Expected argument `betas` to be .*, but got"):
        Adam(betas=betas)


def test_what_a_rule_is_told():
    """The gain, the success, the best point with its gradient, the noise and the step."""
    seen = []

    class Watching(Rule):
        keeps_best = True

        def __call__(self, at, state):
            seen.append((at, at.fooled, at.noise))
            return at.delta + 0.1 * at.noise.normal((3, 6, 6)), (state or 0) + 1

    x, y = images(8), torch.arange(8) % 5
    outcome = PGD(Linf(0.3), steps=6, rule=Watching(), gain=margin).run(class_scores, x, y, Context(key=3))
    every = [at for at, _, _ in seen]
    assert [(at.step, at.steps, at.size) for at in every] == [(k, 6, 2 * (1 - k / 6) ** 2) for k in range(6)]
    for at, fooled, _ in seen:
        point = at.delta.clone().requires_grad_()
        gain = margin(class_scores(x + point), y)
        torch.testing.assert_close(at.gain, gain.detach())
        torch.testing.assert_close(at.grad, torch.autograd.grad(gain.sum(), point)[0])
        assert torch.equal(fooled, class_scores(x + at.delta).argmax(1) != y)
    height = torch.stack([at.gain for at in every])
    for k, at in enumerate(every):
        best = height[: k + 1].argmax(0)
        rows = torch.arange(8)
        assert torch.equal(at.best.gain, height[best, rows])
        assert torch.equal(at.best.delta, torch.stack([a.delta for a in every])[best, rows])
        assert torch.equal(at.best.grad, torch.stack([a.grad for a in every])[best, rows])
    assert len({tuple(noise.words.tolist()) for _, _, noise in seen}) == 6
    assert torch.equal(seen[2][2].words, Noise.of(x, 0, 3).fold(0, 3).words)
    assert Threat(Linf(0.3)).contains(x, outcome.x_adv).all(), "the loop projects"
    far = every[0].project(kept := torch.ones_like(x))
    assert far.max() <= 0.3
    assert torch.equal(kept, torch.ones_like(x)), "`project` leaves its argument as it is"


def test_without_class_labels_a_rule_is_told_of_no_success():
    class Watching(Rule):
        def __call__(self, at, state):
            assert at.fooled is None
            assert at.best is None
            return at.delta, None

    x = images(3)
    PGD(Linf(0.3), steps=2, rule=Watching(), gain=lambda z, y: (z[:, 0] - y).square())(class_scores, x, torch.rand(3))


def test_a_rule_of_order_zero_asks_for_no_gradient():
    class Drawn(Rule):
        order = 0

        def __call__(self, at, state):
            assert at.grad is None
            return at.ball.sample(at.noise, at.chart.zero), None

    def model(x):
        assert not torch.is_grad_enabled()
        return class_scores(x)

    x, y = images(6), torch.arange(6) % 5
    outcome = PGD(Linf(0.3), steps=20, rule=Drawn(), keep="best").run(model, x, y)
    assert outcome.stuck is None
    assert (margin(class_scores(outcome.x_adv), y) > margin(class_scores(x), y)).all()


def test_a_rule_is_a_subclass_of_rule():
    with pytest.raises(TypeError, match=r"`rule` to be a step rule such as Steepest\(\) or Adam\(\), but got"):
        PGD(Linf(0.3), rule=lambda at, state: (at.delta, state))


def test_a_rule_may_seek_the_nearest_misclassified_point():
    """DDN (Rony et al., CVPR 2019): a radius for each sample; on a linear model the distance is |margin| / |w|."""

    class Nearest(Rule):
        def init(self, at):
            return torch.full_like(at.gain, 0.2), torch.full_like(at.delta, torch.inf)

        def __call__(self, at, state):
            share, nearest = state
            rows = at.fooled.reshape(-1, 1, 1, 1)
            closer = (at.ball.norm(at.delta) < at.ball.norm(nearest)).reshape(-1, 1, 1, 1)
            nearest = torch.where(rows & closer, at.delta, nearest)
            if at.step == at.steps - 1:
                return nearest, None
            share = (share * torch.where(at.fooled, 0.95, 1.05)).clamp(max=1)
            moved = at.delta + at.ball.support(at.grad, 0.2)
            norm = at.ball.norm(moved).reshape(-1, 1, 1, 1)
            return at.ball.scaled(share).project(moved * 5 / norm), (share, nearest)

    w, x, y = torch.randn(SHAPE), 0.5 + 0.01 * images(8), torch.zeros(8).long()
    linear, bias = Linear(w), torch.linspace(1, 9, 8)[:, None] * torch.tensor([1.0, 0.0])
    bias[:, 1] = -(x * w).flatten(1).sum(1)
    distance = bias[:, 0] / w.norm()
    threat = Threat(L2(5.0), PixelSpace(-9, 9))
    delta = PGD(threat, 100, random_start=False, rule=Nearest()).run(lambda z: linear(z) + bias, x, y).delta
    assert (delta.flatten(1).norm(dim=1) / distance).max() < 1.1
    assert (delta.flatten(1).norm(dim=1) / distance).min() > 0.999
