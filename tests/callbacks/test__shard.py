from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import DistributedSampler

from lightning_robust.callbacks._shard import Shard, summed


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
