import numpy as np
import pytest
import torch

from lightning_robust.attacks import L1, L2, Linf
from lightning_robust.bounds import _distances, conflicts


def by_hand(x, y, norm, limit):
    """All pairs of different classes by a double loop over exact distances."""
    flat = x.double().flatten(1).numpy()
    found = {}
    for i in range(len(flat)):
        for j in range(i + 1, len(flat)):
            distance = np.linalg.norm(flat[i] - flat[j], norm)
            if y[i] != y[j] and distance <= limit:
                found[i, j] = distance
    return found


def sample(n, d, classes=3, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, d, generator=generator).to(dtype), torch.randint(classes, (n,), generator=generator)


@pytest.mark.parametrize(("ball", "norm"), [(Linf, np.inf), (L2, 2)])
@pytest.mark.parametrize(("n", "d", "share"), [(60, 3, 0.1), (60, 90, 0.5), (9, 1, 1.0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pairs_and_distances_are_those_of_a_double_loop(ball, norm, n, d, share, dtype, monkeypatch):
    monkeypatch.setattr(_distances, "_BLOCK", 7)
    monkeypatch.setattr(_distances, "_ENTRIES", 3 * d)
    x, y = sample(n, d, dtype=dtype)
    limit = float(np.quantile(list(by_hand(x, y, norm, np.inf).values()), share))
    found = conflicts(x, y, ball(limit / 2))
    wanted = by_hand(x, y, norm, limit)
    assert [tuple(pair) for pair in found.pairs.tolist()] == sorted(wanted)
    assert found.distances.tolist() == pytest.approx([wanted[pair] for pair in sorted(wanted)], rel=1e-14)


@pytest.mark.parametrize("ball", [Linf, L2])
def test_far_from_the_origin_nothing_cancels(ball):
    x = torch.tensor([[0.0, 0.0], [1e-6, 0.0], [3e-6, 0.0]], dtype=torch.float64) + 1e3
    found = conflicts(x, torch.tensor([0, 1, 0]), ball(0.55e-6))
    assert found.pairs.tolist() == [[0, 1]]


@pytest.mark.parametrize("ball", [Linf, L2])
def test_pixels_at_exactly_twice_the_radius_meet(ball):
    levels = torch.arange(256, dtype=torch.float32)[:, None] / 255
    y = torch.arange(256)
    for step in (2, 16, 51):
        radius = step / 255 / 2 if step != 51 else 0.1
        found = conflicts(levels, y, ball(radius))
        assert len(found.pairs) == sum(256 - k for k in range(1, step + 1))


def test_equal_samples_conflict_at_radius_zero_and_only_they():
    x = torch.tensor([[0.25], [0.25], [0.25], [0.25 + 2**-24]])
    found = conflicts(x, torch.tensor([0, 1, 0, 1]), Linf(0.0))
    assert found.pairs.tolist() == [[0, 1], [1, 2]]
    assert found.samples.tolist() == [0, 1, 2]


@pytest.mark.parametrize("ball", [Linf, L2])
def test_smaller_balls_are_a_part_of_what_larger_ones_found(ball):
    x, y = sample(40, 4)
    found = conflicts(x, y, ball(0.4))
    for radius in (0.0, 0.1, 0.3, 0.4):
        alone, part = conflicts(x, y, ball(radius)), found.within(ball(radius))
        assert torch.equal(alone.pairs, part.pairs)
        assert torch.equal(alone.distances, part.distances)
    with pytest.raises(ValueError, match=r"of a radius of at most 0\.4, which is what these conflicts know"):
        found.within(ball(0.5))
    with pytest.raises(ValueError, match="`ball` to be"):
        found.within(L2(0.1) if ball is Linf else Linf(0.1))


def test_shapes_and_places_do_not_matter():
    x, y = sample(20, 12)
    images = x.reshape(20, 3, 2, 2).requires_grad_()
    assert torch.equal(conflicts(images, y.int(), Linf(0.3)).pairs, conflicts(x, y, Linf(0.3)).pairs)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": torch.zeros(4, 2, dtype=torch.uint8)}, TypeError, r"`x` to be a floating tensor .* got torch.uint8"),
        ({"x": [[0.0]]}, TypeError, "`x` .* got list"),
        ({"y": torch.zeros(4)}, TypeError, "`y` to be a tensor of integers"),
        ({"y": torch.zeros(4, dtype=torch.bool)}, TypeError, "`y` to be a tensor of integers"),
        ({"y": torch.zeros(3, dtype=torch.long)}, ValueError, r"got \(4, 2\) and \(3,\)"),
        ({"x": torch.zeros(0, 2), "y": torch.zeros(0, dtype=torch.long)}, ValueError, "N of at least 1"),
        ({"x": torch.full((4, 2), torch.nan)}, ValueError, "`x` to be finite"),
        ({"ball": L1(0.1)}, TypeError, r"`ball` to be a ball `Linf\(eps\)` or `L2\(eps\)`"),
        ({"ball": Linf}, TypeError, r"Did you mean Linf\(...\)"),
        ({"ball": Linf(torch.ones(4))}, ValueError, "`ball` to have one radius for all samples, but got 4"),
    ],
)
def test_what_is_no_sample_is_refused(change, error, message):
    arguments = {"x": torch.zeros(4, 2), "y": torch.arange(4), "ball": Linf(0.1)}
    with pytest.raises(error, match=message):
        conflicts(**{**arguments, **change})
