from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler, SequentialSampler

from lightning_robust.callbacks._shard import Shard, gathered, size_of, summed


def trainer(world, replicas, sums):
    kwargs = None if replicas is None else {"num_replicas": replicas, "rank": 0}
    strategy = SimpleNamespace(reduce=lambda counts, reduce_op: counts * sums)
    return SimpleNamespace(world_size=world, distributed_sampler_kwargs=kwargs, strategy=strategy)


@pytest.mark.parametrize(("world", "replicas", "expected"), [(1, None, 1), (4, 4, 4), (4, 2, 2), (4, 1, 1)])
def test_processes_that_see_the_same_data_count_once(world, replicas, expected):
    """Tensor parallelism: four processes in groups that share their samples."""
    counts = torch.tensor([5, 3])
    assert summed(trainer(world, replicas, world), counts).tolist() == [5 * expected, 3 * expected]
    sums = torch.tensor([0.25, -0.75], dtype=torch.float64)
    assert summed(trainer(world, replicas, world), sums).tolist() == [0.25 * expected, -0.75 * expected]


@pytest.mark.parametrize(("world", "replicas"), [(1, None), (2, 2), (4, 2)])
def test_lists_of_any_length_come_together(world, replicas):
    """Of each process its own, whether others have longer ones or none; two calls, and one where it is alone."""
    lists = [[torch.arange(rank + 1), torch.arange(3 * rank), torch.arange(0)] for rank in range(world)]
    sent = []
    for rank in range(world):

        def reduce(counts, reduce_op, rank=rank):
            sent.append(counts)
            others = [[len(one) for one in of] for of in lists]
            assert counts[:, 1:].T[rank].tolist() == others[rank]
            return torch.cat([world * counts[:, :1], torch.tensor(others).T.double()], dim=1)

        def all_gather(padded, rank=rank):
            assert padded.shape == (3, max(len(one) for of in lists for one in of))
            filled = torch.full((world, *padded.shape), -1)
            for process, of in enumerate(lists):
                for i, one in enumerate(of):
                    filled[process, i, : len(one)] = one
                    assert process != rank or torch.equal(padded[i, : len(one)], one)
            return filled

        t = trainer(world, replicas, world)
        t.global_rank = rank
        t.strategy = SimpleNamespace(reduce=reduce, all_gather=all_gather, root_device="cpu")
        sums, found = gathered(t, torch.full((3, 1), 5.0, dtype=torch.float64), lists[rank])
        assert sums.tolist() == [[5.0 * (replicas or 1)]] * 3
        assert [one.tolist() for one in found] == [
            [value for of in lists for value in of[i].tolist()] for i in range(3)
        ]
    assert len(sent) == world


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


@pytest.mark.parametrize("max_samples", [1, 5, 7, 9])
def test_of_samples_that_the_user_has_shared_out_as_many_count_as_were_asked_for(max_samples):
    """Also where the processes cannot share their number equally; all stop at once, as collective models ask."""
    counted, seen = 0, []
    for rank in range(3):
        shard = Shard(SimpleNamespace(sampler=None), 3, max_samples, rank)
        rows = [i for i in range(10) if not shard.exhausted(i)]
        seen.append(len(rows))
        counted += sum(int(shard.counted(i, 1, torch.device("cpu"))) for i in rows)
    assert counted == max_samples
    assert len(set(seen)) == 1


@pytest.mark.parametrize("max_samples", [None, 4, 6, 7, 8, 20])
def test_what_a_sampler_repeats_is_not_left_out(max_samples):
    """Seven samples over two processes: the eighth is the first again."""
    cut = []
    for rank in range(2):
        sampler = DistributedSampler(range(7), num_replicas=2, rank=rank, shuffle=False)
        shard = Shard(SimpleNamespace(sampler=sampler), 2, max_samples)
        cut.append([shard.cuts(seen) for seen in range(1, 5)])
    assert cut == [
        [max_samples is not None and max_samples < 7 and r + 2 * i >= max_samples for i in range(4)] for r in (0, 1)
    ]


def test_without_a_sampler_that_deals_out_what_comes_after_is_left_out():
    for max_samples, expected in ((None, False), (5, True), (10, False)):
        assert Shard(SimpleNamespace(sampler=None), 1, max_samples).cuts(10) == expected


def test_the_size_of_batches_that_was_asked_for():
    data = list(range(5))
    batches = BatchSampler(SequentialSampler(data), 3, drop_last=False)
    loaders = DataLoader(data, batch_size=2), DataLoader(data, batch_sampler=batches), DataLoader(data, batch_size=None)
    assert [size_of(one) for one in (*loaders, data)] == [2, 3, None, None]
