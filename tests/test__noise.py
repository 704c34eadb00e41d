import math

import pytest
import torch
from scipy.stats import chisquare, kstest, truncnorm

from lightning_robust._noise import Noise, normal_within

LARGEST = 4188202
"""A word whose first uniform number is the largest of all."""


def some(n=2000):
    return Noise(torch.arange(n, dtype=torch.int32))


def test_uniform_numbers_are_uniform_and_independent():
    u = some().uniform((32,)).double()
    assert u.shape == (2000, 32)
    assert kstest(u.flatten().numpy(), "uniform").pvalue > 1e-4
    for column in (0, 7, 31):
        assert kstest(u[:, column].numpy(), "uniform").pvalue > 1e-4
    bound = 6 / math.sqrt(2000)
    assert (torch.corrcoef(u.T) - torch.eye(32)).abs().max() < bound  # between coordinates
    rows = torch.corrcoef(some(64).uniform((2000,)).double())
    assert (rows - torch.eye(64)).abs().max() < bound  # between samples with neighbouring words
    pairs = (u[:, ::2] * 16).long() * 16 + (u[:, 1::2] * 16).long()
    assert chisquare(torch.bincount(pairs.flatten(), minlength=256).numpy()).pvalue > 1e-4


def test_every_bit_is_a_fair_coin():
    bits = (some().uniform((64,)).double() * 2**23).long()[..., None] >> torch.arange(23) & 1
    n = bits[..., 0].numel()
    assert (bits.double().mean((0, 1)) - 0.5).abs().max() < 5 * 0.5 / math.sqrt(n)


def test_uniform_numbers_are_in_the_open_interval_and_exact():
    u = Noise(torch.arange(1 << 20, dtype=torch.int32)).uniform((4,))
    assert u.min() > 0
    assert u.max() < 1
    assert 0 < Noise(torch.tensor([LARGEST], dtype=torch.int32)).uniform((1,)) < 1


def test_normal_and_exponential_numbers():
    assert kstest(some().normal((16,)).flatten().numpy(), "norm").pvalue > 1e-4
    assert kstest(some().exponential((16,)).flatten().numpy(), "expon").pvalue > 1e-4
    for words in ([LARGEST], [1363743]):
        noise = Noise(torch.tensor(words, dtype=torch.int32))
        for numbers in (noise.normal((4,)), noise.normal((4,), 0), noise.exponential((4,)), noise.exponential((4,), 0)):
            assert numbers.isfinite().all()
    assert (some(100_000).exponential((4,)) > 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("levels", [1, 2, 4, 255])
@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
def test_different_samples_draw_different_numbers(levels, signed, dtype):
    """Also where the content has few bits, such as black and white images, or signs (the Bernoulli model)."""
    x = (torch.rand(2000, 100) * levels).round() / levels
    x = (2 * x - 1 if signed else x).to(dtype)
    assert len(x.unique(dim=0)) == 2000
    assert len(Noise.of(x, 0).words.unique()) >= 1998, "of 2000 words, about 0.0005 pairs collide by chance"


def test_a_single_changed_bit_changes_half_of_the_bits():
    x = torch.rand(200, 50)
    y = x.clone()
    y[:, 17] = torch.nextafter(y[:, 17], torch.ones(()))
    moved = Noise.of(x, 0).words ^ Noise.of(y, 0).words
    bits = (moved[:, None] >> torch.arange(32)) & 1
    assert 0.45 < bits.double().mean() < 0.55


def test_alone_as_in_company_and_whatever_the_layout():
    x = torch.rand(6, 3, 8, 8)
    together = Noise.of(x, 1, 2).uniform((5,))
    assert torch.equal(torch.cat([Noise.of(row[None], 1, 2).uniform((5,)) for row in x]), together)
    assert torch.equal(Noise.of(x.to(memory_format=torch.channels_last), 1, 2).uniform((5,)), together)
    assert torch.equal(Noise.of(x.double(), 1, 2).uniform((5,)), together)
    assert torch.equal(Noise.of(x.flatten(1), 1, 2).uniform((5,)), together)


def test_keys_streams_and_folds_are_independent():
    x = torch.rand(2000, 8)
    base = Noise.of(x, 0)
    draws = [base.uniform((1,))]
    draws += [Noise.of(x, *key).uniform((1,)) for key in ((1,), (-1,), (1 << 32,), (0, 1), (1, 0), (0, 0))]
    draws += [base.fold(r).uniform((1,)) for r in (0, 1, 2)] + [base.uniform((1,), s) for s in (0, 1, 2)]
    table = torch.cat(draws, 1).double()
    off = torch.corrcoef(table.T) - torch.eye(len(draws))
    assert off.abs().max() < 6 / math.sqrt(2000)


def test_nothing_is_drawn_from_the_global_stream():
    before = torch.get_rng_state()
    Noise.of(torch.ones(2, 3), 7).normal((4,))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_numbers_of_a_key_never_change():
    """Runs can be repeated with a later version."""
    u = Noise.of(torch.linspace(0, 1, 12).reshape(3, 4), 7).uniform((2,))
    assert torch.equal(u, Noise.of(torch.linspace(0, 1, 12).reshape(3, 4), 7).uniform((9,))[:, :2])


@pytest.mark.parametrize("bound", [0.5, 2.0])
def test_normal_numbers_within_a_bound_are_those_of_scipy(bound):
    u = torch.linspace(0, 1, 101, dtype=torch.float64)
    want = torch.from_numpy(truncnorm.ppf(u.numpy(), -bound, bound))
    torch.testing.assert_close(normal_within(u, bound), want)
