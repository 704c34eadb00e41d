import math

import pytest
import torch
from torch import nn

from lightning_robust.models import madry_mnist, mlp, standard_net, vgg


@pytest.mark.parametrize("make", [standard_net, mlp, vgg])
@pytest.mark.parametrize("size", [0, (28,), (28, 28, 1), (28, -1), "28"])
def test_refuses_sizes_that_are_not_sizes(make, size):
    with pytest.raises((TypeError, ValueError), match=r"argument `image_size(\[\d\])?`"):
        make(image_size=size)


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


@pytest.mark.parametrize(("options", "variance"), [({}, 2 / 3), ({"negative_slope": 0.0}, 2.0)])
def test_the_slope_of_the_initialization(options, variance):
    """By default that of the paper's code, sqrt(2)."""
    torch.manual_seed(0)
    network = standard_net(**options)
    for module in (network[3], network[6], network[10]):  # the second and third convolution, the first linear layer
        fan_in = module.weight[0].numel()
        assert module.weight.std().item() == pytest.approx(math.sqrt(variance / fan_in), rel=0.05)
        assert not module.bias.any()


def test_the_head_is_linear_in_the_features():
    network = standard_net().eval().double()
    head = network[10:]
    u, v = torch.randn(2, 1, 576, dtype=torch.float64)
    torch.testing.assert_close(head(u) + head(v) - head(u + v), head(torch.zeros_like(u)))


def test_refuses_images_too_small():
    with pytest.raises(ValueError, match="at least 4, but got 3"):
        standard_net(image_size=3)
    with pytest.raises(ValueError, match="survive the max-pools, but got 3"):
        vgg(image_size=3)


def test_batch_norm_of_the_mlp_comes_after_relu():
    kinds = [type(m) for m in mlp(hidden=(8, 4))]
    block = [nn.Linear, nn.ReLU, nn.BatchNorm1d]
    assert kinds == [nn.Flatten, *block, *block, nn.Linear]
    assert [type(m) for m in mlp(hidden=())] == [nn.Flatten, nn.Linear]  # a linear classifier


def test_vgg_has_a_pool_at_each_change_of_channels_and_starts_by_fan_in():
    torch.manual_seed(0)
    sides = []
    x = torch.zeros(1, 1, 28, 28)
    for module in vgg(hidden=(8,)).eval():
        x = module(x)
        if isinstance(module, nn.Conv2d):
            sides.append((x.shape[1], x.shape[2]))
            assert module.weight.std().item() == pytest.approx(math.sqrt(2 / (9 * module.in_channels)), rel=0.1)
    assert sides == [(64, 28), (128, 14), (128, 14), (256, 7), (256, 7)]


def test_initialization_of_the_challenge():
    torch.manual_seed(0)
    network = madry_mnist()
    for module in (m for m in network if isinstance(m, (nn.Conv2d, nn.Linear))):
        assert (module.bias == torch.tensor(0.1)).all()
        assert module.weight.abs().max() <= 0.2
    # a normal distribution cut at two deviations
    torch.testing.assert_close(network[7].weight.std(), torch.tensor(0.0880), rtol=0.01, atol=0)
