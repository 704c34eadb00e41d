import pytest
import torch
from torch import nn

from lightning_robust.attacks import PGD, Linf
from lightning_robust.models import Bpda
from lightning_robust_studies.schmidt2018.theory import threshold
from lightning_robust_studies.schmidt2018.threshold import (
    ThresholdDetector,
    ThresholdFilters,
    binarize,
    find_thresholds,
)


def test_binarize_is_the_map_of_the_theory():
    x = torch.cat([torch.randn(50), torch.tensor([0.0, -0.0])])
    assert torch.equal(binarize(x), threshold(x))
    assert binarize(x.half()).dtype == torch.float16
    assert torch.equal(binarize(x, 0.5), binarize(x - 0.5))


def test_binarize_undoes_every_perturbation_below_one():
    x = binarize(torch.randn(20, 30))
    delta = 0.999 * (2 * torch.rand(20, 30) - 1)
    assert torch.equal(binarize(x + delta), x)
    assert not torch.equal(binarize(x - 1.001 * x), x)


def test_filters_by_hand():
    x = torch.rand(3, 2, 4, 5)
    filters = ThresholdFilters(0.3)
    out = filters(x)
    assert out.shape == (3, 4, 4, 5)
    torch.testing.assert_close(out[:, :2], (x - 0.3).clamp(min=0))
    torch.testing.assert_close(out[:, 2:], (x - 0.7).clamp(min=0))
    assert not list(filters.parameters())
    assert ThresholdFilters(0.3)(x.bfloat16()).dtype == torch.bfloat16
    assert "eps=0.3" in repr(filters)


def test_filters_are_what_a_convolution_with_these_thresholds_computes():
    conv = nn.Conv2d(1, 2, 3, padding=1)
    with torch.no_grad():
        conv.weight.zero_()
        conv.weight[:, 0, 1, 1] = 1.0
        conv.bias.copy_(torch.tensor([-0.2, -0.8]))
    x = torch.rand(4, 1, 6, 6)
    torch.testing.assert_close(ThresholdFilters(0.2)(x), conv(x).relu())
    assert [round(t.threshold, 5) for t in ThresholdDetector()(conv)] == [0.2, 0.8]


def test_black_pixels_do_not_move_within_eps():
    x = torch.zeros(2, 1, 3, 3)
    assert torch.equal(ThresholdFilters(0.3)(x + 0.3 * torch.rand_like(x)), ThresholdFilters(0.3)(x))


def test_gradients_vanish_below_the_threshold_and_bpda_sees_through():
    """The docstring's warning: a pixel of 0.05 has gradient zero, yet a perturbation of 0.2 turns the filter on."""
    filters = ThresholdFilters(0.1)
    head = nn.Sequential(nn.Flatten(), nn.Linear(8, 2))
    with torch.no_grad():
        head[1].weight.copy_(torch.tensor([[-1.0], [1.0]]).expand(2, 8))
        head[1].bias.copy_(torch.tensor([0.01, -0.01]))
    masked = nn.Sequential(filters, head)
    x, y = torch.full((5, 1, 2, 2), 0.05), torch.zeros(5, dtype=torch.long)
    attack = PGD(Linf(0.2), steps=5, random_start=False, keep="best")
    outcome = attack.run(masked, x, y)
    assert outcome.stuck.all()
    assert not outcome.fooled.any()
    x_adv = attack(nn.Sequential(Bpda(filters, filters.linear), head), x, y)
    assert (masked(x_adv).argmax(1) == 1).all()


def kernels():
    """Six filters: on above .3, on below .7, two dominant taps, negative bias but always off, smooth, dead."""
    weight, bias = torch.zeros(6, 2, 4, 4), torch.zeros(6)
    weight[0] = 0.001
    weight[0, 1, 2, 3], bias[0] = 1.5, -0.45
    weight[1, 0, 0, 1], bias[1] = -2.0, 1.4
    weight[2, 0, 0, 0], weight[2, 0, 0, 1], bias[2] = 1.0, 1.0, -0.3
    weight[3, 0, 1, 1], bias[3] = 1.0, -1.2
    weight[4], bias[4] = 0.1, -0.3
    return weight, bias


def test_find_thresholds_on_constructed_filters():
    taps = find_thresholds(*kernels())
    assert [(t.filter, t.channel, t.row, t.column, t.above) for t in taps] == [
        (0, 1, 2, 3, True),
        (1, 0, 0, 1, False),
    ]
    assert [t.threshold for t in taps] == pytest.approx([0.3, 0.7])
    assert taps[0].share == pytest.approx(1.5 / (1.5 + 31 * 0.001))
    assert [t.filter for t in find_thresholds(*kernels(), dominance=0.99)] == [1]
    assert [t.filter for t in find_thresholds(*kernels(), value_range=(-1.0, 2.0))] == [0, 1, 3]
    # The filter with threshold 0 at the edge of the range, without a bias.
    assert find_thresholds(kernels()[0], None) == []
    assert [t.threshold for t in find_thresholds(kernels()[0], None, value_range=(-1, 1))] == [0.0] * 3


def test_the_detector_looks_at_the_first_convolution():
    weight, bias = kernels()
    first, second = nn.Conv2d(2, 6, 4), nn.Conv2d(6, 3, 2)
    with torch.no_grad():
        first.weight.copy_(weight)
        first.bias.copy_(bias)
    model = nn.Sequential(nn.Sequential(nn.Identity(), first), nn.ReLU(), second)
    assert ThresholdDetector()(model) == find_thresholds(weight, bias)
    assert ThresholdDetector()(nn.Sequential(second, first)) == []
    with pytest.raises(ValueError, match="network with a Conv2d, but got Linear without one"):
        ThresholdDetector()(nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: find_thresholds(torch.zeros(2, 3), None), r"`weight` to be a kernel .* but got \(2, 3\)"),
        (lambda: find_thresholds(kernels()[0], torch.zeros(2)), r"`bias` to be of shape \(6,\) .* but got \(2,\)"),
        (lambda: find_thresholds(*kernels(), value_range=(1, 1)), r"`value_range` .* but got \(1, 1\)"),
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_integer_images_are_refused():
    with pytest.raises(TypeError, match=r"`x` to be floating, in \[0, 1\], but got torch.uint8"):
        ThresholdFilters(0.1)(torch.zeros(1, 1, 2, 2, dtype=torch.uint8))
