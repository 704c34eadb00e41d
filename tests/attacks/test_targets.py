import math

import pytest
import torch
from torch import nn

from lightning_robust.attacks import (
    L1,
    L2,
    PGD,
    AffineSpace,
    Box,
    Context,
    LatentSpace,
    Linf,
    PixelSpace,
    Threat,
    binary_correct,
    margin,
    nearest_classes,
    nearest_labels,
    targeted_binary,
    targeted_margin,
)
from tests.helpers import SPACES, Plane, batch, class_scores, net, unchanged

ANYWHERE = PixelSpace(-math.inf, math.inf)
N, D = 1000, 12
WIDTHS = torch.linspace(0.2, 2.0, D)
# Each ball and the dual of its norm, written out.
BALLS = {
    "Linf": (Linf, lambda g: g.abs().sum(-1)),
    "L2": (L2, lambda g: g.square().sum(-1).sqrt()),
    "L1": (L1, lambda g: g.abs().amax(-1)),
    "Box": (lambda eps: Box(WIDTHS, eps), lambda g: (WIDTHS * g.abs()).sum(-1)),
}


class Planes(nn.Module):
    """K classes, linear, with gradients of very different sizes."""

    def __init__(self, classes, scale=1.0):
        super().__init__()
        generator = torch.Generator().manual_seed(classes)
        sizes = torch.rand(classes, 1, generator=generator) * 2 + 0.2
        self.weight, self.scale = nn.Parameter(torch.randn(classes, D, generator=generator) * sizes), scale

    def forward(self, x):
        return self.scale * (x @ self.weight.T)

    def distances(self, x, dual):
        """(N, K) from each input to each class, the true one at infinity; and the predicted classes (N,)."""
        z, w = x @ self.weight.T.detach(), self.weight.detach()
        y = z.argmax(1)
        gap = z.gather(1, y[:, None]) - z
        return (gap / dual(w[None] - w[y][:, None])).scatter(1, y[:, None], math.inf), y


def points(n=N, seed=0):
    return torch.randn(n, D, generator=torch.Generator().manual_seed(seed))


# -------------------------------------------------------------------------------------- exact where it can be


@pytest.mark.parametrize("ball", BALLS)
@pytest.mark.parametrize("classes", [3, 4, 10])
def test_the_order_of_a_linear_model_is_that_of_the_distances(ball, classes):
    make, dual = BALLS[ball]
    model, x = Planes(classes, scale=30.0), points(200)
    distance, y = model.distances(x, dual)
    order = distance.argsort(1)[:, :-1]
    found = nearest_classes(model, x, y, Threat(make(0.3), ANYWHERE), count=classes)
    assert found.dtype == torch.int64
    assert torch.equal(found, order)
    by_logit = model(x).scatter(1, y[:, None], -math.inf).argsort(1, descending=True)[:, :-1]
    assert not torch.equal(found, by_logit)
    radii = torch.linspace(0.1, 1, 200)  # the order of a sample does not depend on its radius here
    assert torch.equal(nearest_classes(model, x, y, Threat(make(radii), ANYWHERE), count=2), order[:, :2])


@pytest.mark.parametrize("ball", ["Linf", "L2", "L1"])
@pytest.mark.parametrize("scale", [1e-2, 1.0, 1e3])
@pytest.mark.parametrize("classes", [3, 4, 10, 100])
def test_ascent_towards_the_nearest_classes_is_exact_on_linear_models(ball, classes, scale):
    """A sample is robust if and only if no class is nearer than the radius; one sample of 1,000 may be missed."""
    make, dual = BALLS[ball]
    model, x = Planes(classes, scale), points()
    distance, y = model.distances(x, dual)
    nearest = distance.amin(1)
    eps = float(nearest.quantile(0.7))
    threat = Threat(make(eps), ANYWHERE)
    context = Context(targets=nearest_classes(model, x, y, threat, count=3))
    robust = torch.ones(N, dtype=torch.bool)
    for rank in range(1, min(3, classes - 1) + 1):
        attack = PGD(threat, 20, gain=targeted_margin(rank), random_start=False, keep="best", early_stop=True)
        robust &= ~attack.run(model, x, y, context).fooled[0]
    exact = nearest > eps
    assert not (exact & ~robust).any()
    assert (exact ^ robust).sum() <= 1


def heads(labels):
    """Yes/no labels, linear, of very different scales; and a function that gives the distances (N, L)."""
    generator = torch.Generator().manual_seed(labels)
    weight = torch.randn(labels, D, generator=generator) * torch.linspace(-4, 4, labels).exp()[:, None]
    bias = weight.norm(dim=1) * torch.rand(labels, generator=generator)

    def model(x):
        return x @ weight.T + bias

    return model, lambda x, dual: model(x).abs() / dual(weight)


@pytest.mark.parametrize("ball", BALLS)
@pytest.mark.parametrize("labels", [2, 5, 12])
def test_the_order_of_yes_no_labels_is_that_of_the_distances(ball, labels):
    make, dual = BALLS[ball]
    model, distances = heads(labels)
    x = points(100)
    y = model(x) > 0
    order = distances(x, dual).argsort(1)
    threat = Threat(make(0.3), ANYWHERE)
    for logits in (None, model(x)):
        assert torch.equal(nearest_labels(model, x, y.int(), threat, logits, count=4), order[:, :4])
    assert not torch.equal(order, model(x).abs().argsort(1))
    few = model(x).abs().argsort(1)[:, :2]
    assert torch.equal(nearest_labels(model, x, y, threat, count=2, among=1).sort(1).values, few.sort(1).values)
    y[:, 0] = ~y[:, 0]  # a label that is wrong already
    assert (nearest_labels(model, x, y, threat, count=1) == 0).all()


@pytest.mark.parametrize("ball", ["Linf", "L2", "L1"])
@pytest.mark.parametrize("labels", [2, 5, 30])
def test_ascent_towards_the_nearest_labels_is_exact_on_linear_heads(ball, labels):
    make, dual = BALLS[ball]
    model, distances = heads(labels)
    x = points(300)
    y, nearest = model(x) > 0, distances(x, dual).amin(1)
    eps = float(nearest.quantile(0.7))
    threat = Threat(make(eps), ANYWHERE)
    targets = nearest_labels(model, x, y, threat, count=3)
    fooled = torch.zeros(len(x), dtype=torch.bool)
    for rank in range(1, min(3, labels) + 1):
        attack = PGD(threat, 20, gain=targeted_binary(rank), random_start=False, keep="best", early_stop=True)
        fooled |= attack.run(model, x, y, Context(targets=targets, correct=binary_correct)).fooled[0]
    assert not (fooled & (nearest > eps)).any()
    assert (fooled ^ (nearest <= eps)).sum() <= 1


def test_one_label_needs_no_pass_where_the_logit_is_known():
    def model(x):
        raise AssertionError

    for logits in (torch.zeros(3), torch.zeros(3, 1)):
        found = nearest_labels(model, torch.zeros(3, 2), torch.tensor([1, 0, 1]), Linf(0.1), logits)
        assert found.tolist() == [[0], [0], [0]]


# ----------------------------------------------------------------------------------------- what it has to bear


def test_a_class_that_the_range_keeps_out_of_reach_comes_later():
    weight = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, -1.0]])
    x, y = torch.tensor([[1.0, 0.5]]), torch.tensor([0])

    def model(x):
        return x @ weight.T + torch.tensor([4.0, 0.0, 4.3])

    assert nearest_classes(model, x, y, Threat(Linf(0.1), ANYWHERE)).tolist() == [[2, 1]]
    assert nearest_classes(model, x, torch.tensor([0]), Linf(0.1)).tolist() == [[2, 1]]
    steep = torch.tensor([[0.0, 0.0], [30.0, 0.0], [0.0, -1.0]])

    def reachable(x):
        return x @ steep.T + torch.tensor([4.0, -27.0, 4.3])

    assert nearest_classes(reachable, x, y, Threat(Linf(0.1), ANYWHERE)).tolist() == [[1, 2]]
    for ball in (Linf(0.1), L2(0.1), L1(0.1)):
        assert nearest_classes(reachable, x, y, ball).tolist() == [[2, 1]]


@pytest.mark.parametrize("count", [1, 4, 9])
@pytest.mark.parametrize("among", [1, 5, 50])
def test_of_many_classes_those_of_the_highest_logits(count, among):
    model, x = Planes(30), points(40)
    distance, y = model.distances(x, BALLS["L2"][1])
    looked = max(count, among)
    high = model(x).scatter(1, y[:, None], -math.inf).argsort(1, descending=True)[:, :looked]
    rest = torch.full_like(distance, math.inf).scatter(1, high, distance.gather(1, high))
    found = nearest_classes(model, x, y, Threat(L2(0.3), ANYWHERE), count=count, among=among)
    assert torch.equal(found, rest.argsort(1)[:, :count])


def test_two_classes_need_no_pass_where_the_logits_are_known():
    def model(x):
        raise AssertionError

    y = torch.tensor([1, 0, 1])
    found = nearest_classes(model, torch.zeros(3, 2), y, Linf(0.1), torch.zeros(3, 2))
    assert found.tolist() == [[0], [1], [0]]


def test_probabilities_as_labels_mean_the_most_likely_class():
    model, x = Planes(4), points(20)
    y = model(x).argmax(1)
    soft = 0.9 * nn.functional.one_hot(y, 4).float() + 0.025
    threat = Threat(L2(0.1), ANYWHERE)
    assert torch.equal(nearest_classes(model, x, soft, threat), nearest_classes(model, x, y, threat))


@pytest.mark.parametrize("how", ["detached", "constant", "nan gradient", "nan logits", "zero radius"])
def test_where_distances_are_no_numbers_the_logits_decide(how):
    inner, x = Planes(4), points(20)
    y = inner(x).argmax(1)

    def model(x):
        if how == "detached":
            return inner(x.detach()).detach()
        if how == "constant":
            return inner(x.detach()) + 0 * inner.weight.sum().detach()
        if how == "nan gradient":
            return inner(x.detach()) + 0 * (x - x.detach()).sum(1, keepdim=True).abs().sqrt()
        return inner(x) * (torch.where(torch.arange(4) == 0, math.nan, 1.0) if how == "nan logits" else 1)

    found = nearest_classes(model, x, y, Threat(L2(0.0 if how == "zero radius" else 0.1), ANYWHERE))
    assert torch.equal(found.sort(1).values, torch.stack([torch.tensor([k for k in range(4) if k != c]) for c in y]))
    if how != "nan logits":
        order = inner(x).scatter(1, y[:, None], -math.inf).argsort(1, descending=True)
        assert torch.equal(found, order[:, :3])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_orders_alike(dtype):
    model, x = Planes(5, scale=1e-2), points(200).to(dtype).float()
    y = model(x).argmax(1)
    threat = Threat(Linf(0.3), ANYWHERE)
    exact = nearest_classes(model, x, y, threat)

    def half(x):
        return model(x).to(dtype)

    assert (nearest_classes(half, x, y, threat, model(x).detach()) == exact).all(1).float().mean() > 0.97


@pytest.mark.parametrize("space", SPACES)
def test_in_every_space_alone_as_in_company_and_inert(space):
    x, y, code = batch(space)
    case, model = SPACES[space], net()
    threat = Threat(L2(case.size), case.space)
    with unchanged(model):
        found = nearest_classes(model, x, y, threat, code=code)
    assert found.shape == (6, 4)
    for i in range(6):
        part = batch(space)[i : i + 1]
        assert torch.equal(nearest_classes(model, part.x, part.y, threat, code=part.code), found[i : i + 1])


def test_in_codes_and_maps_by_the_gradient_of_the_perturbation():
    for space in (LatentSpace(Plane().eval()), AffineSpace()):
        x, y, _ = batch()
        chart = space.chart(x, y)
        delta = chart.zero.clone().requires_grad_()
        z = class_scores(chart.decode(delta))
        jacobian = [torch.autograd.grad(z[:, k].sum(), delta, retain_graph=True)[0] for k in range(z.shape[1])]
        g = torch.stack(jacobian, 1).flatten(2)
        g = g - g.gather(1, y[:, None, None].expand(-1, 1, g.shape[2]))
        distance = (z.gather(1, y[:, None]) - z) / (0.01 * g.norm(dim=2))
        order = distance.scatter(1, y[:, None], math.inf).argsort(1)[:, :-1]
        assert torch.equal(nearest_classes(class_scores, x, y, Threat(L2(0.01), space)), order)


def test_refusals():
    x, y = torch.zeros(2, 3), torch.tensor([0, 1])
    with pytest.raises(ValueError, match="`count` to be an integer of at least 1, but got 0"):
        nearest_classes(margin, x, y, Linf(0.1), count=0)
    with pytest.raises(TypeError, match="`threat` to be a Ball"):
        nearest_classes(margin, x, y, 0.1)
    with pytest.raises(ValueError, match="class labels for a targeted gain"):
        nearest_classes(lambda x: x[:, :1], x, y, Linf(0.1))
    with pytest.raises(TypeError, match="model to return logits"):
        nearest_classes(lambda x: {"logits": x}, x, y, Linf(0.1))
    with pytest.raises(ValueError, match="Expected one label, 0 or 1, for each logit"):
        nearest_labels(lambda x: x, x, y, Linf(0.1))
