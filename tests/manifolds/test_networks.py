"""The shapes and first weights of the networks."""

import math

import pytest
import torch
from torch import nn

from lightning_robust.manifolds.networks import code_classifier, decoder, discriminator, encoder, plan

SHAPES = [(1, 28, 28), (3, 56, 48), (3, 32, 32)]


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes(shape):
    x = torch.rand(2, *shape)
    assert encoder(shape, 5, 1 / 16)(x).shape == (2, 10)
    assert decoder(shape, 5, 1 / 16)(torch.randn(2, 5)).shape == x.shape
    assert discriminator(shape, 1 / 16)(x).shape == (2, 1)
    assert code_classifier(5, 3)(torch.randn(2, 5)).shape == (2, 3)


def test_channels_are_those_of_the_paper():
    assert plan((1, 28, 28)).channels == [64, 128, 256]
    assert plan((1, 28, 28)).sizes[-1] == (3, 3)
    assert plan((3, 56, 48)).channels == [64, 128, 256, 512]
    assert plan((3, 56, 48)).features == 4608
    assert plan((1, 28, 28), 0.25).channels == [16, 32, 64]
    layers = decoder((1, 28, 28), 10)
    assert [m.weight.numel() for m in layers if isinstance(m, nn.ConvTranspose2d)] == [
        256 * 128 * 36,
        128 * 64 * 36,
        64 * 36,
    ]
    assert layers[-1].bias.tolist() == [0.0]
    assert not any(m.bias is not None for m in layers[:-1] if isinstance(m, nn.ConvTranspose2d))


def test_first_weights():
    torch.manual_seed(0)
    for network in (encoder((1, 28, 28), 10), decoder((1, 28, 28), 10)):
        for layer in network:
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) or layer is network[0]:
                assert layer.weight.std().item() == pytest.approx(0.001, rel=0.1)
    head = encoder((1, 28, 28), 10)[-1]
    assert head.weight.std().item() == pytest.approx(math.sqrt(2 / 3 / head.in_features), rel=0.05)
    down = encoder((1, 28, 28), 10, init_std=None)[3]
    assert down.weight.std().item() == pytest.approx(math.sqrt(2 / 3 / (64 * 16)), rel=0.05)
    up = decoder((1, 28, 28), 10, init_std=None)[2]  # each output pixel sees 3 x 3 pixels of 256 channels
    assert up.weight.std().item() == pytest.approx(math.sqrt(2 / 3 / (256 * 9)), rel=0.05)


@pytest.mark.parametrize(
    ("shape", "width", "name"), [((1, 28, 28), 0.3, "width"), ((1, 28, 28), 0, "width"), ((1, 3, 28), 1, "image_shape")]
)
def test_wrong_arguments(shape, width, name):
    with pytest.raises(ValueError, match=f"Expected argument `{name}`"):
        plan(shape, width)
