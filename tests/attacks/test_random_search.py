import math

import pytest
import torch
from torch import nn

from lightning_robust.attacks import (
    L2,
    PGD,
    Context,
    LatentSpace,
    Linf,
    PixelSpace,
    Threat,
    divergence,
    margin,
)
from lightning_robust.attacks.exhaustive_search import GridSearch
from lightning_robust.attacks.random_search import RandomSearch
from tests.helpers import (
    ATTACKS,
    BALLS,
    SHAPE,
    Plane,
    batch,
    class_scores,
    images,
    net,
    threat_of,
)

QUERIES = 12
CASES = {name: case for name, case in ATTACKS.items() if isinstance(case.attack, RandomSearch | GridSearch)}
every_case = pytest.mark.parametrize("name", CASES)


@pytest.mark.parametrize("ball", BALLS)
def test_radii_of_its_own_for_each_sample(ball):
    x, y, _ = batch(n=8)
    threat = threat_of(ball, "pixels", torch.linspace(0, 1, 8))
    x_adv = RandomSearch(threat, QUERIES)(net(), x, y)
    assert threat.contains(x, x_adv).all()
    assert torch.equal(x_adv[0], x[0])


@every_case
def test_the_outcome_tells_what_the_model_says(name):
    attack, space, _ = CASES[name]
    x, _, code = batch(space, 12)
    model = net().eval()
    y = model(x).argmax(1)
    outcome = attack.run(model, x, y, Context(code))
    assert outcome.fooled.shape == (attack.restarts, 12)
    assert torch.equal(model(outcome.x_adv).argmax(1) != y, outcome.fooled[0])
    assert torch.equal(outcome.first[0] >= 0, outcome.fooled[0])


@pytest.mark.parametrize("space", ["pixels", "latent_code", "affine"])
def test_monotone_in_queries(space):
    x, _, code = batch(space, 40)
    threat = threat_of("Linf", space)
    with torch.no_grad():
        chart = threat.space.chart(x, x.new_zeros(40).long(), code)
        y = class_scores(chart.decode(chart.zero)).argmax(1)
    fooled, value, robust = torch.zeros(40, dtype=torch.bool), torch.full((40,), -math.inf), []
    for queries in (1, 5, 20, 80):
        outcome = RandomSearch(threat, queries).run(class_scores, x, y, Context(code))
        broken, reached = outcome.fooled[0], margin(class_scores(outcome.x_adv), y)
        assert broken[fooled].all()
        assert (reached >= value - 1e-5)[~broken].all()
        fooled, value = broken, reached
        robust.append(int((~fooled).sum()))
    assert robust[0] > robust[-1], "more queries are to find more"


# ------------------------------------------------------------------------------------------ what it is to find


@pytest.mark.parametrize(
    ("ball", "share"), [("Linf", 0.95), ("Box", 0.95), ("L2", 0.93), ("L1", 0.85), ("Halves", 0.85)]
)
def test_close_to_the_optimum_of_a_linear_model(ball, share):
    w = torch.randn(SHAPE, generator=torch.Generator().manual_seed(2))
    x, y = 0.5 + 0.01 * images(4), torch.zeros(4, dtype=torch.long)
    # No sample is ever misclassified: the search goes on to the end.

    def model(x):
        return torch.stack([torch.full((len(x),), 1e4), x.flatten(1) @ w.flatten()], 1)

    threat = threat_of(ball, "pixels")
    x_adv = RandomSearch(threat, 1200)(model, x, y)
    gained = ((x_adv - x).flatten(1) * w.flatten()).sum(1)
    best = 0.1 * BALLS[ball].dual(w[None])
    assert (gained <= best * (1 + 1e-4)).all()
    assert (gained / best).min() > share


def test_close_to_the_optimum_in_few_dimensions():
    plane = Plane()
    w = torch.randn(SHAPE)
    x, y = 0.5 + 0.1 * images(4), torch.zeros(4, dtype=torch.long)

    def model(x):
        return torch.stack([torch.full((len(x),), 1e4), x.flatten(1) @ w.flatten()], 1)

    for ball in (Linf(0.5), L2(1.0)):
        outcome = RandomSearch(Threat(ball, LatentSpace(plane)), 600).run(model, x, y)
        g = (plane.weight @ w.flatten()).detach()
        reached = outcome.delta @ g
        best = (ball.support(g[None]) @ g)[0]
        assert (reached / best).min() > 0.9
        assert (reached <= best * 1.0001).all()


class Quantised(nn.Module):
    """A linear classifier of images rounded to 5 levels: its gradient is zero everywhere."""

    def __init__(self):
        super().__init__()
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(108, 2))
        with torch.no_grad():
            self.head[1].weight.copy_(torch.stack([torch.zeros(108), torch.ones(108)]))
            self.head[1].bias.copy_(torch.tensor([0.0, -62.0]))

    def forward(self, x):
        return self.head((x * 5).round() / 5 + 0 * x)


def test_finds_what_masked_gradients_hide():
    x, y = 0.4 + 0.2 * images(16), torch.zeros(16, dtype=torch.long)
    model = Quantised()
    assert (model(x).argmax(1) == 0).all()
    masked = PGD(Linf(0.15), steps=20, random_start=False, keep="best").run(model, x, y)
    assert masked.stuck.all()
    assert not masked.fooled.any()
    assert RandomSearch(Linf(0.15), 200).run(model, x, y).fooled.all()


def test_with_no_gradient_at_all():
    def forward(x):
        with torch.no_grad():
            total = x.detach().flatten(1).sum(1)
        return torch.stack([total.new_full((len(x),), 60.05), total], 1)

    x, y = torch.full((3, 3, 6, 6), 0.5), torch.zeros(3, dtype=torch.long)
    assert (forward(RandomSearch(Linf(0.1), 100)(forward, x, y)).argmax(1) == 1).all()


@pytest.mark.parametrize("shape", [(24,), (2, 12), (2, 3, 4, 5)])
def test_inputs_of_any_shape(shape):
    x, y = torch.rand(4, *shape), torch.zeros(4, dtype=torch.long)

    def model(x):
        return torch.stack([torch.full((len(x),), 1e4), x.flatten(1).sum(1)], 1)

    x_adv = RandomSearch(Threat(Linf(0.2), PixelSpace(-9, 9)), 600)(model, x, y)
    assert (x_adv - x).mean() > 0.17


@pytest.mark.parametrize("make", [lambda gain: RandomSearch(Linf(0.1), 3, gain=gain),
                                  lambda gain: GridSearch(Linf(0.1), 1, random_points=3, gain=gain)])  # fmt: skip
def test_scores_in_half_precision_and_scores_that_are_no_numbers(make):
    x, y, seen = images(3), torch.zeros(3, dtype=torch.long), []

    def gain(logits, y):
        seen.append(logits.dtype)
        return margin(logits, y)

    def model(x):
        return torch.stack([torch.full((len(x),), 1e4), x.flatten(1).sum(1)], 1)

    assert not make(gain).run(lambda x: model(x).bfloat16(), x, y).fooled.any()
    assert set(seen) == {torch.float32}
    broken = make(gain).run(lambda x: model(x) * math.nan, x, y)
    assert broken.fooled.all()
    assert torch.equal(broken.first, torch.zeros(1, 3, dtype=torch.long))


def test_arguments():
    attack = RandomSearch(Linf(0.2), 7)
    assert attack.scaled(0.5).threat == Threat(Linf(0.1))
    assert attack.thorough() is attack
    with pytest.raises(TypeError, match=r"`gain` to be a function .* but got Anchored"):
        RandomSearch(Linf(0.1), gain=divergence)
    with pytest.raises(ValueError, match=r"`points\[1\]` to be an integer of at least 1, but got 0"):
        GridSearch(Linf(0.1), points=(2, 0))
