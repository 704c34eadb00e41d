"""Bounds against closed forms, and against programs that were written without the graph of conflicts."""

import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from lightning_robust.attacks import L2, Linf
from lightning_robust.bounds import _triples, conflicts, least_error, least_errors
from lightning_robust.bounds._triples import diameter


def sample(n, d, classes, seed):
    generator = torch.Generator().manual_seed(seed)
    y = torch.cat([torch.arange(classes), torch.randint(classes, (n - classes,), generator=generator)])
    return torch.rand(n, d, generator=generator, dtype=torch.float64), y


def value(x, y, ball, order=2):
    return least_error(torch.tensor(x), torch.tensor(y), ball, order=order).value


# ---- independent implementations


def best_subset(x, y, ball):
    """The least error without chance: the largest set of samples of which no two conflict, by trying all sets."""
    pairs = conflicts(x, y, ball).pairs.tolist()
    n = len(y)
    sizes = [s.bit_count() for s in range(2**n) if not any(s >> i & s >> j & 1 for i, j in pairs)]
    return 1 - max(sizes) / n


def best_mixture(x, y, eps):
    """The least error with chance, of the maximum norm: a program for the chances h of the classes at places.

    Boxes that have a common point have the corner of their greatest lower ends in common.
    """
    n, d, classes = *x.shape, int(y.max()) + 1
    x = x.numpy()
    places = np.array(list(itertools.product(*(np.unique(x[:, i] - eps) for i in range(d)))))
    inside = (np.abs(places[:, None] - x) <= eps + 1e-12).all(2)
    places, inside = places[inside.any(1)], inside[inside.any(1)]
    size = n + len(places) * classes
    below, equal = [], []
    for place, around in enumerate(inside):
        chances = n + place * classes
        row = np.zeros(size)
        row[chances : chances + classes] = 1
        equal.append(row)
        for i in np.flatnonzero(around):
            row = np.zeros(size)
            row[i], row[chances + int(y[i])] = 1, -1
            below.append(row)
    goal = -np.r_[np.ones(n), np.zeros(size - n)]
    solved = linprog(goal, np.array(below), np.zeros(len(below)), np.array(equal), np.ones(len(equal)), bounds=(0, 1))
    return 1 + solved.fun / n


def half_integral(x, y, ball):
    """The bound by pairs: a program of edges has a best solution in halves (Nemhauser and Trotter)."""
    pairs = conflicts(x, y, ball).pairs.tolist()
    choices = itertools.product((0, 0.5, 1), repeat=len(y))
    return 1 - max(sum(q) for q in choices if all(q[i] + q[j] <= 1 for i, j in pairs)) / len(y)


def dual_of_three(x, y, eps):
    """The bound by pairs and triples in the Euclidean norm, by the dual: the cheapest cover by sets that meet."""
    x, sets = x.numpy(), [(i,) for i in range(len(y))]
    for size in (2, 3):
        for members in itertools.combinations(range(len(y)), size):
            if len(set(y[list(members)].tolist())) == size and around(x[list(members)]) <= eps:
                sets.append(members)
    covers = np.array([[i in members for members in sets] for i in range(len(y))], dtype=float)
    solved = linprog(np.ones(len(sets)), -covers, -np.ones(len(y)), bounds=(0, None))
    return 1 - solved.fun / len(y)


def around(points):
    """The radius of the smallest ball around two or three points, by its center."""
    radius = max(np.linalg.norm(a - b) for a in points for b in points) / 2
    if len(points) < 3:
        return radius
    edges = points[1:] - points[0]
    weights = np.linalg.solve(2 * edges @ edges.T, (edges**2).sum(1))  # equal distances to all three
    if (weights < 0).any() or weights.sum() > 1:
        return radius
    return np.linalg.norm(weights @ edges)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("ball", [Linf(0.15), L2(0.2)])
def test_two_classes_are_exact(seed, ball):
    x, y = sample(11, 2, 2, seed)
    for order in (2, 3):
        assert least_error(x, y, ball, order=order).value == pytest.approx(best_subset(x, y, ball), abs=1e-12)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("d", [1, 2])
def test_three_classes_are_exact_for_classifiers_that_draw(seed, d):
    x, y = sample(12, d, 3, seed)
    eps = 0.08 * d**2
    exact = best_mixture(x, y, eps)
    assert least_error(x, y, Linf(eps), order=3).value == pytest.approx(exact, abs=1e-9)
    assert exact <= best_subset(x, y, Linf(eps)) + 1e-9


def test_of_four_classes_the_bounds_rise_to_the_exact_one_and_do_not_pass_it():
    rises = []
    for seed in range(4):
        x, y = sample(12, 2, 4, seed)
        pairs, three = (least_error(x, y, Linf(0.2), order=order).value for order in (2, 3))
        assert three <= best_mixture(x, y, 0.2) + 1e-9
        rises.append(three - pairs)
    assert min(rises) >= 0
    assert max(rises) > 0.01


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("ball", [Linf(0.15), L2(0.2)])
def test_pairs_of_several_classes_are_the_best_solution_in_halves(seed, ball):
    x, y = sample(8, 2, 3, seed)
    assert least_error(x, y, ball).value == pytest.approx(half_integral(x, y, ball), abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("d", [2, 3])
def test_triples_of_euclidean_balls_are_those_with_a_common_point(seed, d, monkeypatch):
    monkeypatch.setattr(_triples, "_CHUNK", 5)
    x, y = sample(14, d, 4, seed)
    eps = 0.13 * d
    assert least_error(x, y, L2(eps), order=3).value == pytest.approx(dual_of_three(x, y, eps), abs=1e-9)


def test_the_smallest_ball_around_three_points():
    generator = np.random.default_rng(0)
    points = generator.normal(size=(200, 3, 5))
    points[:50, 2] = points[:50, :2].mean(1) + 1e-3 * points[:50, 2]  # nearly on the line between the others
    sides = np.stack([np.linalg.norm(points[:, i] - points[:, j], axis=1) for i, j in ((0, 1), (0, 2), (1, 2))], 1)
    assert diameter(sides) == pytest.approx([2 * around(each) for each in points], rel=1e-9)
    assert diameter(np.array([[2.0, 2.0, 0.0], [0.0, 0.0, 0.0]])).tolist() == [2.0, 0.0]
    assert diameter(np.ones((1, 3))) == pytest.approx([2 / 3**0.5])


# ---- closed forms


@pytest.mark.parametrize("ball", [Linf, L2])
def test_two_points(ball):
    x, y = [[0.0], [0.5]], [0, 1]
    assert [value(x, y, ball(eps)) for eps in (0.0, 0.24, 0.25, 1.0)] == [0, 0, 0.5, 0.5]


def test_a_line_of_alternating_points():
    x, y = [[float(i)] for i in range(9)], [i % 2 for i in range(9)]
    assert value(x, y, Linf(0.49)) == 0
    assert value(x, y, Linf(0.5)) == pytest.approx(4 / 9)  # every other point is given up
    blocks = [i // 3 % 2 for i in range(9)]
    assert value(x, blocks, Linf(0.5)) == pytest.approx(2 / 9)  # one at each of two borders


def test_points_with_several_labels():
    x, y = [[0.5]] * 5 + [[0.75]], [0, 0, 0, 1, 1, 2]
    assert value(x, y, Linf(0.0)) == pytest.approx(2 / 6)  # the majority is right
    three = [[0.5]] * 3, [0, 1, 2]
    assert [value(*three, Linf(0.0), order=order) for order in (2, 3)] == pytest.approx([1 / 2, 2 / 3])


def test_an_equilateral_triangle_conflicts_pairwise_before_it_does_at_once():
    x, y = [[0.0, 0.0], [1.0, 0.0], [0.5, 3**0.5 / 2]], [0, 1, 2]
    for eps, pairs, three in ((0.499, 0, 0), (0.501, 1 / 2, 1 / 2), (0.577, 1 / 2, 1 / 2), (0.578, 1 / 2, 2 / 3)):
        assert value(x, y, L2(eps)) == pytest.approx(pairs)
        assert value(x, y, L2(eps), order=3) == pytest.approx(three)


@pytest.mark.parametrize("order", [2, 3])
def test_where_nothing_conflicts_the_bound_is_zero(order):
    bound = least_error(torch.eye(4), torch.arange(4), Linf(0.4), order=order)
    assert (bound.value, bound.pairs, bound.samples, bound.triples, bound.n) == (0, 0, 0, 0, 4)
    assert least_error(torch.zeros(3, 2), torch.zeros(3, dtype=torch.long), Linf(1.0), order=order).value == 0


# ---- laws


@pytest.mark.parametrize("ball", [Linf, L2])
def test_it_rises_with_the_radius_and_the_order(ball):
    x, y = sample(60, 3, 4, 0)
    balls = [ball(eps) for eps in (0.0, 0.05, 0.1, 0.2, 0.3)]
    pairs, three = (least_errors(x, y, balls, order=order) for order in (2, 3))
    for bounds in (pairs, three):
        values = [bound.value for bound in bounds]
        assert values == sorted(values)
        assert values[0] == 0 < values[-1]
    assert all(low.value <= high.value for low, high in zip(pairs, three, strict=True))
    assert pairs[-1].value < three[-1].value
    assert [bound.pairs for bound in pairs] == [len(conflicts(x, y, each).pairs) for each in balls]
    assert pairs[2] == least_error(x, y, balls[2])


def test_a_radius_may_be_a_tensor():
    x, y = sample(60, 3, 4, 0)
    balls = [L2(torch.tensor(eps, dtype=torch.float64)) for eps in (0.2, 0.1)]
    assert least_errors(x, y, balls) == least_errors(x, y, [L2(0.2), L2(0.1)])


@pytest.mark.parametrize("order", [2, 3])
def test_the_order_of_samples_and_the_names_of_classes_do_not_matter(order):
    x, y = sample(40, 2, 3, 1)
    places = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    names = torch.tensor([7, -1, 3])
    first = least_error(x, y, Linf(0.2), order=order)
    second = least_error(x[places], names[y][places], Linf(0.2), order=order)
    assert first.value == pytest.approx(second.value, abs=1e-9)
    assert (first.pairs, first.samples, first.triples) == (second.pairs, second.samples, second.triples)


def test_no_classifier_that_is_tried_goes_below_it():
    """The nearest neighbor among the samples, on boxes: robust where no sample of another class is nearer anywhere."""
    x, y = sample(30, 1, 2, 3)
    distances = (x - x.T).abs()
    other = torch.where(y[:, None] != y, distances, torch.inf).amin(1)
    for eps in (0.01, 0.05, 0.1):
        wrong = (other / 2 < eps).double().mean()
        assert least_error(x, y, Linf(eps)).value <= float(wrong)


def test_too_many_triples_and_no_balls_are_refused(monkeypatch):
    monkeypatch.setattr(_triples, "MOST", 10)
    x, y = torch.zeros(12, 2), torch.arange(12) % 3
    with pytest.raises(ValueError, match=r"`order` to be 2 .* more than 10 triples"):
        least_error(x, y, Linf(0.1), order=3)
    assert least_error(x, y, Linf(0.1)).value == pytest.approx(1 / 2)
    with pytest.raises(ValueError, match="one radius for all samples"):
        least_errors(x, y, [Linf(torch.full((len(x),), 0.1)), Linf(0.05)])
    with pytest.raises(ValueError, match="`balls` to hold at least one"):
        least_errors(x, y, [])
    with pytest.raises(ValueError, match="`ball` to be"):
        least_errors(x, y, [Linf(0.1), L2(0.05)])
