import numpy as np
import pytest
import torch
from scipy import stats

from lightning_robust._counter import bits, digest, mix, permutation, uniform


def test_mix_is_splitmix64():
    """The first five outputs of the reference implementation in C, seeded with 1234567."""
    golden, state, out = 0x9E3779B97F4A7C15, 1234567, []
    for _ in range(5):
        out.append(int(mix(torch.tensor(state if state < 1 << 63 else state - (1 << 64)))) % (1 << 64))
        state = (state + golden) % (1 << 64)
    assert out == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def test_no_collisions_along_one_word():
    words = bits(3, torch.arange(200_000), torch.tensor(5))
    assert len(words.unique()) == 200_000


@pytest.mark.parametrize("seed", [0, 1, -1, 2**70])
def test_uniform(seed):
    u = uniform(seed, torch.arange(20_000)[:, None], torch.arange(6))
    assert u.dtype == torch.float32
    assert u.shape == (20_000, 6)
    assert u.min() >= 0
    assert u.max() < 1
    for column in u.T.numpy():
        assert stats.kstest(column, "uniform").pvalue > 1e-4


def test_uniform_numbers_are_independent():
    u = uniform(0, torch.arange(20_000)[:, None], torch.arange(6)).double().numpy()
    other = uniform(1, torch.arange(20_000), torch.tensor(0)).double().numpy()
    neighbour = np.roll(u[:, 0], 1)
    table = np.corrcoef(np.column_stack([u, other, neighbour]).T)
    assert abs(table - np.eye(8)).max() < 5 / np.sqrt(20_000)
    for pair in ((u[:, 0], u[:, 1]), (u[:, 0], neighbour), (u[:, 0], other)):
        counts = np.histogram2d(*pair, bins=10, range=[[0, 1], [0, 1]])[0]
        assert stats.chisquare(counts.ravel()).pvalue > 1e-4


def test_alone_as_in_company():
    together = uniform(4, torch.arange(100)[:, None], torch.arange(6))
    assert torch.equal(uniform(4, torch.tensor([[37]]), torch.arange(6))[0], together[37])
    assert uniform(4, torch.tensor(37), torch.tensor(2)) == together[37, 2]


def test_permutation():
    orders = [permutation(1000, 0), permutation(1000, 1), permutation(1000, 0, 1), permutation(1000, 0, 2)]
    for i, order in enumerate(orders):
        assert torch.equal(order.sort().values, torch.arange(1000))
        assert not any(torch.equal(order, other) for other in orders[:i])
    assert torch.equal(permutation(1000, 0, 1), orders[2])
    # Where 700 samples are shuffled, their order is that among 1000.
    assert torch.equal(permutation(700, 0), orders[0][orders[0] < 700])


def test_permutation_is_uniform():
    """All 24 orders of four are equally likely."""
    weights = torch.tensor([64, 16, 4, 1])
    codes = torch.stack([(permutation(4, seed) * weights).sum() for seed in range(2400)])
    counts = codes.unique(return_counts=True)[1].numpy()
    assert len(counts) == 24
    assert stats.chisquare(counts).pvalue > 1e-4


def test_digest_depends_on_all_words_and_their_order():
    words = torch.arange(10)
    digests = {digest(0, words), digest(1, words), digest(0, words.flip(0)), digest(0, words[:9])}
    assert len(digests) == 4
    assert all(0 <= d < 1 << 63 for d in digests)


def test_nothing_is_drawn_from_the_global_generator():
    state = torch.random.get_rng_state()
    uniform(0, torch.arange(10)), permutation(10, 0), digest(0, torch.arange(3))
    assert torch.equal(torch.random.get_rng_state(), state)
