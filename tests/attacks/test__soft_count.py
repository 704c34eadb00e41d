"""Soft counts of wrong positions: their formula, and that they find what a mean of margins does not."""

import pickle

import pytest
import torch

from lightning_robust.attacks import PGD, Linf, dense, dense_correct, log_odds, margin
from lightning_robust.attacks._soft_count import soft_counts
from lightning_robust.attacks.attack import Context


@pytest.mark.parametrize(("class_dim", "void"), [(1, -100), (-1, 255), (-1, None)])
def test_the_count_is_a_sum_over_positions(class_dim, void):
    generator = torch.Generator().manual_seed(0)
    clean, moved = torch.randn(2, 5, 7, 3, generator=generator).double()
    y = torch.randint(3, (5, 7), generator=generator)
    if void is not None:
        y[:, 2:4], y[1] = void, void  # the second sample has no position that counts
    place = (clean.movedim(-1, class_dim), moved.movedim(-1, class_dim))
    gains = soft_counts(dense(log_odds, class_dim=class_dim, ignore_index=void))
    for number, (steepness, gain) in enumerate(zip((8, 32, 16, 16, 4, 64), gains, strict=True)):
        anchor = gain.anchor(place[0], y)
        gain.check(place[0], anchor)
        found = gain(place[1], anchor)
        for n in range(5):
            counts = [p for p in range(7) if int(y[n, p]) != void]
            before, now = (torch.tensor([margin(z[n, p][None], y[n, p][None]) for p in counts]) for z in (clean, moved))
            unit = before.abs().mean() if number % 2 else before.abs()
            expected = torch.sigmoid(steepness * now / unit).mean() if counts else 0.0
            assert found[n].item() == pytest.approx(float(expected))


def test_margins_of_any_scale_and_of_zero():
    logits, y = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0)), torch.zeros(2, 4, dtype=torch.long)
    for gain in soft_counts(dense(margin)):
        for factor in (1e-30, 1e30):
            assert torch.allclose(
                gain(factor * logits, gain.anchor(factor * logits, y)), gain(logits, gain.anchor(logits, y))
            )
        assert gain(0 * logits, gain.anchor(0 * logits, y)).tolist() == [0.5, 0.5]


def test_of_dense_labels_alone_and_a_wrong_label_is_refused():
    assert soft_counts(margin) == ()
    gain = soft_counts(dense(margin))[1]
    assert repr(pickle.loads(pickle.dumps(gain))) == repr(gain)
    with pytest.raises(ValueError, match="labels to be in"):
        gain.anchor(torch.zeros(1, 3, 4), torch.full((1, 4), 3))


def positions(n=24, pixels=16, count=64):
    """Positions of two classes whose logits differ in scale, and which share their inputs: one cannot have them all."""
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(count, 2, pixels, generator=generator)
    weight /= weight.flatten(1).norm(dim=1)[:, None, None]
    x = torch.rand(n, pixels, generator=generator) * 0.6 + 0.2
    scale = (1.5 * torch.randn(count, generator=generator)).exp()

    def model(x):
        return (torch.einsum("pkd,nd->nkp", weight, x - 0.5)) * scale

    return model, x, model(x).argmax(1)


def shared(n=24):
    """A filter of 3 x 3: positions whose logits are of one scale."""
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.rand(3, 1, 3, 3, generator=generator) - 0.5, 0.2 * torch.rand(3, generator=generator)
    x = torch.rand(n, 1, 8, 8, generator=generator)

    def model(x):
        return torch.nn.functional.conv2d(x, weight, bias, padding=1)

    return model, x, model(x).argmax(1)


def fooled(problem, gains, threat, share):
    model, x, y = problem
    attack = PGD(threat, 30, gain=gains, restarts=len(gains), random_start=False, keep="best")
    return attack.run(model, x, y, Context(correct=dense_correct(share))).fooled


def test_they_break_what_a_mean_of_margins_does_not():
    of_mean, of_counts = (dense(margin),), soft_counts(dense(margin))
    mean, counts = (fooled(positions(), gains, Linf(0.1), 0.7) for gains in (of_mean, of_counts))
    assert counts[::2].any(0).sum() >= mean.sum() + 6
    assert counts.any(0).sum() >= mean.sum() + 15


def test_one_unit_for_all_positions_breaks_what_one_of_each_does_not():
    counts = fooled(shared(), soft_counts(dense(margin)), Linf(0.05), 0.9)
    assert counts.any(0).sum() >= counts[::2].any(0).sum() + 2
