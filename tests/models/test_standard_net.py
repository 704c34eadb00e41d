import math

import pytest
import torch
from torch import nn

from lightning_robust.models import standard_net


@pytest.mark.parametrize(
    ("size", "channels", "flat"),
    [(28, [16, 32, 64], 576), ((56, 48), [16, 32, 64, 128], 1152), (32, [16, 32, 64, 128], 512), (4, [16], 64)],
)
def test_depth_follows_the_image(size, channels, flat):
    network = standard_net(image_size=size)
    assert [m.out_channels for m in network if isinstance(m, nn.Conv2d)] == channels
    first, second = (m for m in network if isinstance(m, nn.Linear))
    assert (first.in_features, first.out_features, second.out_features) == (flat, 100, 10)
    height, width = (size, size) if isinstance(size, int) else size
    assert network(torch.zeros(2, 1, height, width)).shape == (2, 10)


@pytest.mark.parametrize(("slope", "variance"), [(math.sqrt(2), 2 / 3), (0.0, 2.0)])
def test_the_slope_of_the_initialisation(slope, variance):
    torch.manual_seed(0)
    network = standard_net(negative_slope=slope)
    for module in (network[3], network[6], network[10]):  # the second and third convolution, the first linear layer
        fan_in = module.weight[0].numel()
        assert module.weight.std().item() == pytest.approx(math.sqrt(variance / fan_in), rel=0.05)
        assert not module.bias.any()


def test_the_papers_slope_is_the_default():
    torch.manual_seed(0)
    a = standard_net()
    torch.manual_seed(0)
    b = standard_net(negative_slope=2**0.5)
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def test_the_head_is_linear_in_the_features():
    network = standard_net().eval().double()
    head = network[10:]
    u, v = torch.randn(2, 1, 576, dtype=torch.float64)
    torch.testing.assert_close(head(u) + head(v) - head(u + v), head(torch.zeros_like(u)))


def test_refuses_images_too_small_for_a_convolution():
    with pytest.raises(ValueError, match="at least 4, but got 3"):
        standard_net(image_size=3)
