import pytest
import torch

from lightning_robust.datamodules import balanced_subset, stratified_split


@pytest.fixture
def labels():
    counts = torch.tensor([50, 30, 20, 100])
    return torch.repeat_interleave(torch.arange(4), counts)[torch.randperm(200)]


def test_balanced(labels):
    rows = balanced_subset(labels, 40, seed=0)
    assert len(rows.unique()) == 40
    assert labels[rows].bincount().tolist() == [10] * 4
    assert balanced_subset(labels, 80).unique().numel() == 80


def test_nested(labels):
    largest = balanced_subset(labels, 80, seed=5)
    for size in range(4, 80, 4):
        assert torch.equal(balanced_subset(labels, size, seed=5), largest[:size])


def test_seeds_choose_different_rows_and_the_global_generator_does_not_matter(labels):
    first = balanced_subset(labels, 40, seed=0)
    torch.manual_seed(123)
    state = torch.random.get_rng_state()
    assert torch.equal(balanced_subset(labels, 40, seed=0), first)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not torch.equal(balanced_subset(labels, 40, seed=1).sort().values, first.sort().values)


def test_each_row_is_equally_likely():
    labels = torch.arange(20) % 2
    counts = torch.zeros(20)
    for seed in range(2000):
        counts[balanced_subset(labels, 8, seed)] += 1
    # Binomial(2000, 0.4): mean 800, deviation 22.
    assert ((counts - 800).abs() < 5 * 22).all()


def test_labels_need_not_be_consecutive():
    labels = torch.tensor([-3, 7, 7, -3, 7])
    assert labels[balanced_subset(labels, 4)].tolist() == [-3, 7, -3, 7]


@pytest.mark.parametrize(
    ("size", "message"),
    [
        *((size, f"`size` to be .*, but got {size}") for size in (0, -4, 3, 41)),
        (84, r"`size` to be at most 80 = 4 x 20, since class 2 has only 20 .* got 84"),
    ],
)
def test_sizes_that_cannot_be_are_refused(labels, size, message):
    with pytest.raises(ValueError, match=message):
        balanced_subset(labels, size)


@pytest.mark.parametrize(
    "wrong", [torch.rand(5), torch.zeros(5, 1, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)]
)
def test_wrong_labels_are_refused(wrong):
    with pytest.raises(ValueError, match="Expected argument `labels`"):
        balanced_subset(wrong, 1)


@pytest.mark.parametrize("size", [0, 1, 7, 20, 100, 199])
def test_split_is_a_partition_in_proportion(labels, size):
    rest, held_out = stratified_split(labels, size, seed=0)
    assert torch.equal(torch.cat([rest, held_out]).sort().values, torch.arange(200))
    assert len(held_out) == size
    share = labels.bincount() * size / 200
    assert ((labels[held_out].bincount(minlength=4) - share).abs() < 1).all()


def test_split_depends_on_the_seed(labels):
    _, first = stratified_split(labels, 40, seed=0)
    assert torch.equal(stratified_split(labels, 40, seed=0)[1], first)
    assert not torch.equal(stratified_split(labels, 40, seed=1)[1], first)


@pytest.mark.parametrize("size", [-1, 200, 1000])
def test_wrong_split_sizes_are_refused(labels, size):
    with pytest.raises(ValueError, match=rf"`size` to be .*, but got {size}"):
        stratified_split(labels, size)
