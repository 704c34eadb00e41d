import torch
from torch.utils.data import DataLoader, SequentialSampler

from lightning_robust.datamodules._loader import ResumableLoader, Shuffle


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


def loader():
    return ResumableLoader(range(10_000), batch_size=3, sampler=Shuffle(20, seed=0), collate_fn=list)


def test_is_a_plain_loader():
    plain = DataLoader(range(10_000), batch_size=3, sampler=Shuffle(20, seed=0), collate_fn=list)
    resumable = loader()
    assert len(resumable) == len(plain) == 7
    for _ in range(3):
        assert list(resumable) == list(plain)


def test_goes_on_in_the_middle_of_an_epoch():
    whole = loader()
    epochs = [list(whole) for _ in range(3)]
    first = loader()
    list(first)
    iterator = iter(first)
    served = [next(iterator) for _ in range(4)]
    assert served == epochs[1][:4]
    assert first.state_dict() == {"epoch": 1, "served": 4}

    second = loader()
    second.load_state_dict(first.state_dict())
    second.sampler.set_epoch(1)
    assert list(second) == epochs[1][4:]
    assert list(second) == epochs[2]


def test_a_state_of_another_epoch_skips_nothing():
    resumable = loader()
    resumable.load_state_dict({"epoch": 0, "served": 4})
    resumable.sampler.set_epoch(1)
    assert len(list(resumable)) == 7
    # Nor later: the state was of the pass that came next.
    resumable.sampler.set_epoch(0)
    assert len(list(resumable)) == 7


def test_samplers_without_an_epoch_have_nothing_to_resume():
    resumable = ResumableLoader(range(20), batch_size=3, sampler=SequentialSampler(range(20)), collate_fn=list)
    assert len(list(resumable)) == 7
    resumable.load_state_dict(resumable.state_dict())
    assert len(list(resumable)) == 7
