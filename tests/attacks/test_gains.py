import functools
import math
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Categorical, kl_divergence

from lightning_robust._nested import cut
from lightning_robust.attacks import (
    PGD,
    Anchored,
    Context,
    Linf,
    binary_margin,
    confident_margin,
    cross_entropy,
    divergence,
    dlr,
    least_likely,
    log_odds,
    margin,
    normalized,
    of_classes,
    runner_up,
    targeted,
    targeted_dlr,
    targeted_margin,
)
from lightning_robust.attacks._gain import BROKEN, check_plain_gain, gain_in_loop, gain_of, slope_of
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


@pytest.mark.parametrize("rank", [1, 3, K - 1])
def test_targeted_margin_by_sorting(rank):
    (logits, y), (moved, _) = data(), data()
    gain = targeted_margin(rank)
    for i, value in enumerate(gain.gain(moved, gain.anchor(logits, y))):
        target = sorted((j for j in range(K) if j != y[i]), key=lambda j: -float(logits[i, j]))[rank - 1]
        assert value == moved[i, target] - moved[i, y[i]]


@pytest.mark.parametrize("make", [targeted_margin, targeted_dlr])
def test_targets_are_those_of_the_context_and_then_by_logit(make):
    logits, y = data()
    least_first = logits.masked_fill(F.one_hot(y, K).bool(), math.inf).argsort(1)[:, :2]
    context = Context(targets=least_first)
    order = logits.masked_fill(F.one_hot(y, K).bool(), -math.inf).argsort(1, descending=True)
    expected = [least_first[:, 0], least_first[:, 1], order[:, 0], order[:, 1], order[:, 2]]
    for rank, target in enumerate(expected, 1):
        pair = make(rank).of_context(logits, y, context)
        assert torch.equal(pair, torch.stack([y, target], 1))
    assert torch.equal(make(1).of_context(logits, y, Context()), make(1).anchor(logits, y))
    assert torch.equal(divergence.of_context(logits, y, context), divergence.anchor(logits, y))


def test_where_a_target_of_that_rank_exists():
    y = torch.tensor([0, 1])
    fits = {(make, rank, k): make(rank).fits(torch.zeros(2, k), y)
            for make in (targeted_margin, targeted_dlr) for rank in (1, 2, 5) for k in (2, 3, 4, 6)}  # fmt: skip
    for (make, rank, k), fit in fits.items():
        try:
            make(rank).anchor(torch.zeros(2, k), y)
        except ValueError:
            assert not fit
        else:
            assert fit
    assert not targeted_margin().fits(torch.zeros(2, 3, 4), torch.zeros(2, 4).long())
    assert not targeted_margin().fits(torch.zeros(2, 1), y)
    assert targeted_margin(2).fits(torch.zeros(2, 3), torch.tensor([[0.9, 0.1, 0.0], [0.0, 0.0, 1.0]]))
    assert divergence.fits(torch.zeros(2, 3, 4), y)


@pytest.mark.parametrize("gain", [cross_entropy, log_odds])
@pytest.mark.parametrize("scale", [1e-2, 0.3, 1e3])
def test_normalized_does_not_see_the_scale_of_the_logits(gain, scale):
    (logits, y), (moved, _) = data(), data()
    one = normalized(gain)
    anchor = one.anchor(scale * logits, y)
    first = logits.amax(1)
    torch.testing.assert_close(anchor[0], scale * (first - (logits.sum(1) - first) / (K - 1)))
    torch.testing.assert_close(one(scale * moved, anchor), one(moved, one.anchor(logits, y)))
    torch.testing.assert_close(one(scale * moved, anchor), gain(16 * scale * moved / anchor[0][:, None], y))
    assert torch.equal(one(64 * moved, one.anchor(64 * logits, y)), one(moved, one.anchor(logits, y)))


def test_normalized_takes_labels_of_any_kind_and_logits_without_a_scale():
    y = torch.tensor([[1.0], [0.0]])
    gain = normalized(binary_margin)
    clean = torch.tensor([[2.0], [0.01]])
    torch.testing.assert_close(gain(clean, gain.anchor(clean, y)), torch.tensor([-8.0, 8.0]))
    gain, y = normalized(cross_entropy), torch.tensor([0, 1, 1])
    clean = torch.tensor([[3.0, 3.0], [math.nan, 0.0], [1e-42, 0.0]])
    assert gain.anchor(clean, y)[0].tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match="labels to be less than the number of classes, 2, but got 5"):
        gain.check(clean, gain.anchor(clean, torch.tensor([0, 1, 5])))
    with pytest.raises(TypeError, match="`gain` to be a function"):
        normalized(divergence)


CLASS_GAINS = {name: gain for name, gain in GAINS.items() if not isinstance(gain, Anchored)}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("column", [0, 1])
@pytest.mark.parametrize("name", GAINS)
def test_a_model_that_breaks_has_lost(name, column, bad):
    """In the attacks whatever the gain, and the gains of classes in any place."""
    logits, y = torch.randn(4, K), torch.tensor([0, 0, 1, 2])
    gain = GAINS[name]
    against = gain.anchor(logits, y) if isinstance(gain, Anchored) else y
    broken = logits.clone()
    broken[1, column] = bad
    broken.requires_grad_()
    value = gain_of(gain, broken, against)
    whole = torch.tensor([0, 2, 3])
    torch.testing.assert_close(value[whole], gain(logits, against)[whole])
    assert value[1] == BROKEN
    (grad,) = torch.autograd.grad(value.sum(), broken)
    assert grad.isfinite().all()
    assert (grad[1] == 0).all()
    if gain in (log_odds, margin, dlr):
        assert gain(broken, y)[1] == BROKEN


@pytest.mark.parametrize("bad", [0.0, math.nan, math.inf])
@pytest.mark.parametrize("name", GAINS)
def test_what_the_loop_asks_is_the_gain_and_its_gradient_bit_for_bit(name, bad):
    logits, y = 30 * torch.randn(N, K), torch.arange(N) % K
    logits[0] = 1.0  # ties
    gain = GAINS[name]
    against = gain.anchor(logits, y) if isinstance(gain, Anchored) else y
    logits[1, 2] = bad
    value = gain_of(gain, logits.requires_grad_(), against)
    (grad,) = torch.autograd.grad(value.sum(), logits)
    quick = gain_in_loop(gain, logits, against)
    assert torch.equal(quick, value)
    torch.testing.assert_close(torch.autograd.grad(quick.sum(), logits)[0], grad, rtol=0, atol=0, equal_nan=True)
    closed = slope_of(gain, logits.detach(), against)
    assert (closed is not None) == (gain is log_odds)
    if closed is not None:
        assert torch.equal(closed[0], value)
        assert torch.equal(closed[1], grad)


def test_no_slope_for_probabilities_and_for_functions_that_have_the_attributes_of_another():
    logits, y = torch.randn(N, K), torch.arange(N) % K

    @functools.wraps(log_odds)
    def lower(logits, y):
        return -log_odds(logits, y)

    assert slope_of(log_odds, logits, F.one_hot(y, K).float()) is None
    assert slope_of(lower, logits, y) is None
    assert torch.equal(gain_in_loop(lower, logits, y), -log_odds(logits, y))


@pytest.mark.parametrize("gain", [log_odds, margin, dlr])
def test_the_largest_logits_give_a_defined_value(gain):
    largest = torch.finfo(torch.float32).max
    logits = torch.tensor([[largest, -largest, 0.0], [0.0, 0.0, largest]])
    value = gain(logits, torch.tensor([0, 0]))
    assert value[0] < 0 < value[1]


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize(
    ("gain", "got"),
    [
        (lambda z, y: z.sum(), r"shape \(\)"),
        (lambda z, y: z.sum(1, keepdim=True), r"shape \(\d, 1\)"),
        (lambda z, y: z, r"shape \(\d, 6\)"),
        (lambda z, y: z.sum(0), r"shape \(6,\)"),
        (lambda z, y: 1.0, "float"),
    ],
)
def test_a_gain_of_another_shape_is_refused(gain, got, n):
    logits, y = torch.zeros(n, K), torch.zeros(n, dtype=torch.long)
    gain.__name__ = "mine"
    for function in (lambda: gain_of(gain, logits, y), lambda: of_classes(gain)(logits, y)):
        with pytest.raises(ValueError, match=rf"one number per sample, shape \(N,\) with N={n}, but got {got}"):
            function()


@pytest.mark.parametrize("name", GAINS)
def test_every_gain_treats_samples_alone_and_has_the_right_gradient(name):
    gain, (logits, y), (moved, _) = GAINS[name], data(), data()
    anchor = gain.anchor(logits, y) if isinstance(gain, Anchored) else y
    function = gain.gain if isinstance(gain, Anchored) else gain
    value = function(moved, anchor)
    assert value.shape == (N,)
    rows = torch.arange(N)
    alone = torch.cat([function(moved[i : i + 1], cut(anchor, N, rows[i : i + 1])) for i in range(N)])
    torch.testing.assert_close(alone, value)
    few, part = moved[:4].clone().requires_grad_(), cut(anchor, N, rows[:4])
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


@pytest.mark.parametrize(
    "gain",
    [
        divergence,
        targeted(margin),
        targeted(log_odds, to=2),
        targeted_dlr(3),
        targeted_margin(2),
        normalized(cross_entropy),
        normalized(log_odds),
    ],
)
def test_gains_pickle(gain):
    (logits, y), (moved, _) = data(), data()
    again = pickle.loads(pickle.dumps(gain))
    assert torch.equal(again.gain(moved, again.anchor(logits, y)), gain.gain(moved, gain.anchor(logits, y)))


def test_what_is_no_gain_of_labels():
    assert check_plain_gain(margin) is margin
    for wrong in (divergence, "margin"):
        with pytest.raises(TypeError, match="`gain` to be a function"):
            check_plain_gain(wrong)


def test_a_gain_that_writes_to_its_logits_changes_nothing_else():
    """`fooled` is asked of what the model said, also after such a gain."""

    def plain(logits, y):
        own = F.one_hot(y, logits.shape[1]).bool()
        return logits.masked_fill(own, -1e4).amax(1) - logits[own]

    def writing(logits, y):
        own = F.one_hot(y, logits.shape[1]).bool()
        right = logits[own]
        return logits.masked_fill_(own, -1e4).amax(1) - right

    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double(), torch.rand(20, 6).double()
    y = model(x).argmax(1)
    for options in ({"early_stop": True}, {"keep": "best"}, {}):
        usual, other = (PGD(Linf(0.2), 5, gain=gain, **options).run(model, x, y) for gain in (plain, writing))
        assert torch.equal(usual.x_adv, other.x_adv)
        if usual.fooled is not None:
            assert torch.equal(usual.fooled, other.fooled)
