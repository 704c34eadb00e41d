"""Jumps of the gain where the verdict changes: a closed form, and what is steep or coarse and does not jump."""

import pytest
import torch
import torch.nn.functional as F

from lightning_robust.attacks import Linf, Threat, binary_correct, binary_margin, cross_entropy, margin
from lightning_robust.attacks.attack import Context
from lightning_robust.evaluation._jumps import jumps

SCALES = [1e-6, 1.0, 1e6]
_GENERATOR = torch.Generator().manual_seed(0)
X, END = torch.rand(2, 40, 12, generator=_GENERATOR)
WEIGHT = torch.randn(12, 4, generator=_GENERATOR)


def linear(x, classes=4):
    return (x - 0.5) @ WEIGHT[:, :classes].to(x)


def raised(z, by):
    return z + by * F.one_hot(z.argmax(1), z.shape[1])


def shares(model, *, y=None, gain=margin, correct=None):
    y = model(X).argmax(1) if y is None else y
    return jumps(model, X, y, Threat(Linf(1.0)), gain, Context(correct=correct), END - X)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("by", [0.1, 1.0, 100.0])
def test_the_share_of_a_jump_in_closed_form(by, scale):
    """Of two classes the margin goes from -(m + b) to -b, jumps to b, and goes on to b + m'."""
    before, after = linear(X, 2), linear(END, 2)
    way = (before.diff(dim=1) - after.diff(dim=1)).abs()[:, 0][before.argmax(1) != after.argmax(1)]
    found = shares(lambda x: scale * raised(linear(x, 2), by))
    assert len(found) > 10
    torch.testing.assert_close(found.float(), 2 * by / (way + 2 * by), rtol=1e-3, atol=1e-3)


CONTINUOUS = {
    "classes": (linear, {}),
    "cross entropy": (linear, {"gain": cross_entropy}),
    "two classes": (lambda x: linear(x, 2), {}),
    "one logit": (
        lambda x: linear(x, 1),
        {"y": (linear(X, 1)[:, 0] > 0).long(), "gain": binary_margin, "correct": binary_correct},
    ),
    "softmax": (lambda x: (10 * linear(x)).softmax(1), {}),
}


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", CONTINUOUS)
def test_continuous_outputs_do_not_jump_whatever_their_scale(name, scale):
    model, options = CONTINUOUS[name]
    found = shares(lambda x: scale * model(x), **options)
    assert len(found) > 10
    assert found.max() < 0.1


def test_what_is_rounded_does_not_jump():
    for dtype in (torch.float16, torch.bfloat16):
        assert shares(lambda x, dtype=dtype: 100 + linear(x.to(dtype))).max() < 0.25
    assert not shares(lambda x: 1e7 + linear(x)).any()


def test_samples_that_are_wrong_before_or_right_after_tell_nothing():
    wrong = (linear(X).argmax(1) + 1) % 4
    assert not len(shares(linear, y=wrong))
    assert not len(shares(lambda x: linear(x) * 0 + torch.eye(4)[0], y=torch.zeros(40, dtype=torch.long)))
