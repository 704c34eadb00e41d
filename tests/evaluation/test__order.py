"""Is a cut a fair draw? The law of the runs of labels."""

import itertools
import math

import pytest
import torch
from torch.utils.data import DataLoader

from lightning_robust.evaluation._data import end_of
from lightning_robust.evaluation._order import Order, chance_of_runs, sorted_cut
from lightning_robust.evaluation._reader import Reader


def by_hand(labels):
    """The share of all orders that have at most as many runs of labels up to the split, and above it."""
    n, best = len(labels), None
    for split in sorted(set(labels))[:-1]:
        above = sum(label > split for label in labels)
        if best is None or abs(n - 2 * above) < abs(n - 2 * best[0]):
            best = above, split
    equal = sum(a == b for a, b in itertools.pairwise(labels))
    if best is None or equal * n <= sum(labels.count(one) - 1 for one in labels):
        return 1.0

    def runs(order):
        return sum((a > best[1]) != (b > best[1]) for a, b in itertools.pairwise(order))

    every = [runs(order) for order in itertools.permutations(labels)]
    return sum(each <= runs(labels) for each in every) / len(every)


@pytest.mark.parametrize("seed", range(12))
def test_the_chance_is_the_share_of_all_orders(seed):
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 1 + seed % 4, (2 + seed % 6,), generator=g)
    assert chance_of_runs(labels) == pytest.approx(by_hand(labels.tolist()), abs=1e-9)


def test_the_chance_in_closed_form():
    assert chance_of_runs(torch.arange(20) // 10) == pytest.approx(2 / 184756)
    assert chance_of_runs(torch.arange(20000) // 10000) == 0
    assert chance_of_runs(torch.cat([torch.arange(20000) % 2, torch.ones(2).long()])) == pytest.approx(1)


def ordered(*parts, cut=True):
    """The indicators of processes that have seen these labels."""
    total = torch.zeros(2, dtype=torch.int64)
    for part in parts:
        order = Order()
        for labels in part.split(16):
            order.see(Reader().read((torch.zeros(len(labels), 1), labels)))
        order.cut = cut
        total += order.counts
    return sorted_cut(*total.tolist())


def flagged(*parts, **kwargs):
    return [one.flagged for one in ordered(*parts, **kwargs)] == [True]


SORTED = {
    "class after class": torch.arange(300) // 100,
    "backwards": -(torch.arange(300) // 100) + 2,
    "thousand classes": torch.arange(500) // 50,
    "in groups": torch.tensor([7, 2, 9, 4, 0, 5, 1, 8, 3, 6]).repeat(3).repeat_interleave(20),
    "one class, and what is left out": torch.tensor([0] * 30 + [1] * 20),
    "few": torch.arange(24) // 12,
}


@pytest.mark.parametrize("name", SORTED)
def test_a_cut_of_data_in_order_is_doubted(name):
    labels = SORTED[name]
    assert flagged(labels)
    assert flagged(labels[:, None].int())
    assert not ordered(labels, cut=False)  # all of it is no cut
    if len(labels) >= 100:  # dealt out over processes
        assert flagged(*(labels[rank::3] for rank in range(3)))


def test_a_fair_cut_is_not():
    """Tiny, imbalanced, of one class, alternating: none of 600 shuffled orders."""
    g = torch.Generator().manual_seed(0)
    for seed in range(600):
        n = (1, 5, 20, 64, 500, 2000)[seed % 6]
        labels = (torch.rand(n, generator=g) ** (1 + seed % 5) * (1 + seed % 11)).long()
        assert not flagged(labels)
        assert not flagged(*(labels[rank::2] for rank in range(2)))
    assert not flagged(torch.zeros(100, dtype=torch.long))
    assert not flagged(torch.arange(1000) % 10)  # in two halves of the classes there are runs of five
    assert not flagged(torch.tensor([0] * 199 + [1]))


def test_labels_that_are_no_classes_are_not_asked():
    for y in (torch.arange(64.0) // 32, torch.zeros(64, 2).long(), None):
        order = Order()
        order.cut = True
        order.see(Reader(target=None if y is None else 1).read((torch.zeros(64, 1), y)))
        assert not sorted_cut(*order.counts.tolist())
    empty = Order()
    empty.see(None)
    empty.cut = True
    assert not sorted_cut(*empty.counts.tolist())


def test_a_loader_may_fill_the_memory_of_a_batch_with_the_next():
    order, y = Order(), torch.zeros(20, dtype=torch.long)
    for label in (0, 1, 2):
        order.see(Reader().read((torch.zeros(20, 1), y.fill_(label))))
    order.cut = True
    (one,) = sorted_cut(*order.counts.tolist())
    assert one.flagged


def test_an_end_that_moves_no_accuracy_out_of_its_interval_is_no_cut():
    """Nor by 5 points: of 10,000 the interval is 1 point to each side, of 90 it is 10."""

    def read(n, size, batches=math.inf):
        return end_of(DataLoader(range(n), size, drop_last=True), batches)

    assert [read(10_000, 128), read(1000, 39), read(90, 43), read(90, 45)] == [None, None, None, None]
    assert [read(10_000, 600), read(1000, 48), read(90, 40), read(1000, 10, 90)] == [9600, 960, 80, 900]
