import itertools
import math

import pytest
import torch

from lightning_robust.attacks import L2, PGD, AffineSpace, Box, LatentSpace, Linf, Threat, margin
from lightning_robust.attacks.exhaustive_search import GridSearch, ranges
from tests.helpers import Plane, batch, class_scores, images, net

TURNS = AffineSpace(translation=0.2, shear=0.0, scale=0.0, rotation=0.5)


def test_the_worst_of_the_grid_is_the_worst_of_all_its_points():
    model = class_scores
    x, _, _ = batch("affine", 20)
    y = model(x).argmax(1)
    space = AffineSpace(translation=0.02, shear=0.0, scale=0.0, rotation=0.05)
    threat = Threat(Linf(1.0), space)
    outcome = GridSearch(threat, points=(3, 3, 1, 1, 1, 4)).run(model, x, y)
    decode = space.chart(x, y).decode
    worst = margin(model(x), y)
    for a, b, turn in itertools.product(
        (-0.02, 0.0, 0.02), (-0.02, 0.0, 0.02), torch.linspace(-0.05, 0.05, 4).tolist()
    ):
        worst = torch.maximum(worst, margin(model(decode(torch.tensor([a, b, 0, 0, 0, turn]).expand(20, 6))), y))
    fooled = outcome.fooled[0]
    assert torch.equal(fooled, worst > 0)
    assert 0 < fooled.sum() < 20
    torch.testing.assert_close(margin(model(outcome.x_adv), y)[~fooled], worst[~fooled])
    # A parameter that cannot move does not multiply the grid.
    again = GridSearch(threat, points=(3, 3, 9, 9, 9, 4)).run(model, x, y)
    assert torch.equal(again.delta, outcome.delta)
    assert torch.equal(outcome.first[0] == -1, ~fooled)


def test_the_box_of_every_ball():
    x, y = images(3), torch.zeros(3).long()
    chart = TURNS.chart(x, y)
    width = torch.tensor([0.2, 0.2, 0, 0, 0, 0.5])
    low, high = ranges(Linf(1.0), chart)
    torch.testing.assert_close(high, width.expand(3, 6))
    torch.testing.assert_close(low, -high)
    low, high = ranges(L2(0.3), chart)
    torch.testing.assert_close(high, width.clamp(max=0.3).expand(3, 6))
    widths = torch.tensor([0.1, 0.3, 1, 1, 1, 0.05])
    torch.testing.assert_close(ranges(Box(widths), chart)[1], torch.minimum(width, widths).expand(3, 6))
    radii = torch.tensor([0.0, 0.1, 0.4])
    torch.testing.assert_close(ranges(L2(radii), chart)[1], torch.minimum(width, radii[:, None]))


def test_exact_on_a_linear_manifold():
    """The optimum of a linear function over a box is a corner, which a grid of two values holds."""
    plane, w = Plane(), torch.randn(108)
    x, y = images(5), torch.zeros(5).long()
    threat = Threat(Linf(0.4), LatentSpace(plane))

    def model(x):
        return torch.stack([torch.full((len(x),), 1e4), x.flatten(1) @ w], 1)

    outcome = GridSearch(threat, points=2).run(model, x, y)
    g = (plane.weight @ w).detach()
    torch.testing.assert_close(outcome.delta, (0.4 * g.sign()).expand(5, -1))


def test_finds_what_gradients_miss():
    """A loss with many local maxima along the angle: the gradient at the image leads to the nearest, a low one."""
    x = torch.zeros(4, 1, 16, 16)
    x[:, :, 7:9, 8:] = 1.0
    y = torch.zeros(4).long()
    space = AffineSpace(translation=0.0, shear=0.0, scale=0.0, rotation=math.pi)

    def model(x):
        top = x[:, 0, :7, 6:10].sum((1, 2))  # the bar is upright
        near = x[:, 0, 10:13, 12:].sum((1, 2))  # the bar is turned a little the other way
        return torch.stack([torch.full((len(x),), 9.0), top + near], 1)

    threat = Threat(Linf(4.0), space)
    by_gradient = PGD(threat, steps=30, rel_step_size=0.01, random_start=False, keep="best").run(model, x, y)
    by_grid = GridSearch(threat, points=(1, 1, 1, 1, 1, 31)).run(model, x, y)
    assert not by_gradient.stuck.any()
    assert not by_gradient.fooled.any()
    assert by_grid.fooled.all()


def test_monotone_in_random_points():
    model = class_scores
    x, _, _ = batch("affine", 40)
    y = model(x).argmax(1)
    before, count = torch.zeros(40, dtype=torch.bool), []
    for number in (0, 2, 10, 40):
        fooled = GridSearch(Threat(Linf(1.0), AffineSpace()), points=1, random_points=number).run(model, x, y).fooled[0]
        assert fooled[before].all()
        before = fooled
        count.append(int(fooled.sum()))
    assert count[0] == 0
    assert count[-1] > count[1]


def test_arguments():
    attack = GridSearch(Threat(Linf(1.0), AffineSpace()), points=[2, 2, 1, 1, 1, 3])
    assert attack.points == (2, 2, 1, 1, 1, 3)
    assert attack.scaled(0.5).threat.ball == Linf(0.5)
    assert hash(attack) == hash(attack.scaled(1.0))
    x, y = images(2), torch.zeros(2).long()
    with pytest.raises(ValueError, match=r"`points` to be a number or one for each of the 6 coordinates .* but got 2"):
        GridSearch(attack.threat, points=(2, 2))(net(), x, y)
    with pytest.raises(ValueError, match=r"`points` to make a grid of at most 100000 points, but got 1000000 for 6"):
        GridSearch(attack.threat, points=10)(net(), x, y)
