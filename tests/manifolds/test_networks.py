"""The networks against torch's own transposed convolution, and their shapes and first weights."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lightning_robust.manifolds.networks import UpConv2d, decoder, discriminator, encoder, plan

SHAPES = [(1, 28, 28), (3, 56, 48), (3, 32, 32)]


def transposed_weight(layer: UpConv2d) -> torch.Tensor:
    """The kernel (Cin, Cout, 6, 6) of the transposed convolution, entry by entry from the definition.

    Output o = 2 q + a takes input i through kernel entry o + 2 - 2 i, and through tap t = i - q + 1 of kernel a.
    """
    out_channels = layer.weight.shape[0] // 4
    kernel = torch.zeros(layer.weight.shape[1], out_channels, 6, 6, dtype=layer.weight.dtype)
    for a in range(2):
        for b in range(2):
            for s in range(3):
                for t in range(3):
                    own = layer.weight.detach()[2 * a + b :: 4, :, s, t]
                    kernel[:, :, a + 2 - 2 * (s - 1), b + 2 - 2 * (t - 1)] = own.T
    return kernel


@pytest.mark.parametrize(
    ("before", "after"), [((3, 3), (6, 6)), ((3, 3), (7, 7)), ((3, 3), (7, 6)), ((5, 4), (10, 8)), ((5, 4), (11, 9))]
)
@pytest.mark.parametrize("bias", [True, False])
def test_up_convolution_is_a_transposed_convolution(before, after, bias):
    torch.manual_seed(0)
    layer = UpConv2d(4, 3, after, bias=bias).double()
    if layer.bias is not None:
        nn.init.normal_(layer.bias)
    x = torch.randn(2, 4, *before, dtype=torch.float64)
    extra = tuple(a - 2 * b for a, b in zip(after, before, strict=True))
    want = F.conv_transpose2d(x, transposed_weight(layer), layer.bias, 2, 2, extra)
    torch.testing.assert_close(layer(x), want)


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes(shape):
    x = torch.rand(2, *shape)
    assert encoder(shape, 5, 1 / 16)(x).shape == (2, 10)
    assert decoder(shape, 5, 1 / 16)(torch.randn(2, 5)).shape == x.shape
    assert discriminator(shape, 1 / 16)(x).shape == (2, 1)


def test_channels_are_those_of_the_paper():
    assert plan((1, 28, 28)).channels == [64, 128, 256]
    assert plan((1, 28, 28)).sizes[-1] == (3, 3)
    assert plan((3, 56, 48)).channels == [64, 128, 256, 512]
    assert plan((3, 56, 48)).features == 4608
    assert plan((1, 28, 28), 0.25).channels == [16, 32, 64]
    convolutions = [layer for layer in decoder((1, 28, 28), 10) if isinstance(layer, UpConv2d)]
    assert [layer.weight.numel() for layer in convolutions] == [256 * 128 * 36, 128 * 64 * 36, 64 * 36]
    assert [tuple(layer.size) for layer in convolutions] == [(7, 7), (14, 14), (28, 28)]


def test_first_weights():
    torch.manual_seed(0)
    for network in (encoder((1, 28, 28), 10), decoder((1, 28, 28), 10)):
        for layer in network:
            if isinstance(layer, nn.Conv2d | UpConv2d) or layer is network[0]:
                assert layer.weight.std().item() == pytest.approx(0.001, rel=0.1)
    head = encoder((1, 28, 28), 10)[-1]
    assert head.weight.std().item() == pytest.approx(math.sqrt(2 / 3 / head.in_features), rel=0.05)
    by_fan_in = encoder((1, 28, 28), 10, init_std=None)[3]
    assert by_fan_in.weight.std().item() == pytest.approx(math.sqrt(2 / 3 / (64 * 16)), rel=0.05)


@pytest.mark.parametrize(
    ("shape", "width", "name"), [((1, 28, 28), 0.3, "width"), ((1, 28, 28), 0, "width"), ((1, 3, 28), 1, "image_shape")]
)
def test_wrong_arguments(shape, width, name):
    with pytest.raises(ValueError, match=f"Expected argument `{name}`"):
        plan(shape, width)
