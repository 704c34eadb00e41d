"""What a classifier reads of codes, where the best one is known."""

import math

import torch

from lightning_robust_studies.stutz2019.told import class_told


def codes(n, distance, seed):
    """Two classes of normal codes whose means are a distance apart."""
    y = torch.arange(n) % 2
    z = torch.randn(n, 4, generator=torch.Generator().manual_seed(seed))
    z[:, 2] += distance * y
    return 100 * z, y


def test_it_reads_as_much_as_the_best_classifier_does():
    for distance in (0.0, 2.0):
        before = torch.get_rng_state()
        told = class_told(codes(4000, distance, 0), codes(2000, distance, 1), 2)
        best = 0.5 * (1 + math.erf(distance / 2 / math.sqrt(2)))
        assert best - 0.05 < told.value < best + 0.03
        assert told.n == 2000
        assert torch.equal(torch.get_rng_state(), before)
        assert class_told(codes(4000, distance, 0), codes(2000, distance, 1), 2) == told


def test_a_curved_border_is_seen_and_a_batch_of_one_is_left_out():
    z = torch.randn(2001, 2, generator=torch.Generator().manual_seed(0))
    y = (z.norm(dim=1) > 1.18).long()
    assert class_told((z, y), (z, y), 2, passes=30).value > 0.9
