import pytest
import torch
from torch import nn

from lightning_robust.models import PerImageStandardize, madry_resnet
from lightning_robust.models.madry_resnet import _PreActivationBlock


def test_shortcut_averages_and_pads_with_zeros():
    block = _PreActivationBlock(16, 160, stride=2, shared=False).eval()
    with torch.no_grad():
        block.residual[-1].weight.zero_()
    x = torch.randn(2, 16, 8, 8)
    y = block(x)
    assert y.shape == (2, 160, 4, 4)
    torch.testing.assert_close(y[:, 72:88], nn.functional.avg_pool2d(x, 2))
    assert not y[:, :72].any()
    assert not y[:, 88:].any()


def test_first_unit_shares_its_activation():
    x = torch.randn(2, 4, 3, 3)
    for shared in (True, False):
        block = _PreActivationBlock(4, 4, stride=1, shared=shared).eval()
        with torch.no_grad():
            block.residual[-1].weight.zero_()
        torch.testing.assert_close(block(x), block.activate(x) if shared else x)
    blocks = [m for m in madry_resnet().modules() if isinstance(m, _PreActivationBlock)]
    assert [b.shared for b in blocks] == [True] + [False] * 14


@pytest.mark.parametrize("filters", [(16, 16, 32, 64), (16, 64, 128, 256), (16, 160, 320, 640)])
@pytest.mark.parametrize("units", [1, 5])
def test_count_of_parameters_by_hand(filters, units):
    count = (
        27 * filters[0] + 2 * filters[-1] + 10 * (filters[-1] + 1)
    )  # first convolution, last BatchNorm, linear layer
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


def test_refuses_filters_that_fall():
    for wrong in ((16,), (16, 32, 16)):
        with pytest.raises(ValueError, match="`filters` to be two or more numbers that do not fall"):
            madry_resnet(filters=wrong)
