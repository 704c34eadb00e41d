import math
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Categorical, kl_divergence

from lightning_robust.attacks import (
    Anchored,
    confident_margin,
    cross_entropy,
    divergence,
    dlr,
    least_likely,
    log_odds,
    margin,
    runner_up,
    targeted,
    targeted_dlr,
)
from tests.helpers import GAINS

N, K = 50, 6


def data(scale=3.0):
    return torch.randn(N, K, dtype=torch.float64) * scale, torch.arange(N) % K


def gradient(gain, logits, y):
    logits = logits.clone().requires_grad_()
    return torch.autograd.grad(gain(logits, y).sum(), logits)[0]


def test_log_odds_is_the_logit_of_being_wrong():
    logits, y = data()
    p = logits.softmax(1).gather(1, y[:, None])[:, 0]
    torch.testing.assert_close(log_odds(logits, y), torch.logit(1 - p))
    torch.testing.assert_close(F.softplus(log_odds(logits, y)), cross_entropy(logits, y))


def test_log_odds_and_cross_entropy_point_the_same_way_until_the_latter_vanishes():
    logits, y = data()
    g, h = gradient(log_odds, logits, y), gradient(cross_entropy, logits, y)
    torch.testing.assert_close(F.normalize(g), F.normalize(h))
    sure = 200.0 * F.one_hot(y, K).float() + 0.01 * logits.float()
    assert (gradient(cross_entropy, sure, y) == 0).all()
    torch.testing.assert_close(gradient(log_odds, sure, y).abs().sum(1), torch.full((N,), 2.0))


def test_margin_and_dlr_by_sorting():
    logits, y = data()
    for row, label, value, ratio in zip(logits.tolist(), y.tolist(), margin(logits, y), dlr(logits, y), strict=True):
        wrong = max(z for j, z in enumerate(row) if j != label)
        first, _, third, *_ = sorted(row, reverse=True)
        assert math.isclose(value, wrong - row[label])
        assert math.isclose(ratio, -(row[label] - wrong) / (first - third))


def test_margin_and_dlr_are_positive_exactly_where_misclassified():
    logits, y = data()
    for gain in (margin, dlr):
        assert torch.equal(gain(logits, y) > 0, logits.argmax(1) != y)


@pytest.mark.parametrize("kappa", [0.0, 1.5, math.inf])
def test_confident_margin_is_the_margin_up_to_kappa_and_flat_beyond(kappa):
    logits, y = 2 * torch.randn(200, 6), torch.arange(200) % 6
    logits.requires_grad_()
    plain = margin(logits, y)
    value = confident_margin(kappa)(logits, y)
    assert torch.equal(value, torch.minimum(plain, torch.tensor(kappa)))
    (grad,) = torch.autograd.grad(value.sum(), logits)
    (whole,) = torch.autograd.grad(plain.sum(), logits)
    below = (plain < kappa)[:, None]
    assert torch.equal(grad, torch.where(below, whole, 0.0))
    assert 0 < below.sum() < 200 or kappa == math.inf


def test_dlr_does_not_change_with_the_scale_and_shift_of_the_logits():
    logits, y = data()
    torch.testing.assert_close(dlr(1e4 * logits + 7, y), dlr(logits, y))


def test_dlr_stays_finite_where_logits_are_equal():
    logits = torch.zeros(2, 4, requires_grad=True)
    value = dlr(logits, torch.tensor([0, 1]))
    assert value.isfinite().all()


def test_divergence_is_that_of_torch_distributions():
    (logits, y), (moved, _) = data(), data()
    expected = kl_divergence(Categorical(logits=logits), Categorical(logits=moved))
    torch.testing.assert_close(divergence.gain(moved, divergence.anchor(logits, y)), expected)
    flat = gradient(divergence.gain, logits, divergence.anchor(logits, y))
    assert flat.abs().max() < 1e-12
    assert divergence.flat


def test_targets():
    logits, y = data()
    order = logits.masked_fill(F.one_hot(y, K).bool(), -math.inf).argsort(1, descending=True)
    assert torch.equal(runner_up(logits, y), order[:, 0])
    assert torch.equal(least_likely(logits, y), order[:, K - 2])
    assert torch.equal(targeted(margin).anchor(logits, y), order[:, 0])
    assert torch.equal(targeted(margin, to=3).anchor(logits, y), torch.full_like(y, 3))


@pytest.mark.parametrize("gain", [log_odds, cross_entropy, margin])
def test_targeted_lowers_the_gain_of_the_target(gain):
    (logits, y), (moved, _) = data(), data()
    toward = targeted(gain, to=least_likely)
    torch.testing.assert_close(toward.gain(moved, toward.anchor(logits, y)), -gain(moved, least_likely(logits, y)))


@pytest.mark.parametrize("rank", [1, 2, K - 1])
def test_targeted_dlr_by_sorting(rank):
    (logits, y), (moved, _) = data(), data()
    gain = targeted_dlr(rank)
    values = gain.gain(moved, gain.anchor(logits, y))
    for clean, row, label, value in zip(logits.tolist(), moved.tolist(), y.tolist(), values, strict=True):
        target = sorted((j for j in range(K) if j != label), key=lambda j: -clean[j])[rank - 1]
        first, _, third, fourth, *_ = sorted(row, reverse=True)
        assert math.isclose(value, -(row[label] - row[target]) / (first - (third + fourth) / 2))


@pytest.mark.parametrize("name", GAINS)
def test_every_gain_treats_samples_alone_and_has_the_right_gradient(name):
    gain, (logits, y), (moved, _) = GAINS[name], data(), data()
    anchor = gain.anchor(logits, y) if isinstance(gain, Anchored) else y
    function = gain.gain if isinstance(gain, Anchored) else gain
    value = function(moved, anchor)
    assert value.shape == (N,)
    alone = torch.cat([function(moved[i : i + 1], anchor[i : i + 1]) for i in range(N)])
    torch.testing.assert_close(alone, value)
    few, part = moved[:4].clone().requires_grad_(), anchor[:4]
    assert torch.autograd.gradcheck(lambda z: function(z, part), few)


def test_cross_entropy_of_dense_labels_and_of_probabilities():
    logits, y = torch.randn(3, K, 4, 5), torch.randint(K, (3, 4, 5))
    expected = F.cross_entropy(logits, y, reduction="none").mean((1, 2))
    torch.testing.assert_close(cross_entropy(logits, y), expected)
    soft = torch.rand(3, K).softmax(1)
    torch.testing.assert_close(
        cross_entropy(logits[..., 0, 0], soft), -(soft * logits[..., 0, 0].log_softmax(1)).sum(1)
    )


def test_too_few_classes_are_refused():
    logits, y = torch.zeros(2, 2), torch.tensor([0, 1])
    with pytest.raises(ValueError, match="at least 3 classes for the gain `dlr`, but got 2"):
        dlr(logits, y)
    with pytest.raises(ValueError, match="at least 4 classes for the gain `targeted_dlr`, but got 2"):
        targeted_dlr().anchor(logits, y)


@pytest.mark.parametrize("rank", [K, K + 1])
def test_a_rank_beyond_the_wrong_classes_is_refused(rank):
    with pytest.raises(ValueError, match=rf"`rank` .*, but got {rank}"):
        targeted_dlr(rank).anchor(*data())


@pytest.mark.parametrize("gain", [divergence, targeted(margin), targeted(log_odds, to=2), targeted_dlr(3)])
def test_gains_pickle(gain):
    (logits, y), (moved, _) = data(), data()
    again = pickle.loads(pickle.dumps(gain))
    assert torch.equal(again.gain(moved, again.anchor(logits, y)), gain.gain(moved, gain.anchor(logits, y)))
