import math
from types import SimpleNamespace

import pytest
import torch
from scipy.stats import binomtest
from torch.utils.data import DistributedSampler

from lightning_robust.callbacks._tally import Mailbox, Shard, Summary, Tally, are_probabilities, summed


def bools(*rows):
    return [torch.tensor([bool(int(c)) for c in row]) for row in rows]


def test_counts_of_batches_add_up_to_what_is_counted_by_hand():
    """Two attacks, the first with two attempts; what is masked out does not count."""
    tally = Tally({"a": 2, "b": 1}, torch.device("cpu"))
    mask, clean, none = bools("11110", "11101", "00000")
    a, first, second, b, fooled, stuck = bools("10101", "01011", "00010", "11001", "00110", "11111")
    for _ in range(3):
        tally.add(mask, clean, none, none, [(a, torch.stack([first, second]), none), (b, fooled[None], stuck)])
    summary = Summary(tally.counts.tolist(), {"a": 2, "b": 1})
    assert summary.n == 12
    assert summary.logged == {
        "clean_acc": 9 / 12,
        "robust_acc": 3 / 12,  # right when clean, under a and under b: sample 0
        "robust_acc_a": 6 / 12,
        "robust_acc_b": 6 / 12,
    }
    assert summary.more == {
        "n": 12.0,
        "success_a": 3 / 18,
        "success_worst_a": 3 / 9,
        "success_b": 3 / 9,
        "success_worst_b": 3 / 9,
    }
    assert summary.intervals["robust_acc"] == pytest.approx(tuple(binomtest(3, 12).proportion_ci(method="wilson")))
    assert summary.intervals.keys() == (summary.logged | summary.more).keys() - {"n"}
    (text,) = summary.warnings  # of b alone, by the samples that count and withstood
    assert "`b`" in text
    assert "6 of 12 samples" in text


def test_without_a_sample_there_is_no_share():
    summary = Summary(Tally({"": 1}, torch.device("cpu")).counts.tolist(), {"": 1})
    assert summary.n == 0
    assert all(math.isnan(value) for value in summary.logged.values())
    assert set(summary.logged) == {"clean_acc", "robust_acc"}
    assert summary.warnings == []


def test_probabilities_are_distributions_of_two_classes_or_more():
    z = torch.tensor([[2.0, -1.0, 0.5], [0.2, 0.3, 0.5]])
    assert are_probabilities(z).tolist() == [False, True]
    assert are_probabilities(z.softmax(1)).all()
    assert not are_probabilities(z.log_softmax(1)).any()
    assert not are_probabilities(torch.ones(3, 1)).any()
    assert not are_probabilities(torch.ones(3)).any()


def trainer(world, replicas, sums):
    kwargs = None if replicas is None else {"num_replicas": replicas, "rank": 0}
    strategy = SimpleNamespace(reduce=lambda counts, reduce_op: counts * sums)
    return SimpleNamespace(world_size=world, distributed_sampler_kwargs=kwargs, strategy=strategy)


@pytest.mark.parametrize(("world", "replicas", "expected"), [(1, None, 1), (4, 4, 4), (4, 2, 2), (4, 1, 1)])
def test_processes_that_see_the_same_data_count_once(world, replicas, expected):
    """Tensor parallelism: four processes in groups that share their samples."""
    counts = torch.tensor([5, 3])
    assert summed(trainer(world, replicas, world), counts).tolist() == [5 * expected, 3 * expected]


@pytest.mark.parametrize("max_samples", [None, 1, 5, 7, 100])
@pytest.mark.parametrize("n", [5, 6, 7])
def test_the_shards_of_a_sampler_count_every_sample_once(n, max_samples):
    counted = []
    for rank in range(3):
        sampler = DistributedSampler(range(n), num_replicas=3, rank=rank, shuffle=False)
        shard = Shard(SimpleNamespace(sampler=sampler), 3, max_samples)
        samples = list(sampler)
        for seen, sample in enumerate(samples):
            if not shard.exhausted(seen) and bool(shard.counted(seen, 1, torch.device("cpu"))[0]):
                counted.append(sample)
    assert sorted(counted) == list(range(min(n, max_samples or n)))


def test_a_mailbox():
    mailbox = Mailbox()
    assert mailbox.read() is None
    for content in ({"a": 0.5}, [{"long": "x" * 1000}, {"nan": 1.0}], {}):
        mailbox.write(content)
        assert mailbox.read() == content
    mailbox.write("x" * 100_000)  # does not fit
    assert mailbox.read() is None
