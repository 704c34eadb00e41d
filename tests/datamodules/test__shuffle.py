import torch

from lightning_robust.datamodules._shuffle import Shuffle


def test_every_sample_once_an_epoch():
    sampler = Shuffle(30, seed=1)
    assert len(sampler) == 30
    first, second = list(sampler), list(sampler)
    assert sorted(first) == list(range(30))
    assert sorted(second) == list(range(30, 60))
    assert [i % 30 for i in second] != first


def test_the_epoch_decides():
    sampler, later = Shuffle(30, seed=1), Shuffle(30, seed=1, epoch=2)
    passes = [list(sampler) for _ in range(4)]
    assert list(later) == passes[2]
    assert list(later) == passes[3]
    sampler.set_epoch(1)
    assert list(sampler) == passes[1]
    assert list(Shuffle(30, seed=2)) != passes[0]


def test_global_generators_do_not_matter():
    state = torch.random.get_rng_state()
    first = list(Shuffle(30))
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(99)
    assert list(Shuffle(30)) == first
