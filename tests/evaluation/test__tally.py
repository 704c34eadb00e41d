import math

import pytest
import torch
from scipy.stats import binomtest

from lightning_robust.evaluation._tally import Summary, Tally, are_probabilities, cautions


def bools(*rows):
    return [torch.tensor([bool(int(c)) for c in row]) for row in rows]


@pytest.mark.parametrize("each", [True, False])
def test_counts_of_batches_add_up_to_what_is_counted_by_hand(each):
    """Two attacks, the first with two restarts; what is masked out does not count."""
    tally = Tally(2, torch.device("cpu"))
    mask, clean, none = bools("11110", "11101", "00000")
    a, first, second, b, fooled, stuck = bools("10101", "01011", "00010", "11001", "00110", "11111")
    for _ in range(3):
        tally.add(mask, clean, none, none, [(a, torch.stack([first, second]), none), (b, fooled[None], stuck)])
    summary = Summary(tally.counts.tolist(), {"a": 2, "b": 1}, each=each)
    assert summary.n == 12
    worst = {"clean_acc": 9 / 12, "robust_acc": 3 / 12}  # right when clean, under a and under b: sample 0
    of_each = {"robust_acc_a": 6 / 12, "robust_acc_b": 6 / 12}
    success = {"success_a": 3 / 18, "success_worst_a": 3 / 9, "success_b": 3 / 9, "success_worst_b": 3 / 9}
    assert summary.logged == worst | (of_each if each else {})
    assert summary.more == {"n": 12.0} | success | ({} if each else of_each)
    assert summary.intervals["robust_acc"] == pytest.approx(tuple(binomtest(3, 12).proportion_ci(method="wilson")))
    assert summary.intervals.keys() == (worst | of_each | success).keys()
    (text,) = summary.warnings  # of b alone, by the samples that count and withstood
    assert "`b`" in text
    assert "6 of 12 samples" in text


def test_without_a_sample_there_is_no_share():
    summary = Summary(Tally(1, torch.device("cpu")).counts.tolist(), {"": 1})
    assert summary.n == 0
    assert all(math.isnan(value) for value in summary.logged.values())
    assert set(summary.logged) == {"clean_acc", "robust_acc"}
    assert summary.warnings == []


@pytest.mark.parametrize(("stuck", "told"), [(2, False), (3, True)])
def test_one_sample_in_a_hundred_may_have_no_gradient(stuck, told):
    assert ["3 of 200 samples" in text for text in cautions(200, 50, {"": stuck}, 0, 0)] == [True] * told


@pytest.mark.parametrize(("more", "are"), [(9e-4, True), (1.1e-3, False), (-9e-4, True), (-1.1e-3, False)])
def test_probabilities_sum_to_one_up_to_rounding(more, are):
    assert are_probabilities(torch.tensor([[0.25, 0.75 + more]])).tolist() == [are]


def test_probabilities_are_distributions_of_two_classes_or_more():
    z = torch.tensor([[2.0, -1.0, 0.5], [0.2, 0.3, 0.5]])
    assert are_probabilities(z).tolist() == [False, True]
    assert are_probabilities(z.softmax(1)).all()
    assert not are_probabilities(z.log_softmax(1)).any()
    assert not are_probabilities(torch.ones(3, 1)).any()
    assert not are_probabilities(torch.ones(3)).any()
    assert are_probabilities(z, yes_no=True).tolist() == [False, True]
