import math

import pytest
import torch
from torch import nn

from lightning_robust.models import PerImageStandardize, madry_resnet, preact_resnet18, resnet
from lightning_robust.models.residual import _MadryBlock, _PreActivationBlock


def without_residual(block):
    """Only the shortcut is left."""
    nn.init.zeros_(block.residual[-1].weight)
    return block.eval()


@pytest.mark.parametrize("shape", [(28, 28), (56, 48)])
def test_the_average_is_the_pool_of_the_paper(shape):
    network = resnet(width=4).eval()
    x = torch.rand(2, 1, *shape)
    features = network[:-3](x)
    height, width = shape[0] // 4, shape[1] // 4
    assert features.shape == (2, 16, height, width)
    pooled = torch.nn.functional.avg_pool2d(features, (height, width)).flatten(1)
    torch.testing.assert_close(network(x), network[-1](pooled))


def test_deviation_of_convolutions_is_by_fan_out():
    torch.manual_seed(0)
    for conv in (m for m in resnet().modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)):
        assert conv.weight.std().item() == pytest.approx(math.sqrt(2 / (9 * conv.out_channels)), rel=0.1)


def test_stages_halve_the_image():
    network = preact_resnet18(width=4).eval()
    x, sides = torch.rand(1, 3, 32, 32), []
    for module in network[:-4]:
        x = module(x)
        sides.append((x.shape[1], x.shape[2]))
    assert sides == [(4, 32)] * 3 + [(8, 16)] * 2 + [(16, 8)] * 2 + [(32, 4), (32, 4), (32, 4)]  # the last is BatchNorm


def test_without_the_last_norm_it_has_the_parameters_of_the_older_form():
    with torch.device("meta"):
        network = preact_resnet18()
    assert isinstance(network[-5], nn.BatchNorm2d)
    older = sum(p.numel() for p in network.parameters()) - sum(p.numel() for p in network[-5].parameters())
    assert older == 11_171_146
    assert sum(isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3) for m in network.modules()) == 17  # and one linear


def test_shortcut_starts_after_the_activation_only_where_the_shape_changes():
    x = torch.randn(2, 4, 6, 6)
    same, wider = (without_residual(_PreActivationBlock(4, after, stride, False)) for after, stride in ((4, 1), (8, 2)))
    torch.testing.assert_close(same(x), x)
    expected = torch.einsum("oi, nihw -> nohw", wider.shortcut.weight[:, :, 0, 0], wider.activate(x)[:, :, ::2, ::2])
    torch.testing.assert_close(wider(x), expected)


def test_shortcut_of_madry_averages_and_pads_with_zeros():
    x = torch.randn(2, 16, 8, 8)
    y = without_residual(_MadryBlock(16, 160, stride=2, first=False))(x)
    assert y.shape == (2, 160, 4, 4)
    torch.testing.assert_close(y[:, 72:88], nn.functional.avg_pool2d(x, 2))
    assert not y[:, :72].any()
    assert not y[:, 88:].any()


def test_first_unit_of_madry_shares_its_activation():
    x = torch.randn(2, 4, 3, 3)
    for first in (True, False):
        block = without_residual(_MadryBlock(4, 4, stride=1, first=first))
        torch.testing.assert_close(block(x), block.activate(x) if first else x)
    blocks = [m for m in madry_resnet().modules() if isinstance(m, _MadryBlock)]
    assert [b.first for b in blocks] == [True] + [False] * 14


@pytest.mark.parametrize("filters", [(16, 16, 32, 64), (16, 64, 128, 256), (16, 160, 320, 640)])
@pytest.mark.parametrize("units", [1, 5])
def test_count_of_parameters_by_hand(filters, units):
    # the first convolution, the last BatchNorm, the linear layer
    count = 27 * filters[0] + 2 * filters[-1] + 10 * (filters[-1] + 1)
    before = filters[0]
    for after in filters[1:]:
        for _ in range(units):
            count += 2 * before + 9 * before * after + 2 * after + 9 * after * after
            before = after
    with torch.device("meta"):
        assert sum(p.numel() for p in madry_resnet(filters=filters, units=units).parameters()) == count


def test_brightness_and_contrast_do_not_matter():
    torch.manual_seed(0)
    network = madry_resnet(units=1).eval()
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(network(x), network(0.2 + 0.5 * x), rtol=1e-3, atol=1e-4)
    assert isinstance(network[0], PerImageStandardize)
    assert not isinstance(madry_resnet(standardize=False)[0], PerImageStandardize)


@pytest.mark.parametrize("filters", [(16,), (16, 32, 16)])
def test_refuses_filters_that_fall(filters):
    with pytest.raises(ValueError, match="`filters` to be two or more numbers that do not fall"):
        madry_resnet(filters=filters)
