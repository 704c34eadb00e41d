"""The soft count of wrong positions: its formula, and that it finds what a mean of margins does not."""

import pickle

import pytest
import torch

from lightning_robust.attacks import PGD, Linf, dense, dense_correct, log_odds, margin
from lightning_robust.attacks._soft_count import soft_count
from lightning_robust.attacks.attack import Context


@pytest.mark.parametrize(("class_dim", "void"), [(1, -100), (-1, 255), (-1, None)])
def test_the_count_is_a_sum_over_positions(class_dim, void):
    generator = torch.Generator().manual_seed(0)
    clean, moved = torch.randn(2, 5, 7, 3, generator=generator).double()
    y = torch.randint(3, (5, 7), generator=generator)
    if void is not None:
        y[:, 2:4], y[1] = void, void  # the second sample has no position that counts
    gain = soft_count(dense(log_odds, class_dim=class_dim, ignore_index=void))
    place = (clean.movedim(-1, class_dim), moved.movedim(-1, class_dim))
    anchor = gain.anchor(place[0], y)
    gain.check(place[0], anchor)
    found = gain(place[1], anchor)
    for n in range(5):
        counts = [p for p in range(7) if int(y[n, p]) != void]
        terms = []
        for p in counts:
            before, now = (margin(z[n, p][None], y[n, p][None]) for z in (clean, moved))
            terms.append(torch.sigmoid(4 * now / before.abs()))
        assert found[n] == pytest.approx(float(sum(terms)) / len(terms) if terms else 0.0)


def test_margins_of_any_scale_and_of_zero():
    logits, y = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0)), torch.zeros(2, 4, dtype=torch.long)
    gain = soft_count(dense(margin))
    for factor in (1e-30, 1e30):
        assert torch.allclose(
            gain(factor * logits, gain.anchor(factor * logits, y)), gain(logits, gain.anchor(logits, y))
        )
    assert gain(0 * logits, gain.anchor(0 * logits, y)).tolist() == [0.5, 0.5]


def test_of_dense_labels_alone_and_a_wrong_label_is_refused():
    assert soft_count(margin) is None
    gain = soft_count(dense(margin))
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


def test_it_breaks_what_a_mean_of_margins_does_not():
    model, x, y = positions()
    context = Context(correct=dense_correct(0.7))
    gains = dense(margin), soft_count(dense(margin))
    mean, count = (
        PGD(Linf(0.1), 30, gain=gain, random_start=False, keep="best").run(model, x, y, context).fooled.sum()
        for gain in gains
    )
    assert count >= mean + 6
