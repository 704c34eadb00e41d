"""Auto-PGD: against two independent implementations from the same starts, and where the optimum is known."""

from dataclasses import replace

import pytest
import torch
import torchattacks
from torch import nn

from lightning_robust._noise import Noise
from lightning_robust.attacks import (
    L1,
    L2,
    PGD,
    Chart,
    Context,
    Linf,
    PixelSpace,
    Threat,
    cross_entropy,
    targeted_margin,
)
from lightning_robust.attacks._sparse import project_within, sparse_step
from lightning_robust.attacks.auto_pgd import AutoPGD, Shrinking, apgd, checkpoints
from lightning_robust.attacks.starts import on_sphere, projected_normal
from tests.helpers import BALLS, Classes, class_scores, images
from tests.peers import adv_lib

reference = adv_lib("auto_pgd")


class Scores(nn.Module):
    """The smooth model of the helpers as a module, which the other packages want."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return 0.2 * class_scores(x)


def data(n=24, seed=0):
    x = images(n, seed, torch.float64)
    return x, Scores()(x).argmax(1)


def blind(output, y):
    """Nothing fools, so that the highest gain decides what comes back."""
    return torch.ones(len(output), dtype=torch.bool)


def from_noise(noise):
    return lambda ball, _, zero: noise * (ball.radius / ball.norm(noise)).reshape(-1, 1, 1, 1)


@pytest.mark.parametrize(("name", "ball"), [("Linf", Linf(0.15)), ("L2", L2(0.8))])
@pytest.mark.parametrize("steps", [1, 7, 50])
def test_the_best_points_are_those_of_torchattacks(name, ball, steps):
    x, y = data()
    torch.manual_seed(5)
    noise = 2 * torch.rand(x.shape) - 1 if name == "Linf" else torch.randn(x.shape)
    noise = noise.double()
    torch.manual_seed(5)
    other = torchattacks.APGD(Scores(), norm=name, eps=ball.radius, steps=steps)
    best, _, gain, _ = other.attack_single_run(x, y)
    attack = PGD(ball, steps, gain=cross_entropy, rule=AutoPGD(), random_start=from_noise(noise), keep="best")
    outcome = attack.run(Scores(), x, y, Context(correct=blind))
    torch.testing.assert_close(outcome.gain, gain, rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(outcome.x_adv, best, rtol=1e-4, atol=1e-5)


@pytest.fixture
def counts(monkeypatch):
    """adv-lib counts what rounding leaves of a coordinate as in use: here it does not."""
    norm = torch.Tensor.norm

    def counted(self, p="fro", dim=None, **kwargs):
        return (self.abs() > 1e-5).sum(dim).to(self.dtype) if p == 0 else norm(self, p, dim, **kwargs)

    monkeypatch.setattr(torch.Tensor, "norm", counted)


def l1_start(x, eps, seed):
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
    return noise + reference.l1_projection(x, noise, torch.full((len(x),), eps))


@pytest.mark.parametrize("steps", [1, 7, 50])
@pytest.mark.parametrize("share", [0.2, None])
def test_in_l1_the_best_points_are_those_of_adv_lib(steps, share, counts):
    x, y = data()
    x, eps = x.float(), torch.full((len(x),), 4.0)
    torch.manual_seed(3)
    start = torch.randn_like(x)
    start += reference.l1_projection(x, start, eps)
    torch.manual_seed(3)
    first = None if share else x + start
    best, _, gain, _ = reference._apgd(Scores(), x, y, eps, 1, first, n_iter=steps, loss_function="ce")
    rule = AutoPGD(share)
    attack = PGD(L1(4.0), steps, gain=cross_entropy, rule=rule, random_start=lambda *_: start, keep="best")
    outcome = attack.run(Scores(), x, y, Context(correct=blind))
    torch.testing.assert_close(outcome.gain, gain, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(outcome.x_adv, best, rtol=1e-4, atol=1e-4)


def test_shrinking_is_three_runs_of_adv_lib(counts):
    x, y = data()
    x, start = x.float(), l1_start(data()[0].float(), 6.0, 1)
    attack = apgd(L1(2.0), 20)
    shrinking = replace(attack, attack=replace(attack.attack, random_start=lambda *_: start))
    outcome = shrinking.run(Scores(), x, y, Context(correct=blind))
    point = x + start
    for eps, steps in ((6.0, 6), (4.0, 6), (2.0, 8)):
        eps = torch.full((len(x),), eps)
        point = point + reference.l1_projection(x, point - x, eps)
        point, _, gain, _ = reference._apgd(Scores(), x, y, eps, 1, point, n_iter=steps, loss_function="ce")
    torch.testing.assert_close(outcome.gain, gain, rtol=1e-5, atol=1e-5)
    assert Threat(L1(2.0)).contains(x, outcome.x_adv).all()


def test_shrinking_counts_all_steps_and_keeps_the_worst_restart():
    x, y = data()
    attack = apgd(L1(2.0), 20, restarts=3)
    outcome = attack.run(Scores(), x, y)
    assert outcome.fooled.shape == outcome.first.shape == (3, len(x))
    assert torch.equal(outcome.first >= 0, outcome.fooled)
    assert outcome.first[outcome.fooled].min() >= 12
    assert outcome.first.max() <= 20
    assert torch.equal(Scores()(outcome.x_adv).argmax(1) != y, outcome.fooled.any(0))
    alone = apgd(L1(2.0), 20).run(Scores(), x, y, Context(restart=2))
    assert torch.equal(alone.fooled, outcome.fooled[2:])


def test_the_nearest_point_of_ball_and_bounds():
    """Against the projection of adv-lib, and the optimum: no other point of both sets is nearer."""
    x = images(50)
    for scale in (0.01, 0.2, 3.0):
        delta = scale * torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
        chart = PixelSpace().chart(x, None)
        nearest = project_within(delta, L1(4.0), chart)
        assert L1(4.0).contains(nearest, 1e-5).all()
        assert chart.contains(nearest).all()
        expected = delta + reference.l1_projection(x, delta, torch.full((len(x),), 4.0))
        torch.testing.assert_close(nearest, expected, rtol=0, atol=1e-4)
        for seed in range(20):
            other = chart.clip(L1(4.0).sample(Noise.of(x, seed), x))
            assert ((delta - nearest) * (other - nearest)).flatten(1).sum(1).max() <= 1e-4
    assert torch.equal(project_within(nearest, L1(4.0), chart), nearest)
    assert torch.equal(project_within(delta, L1(4.0), Chart(delta, None, None)), L1(4.0).project(delta))


def test_a_sparse_step_moves_the_largest_gradients_alike():
    grad = torch.tensor([[0.1, -4.0, 3.0, 0.0], [1.0, 2.0, 3.0, 4.0]])
    step = sparse_step(grad, L1(2.0), torch.tensor([0.5, 0.25]))
    assert step.tolist() == [[0.0, -1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 2.0]]
    assert not sparse_step(torch.zeros(1, 4), L1(2.0), torch.tensor([0.5])).any()


@pytest.mark.parametrize("name", BALLS)
def test_starts_lie_on_the_sphere(name):
    ball, zero = BALLS[name].make((3, 6, 6), torch.linspace(0.1, 1, 40)), torch.zeros(40, 3, 6, 6)
    start = on_sphere(ball, Noise.of(images(40)), zero)
    torch.testing.assert_close(ball.norm(start), torch.as_tensor(ball.radius).expand(40))
    assert ball.contains(projected_normal(ball, Noise.of(images(40)), zero), 1e-5).all()


def test_checkpoints_are_those_of_the_paper():
    """The fractions of the paper: 0, .22, .22 + .19, ..., with differences that fall by .03 down to .06."""
    assert list(checkpoints(100)) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert checkpoints(1) == {1: 1}
    assert list(checkpoints(10)) == [2, 3, 4, 5, 6, 7, 8, 9, 10]


@pytest.mark.parametrize("classes", [3, 10])
def test_it_is_exact_on_linear_models(classes):
    model, x = Classes(classes), images(200)
    targets = tuple(targeted_margin(rank) for rank in range(1, classes))
    y = model(x).argmax(1)
    outcome = apgd(Linf(0.03), 50, gain=targets, restarts=classes - 1).run(model, x, y)
    exact = model.robust(x, y, 0.03)
    assert 0.1 < exact.float().mean() < 0.9
    assert (outcome.fooled.any(0) == exact).sum() <= 1


def test_a_shrinking_attack_says_what_it_needs():
    attack = PGD(L1(2.0), 5)
    with pytest.raises(TypeError, match="`attack` to be a PGD, but got"):
        Shrinking(L1(2.0))
    with pytest.raises(ValueError, match="of one length and the last radius to be 1"):
        Shrinking(attack, radii=(3.0, 2.0), shares=(0.5, 0.5))
    with pytest.raises(ValueError, match="to have a step for each radius, but got 2"):
        Shrinking(PGD(L1(2.0), 2))
    with pytest.raises(ValueError, match="`share`"):
        AutoPGD(share=0)
    assert isinstance(apgd(L1(2.0), 2), PGD)
