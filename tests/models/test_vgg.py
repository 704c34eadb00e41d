import pytest
import torch
from torch import nn

from lightning_robust.models import vgg


def test_a_pool_at_each_change_of_channels():
    sides = []
    x = torch.zeros(1, 1, 28, 28)
    for module in vgg(hidden=(8,)):
        x = module.eval()(x)
        if isinstance(module, nn.Conv2d):
            sides.append((x.shape[1], x.shape[2]))
    assert sides == [(64, 28), (128, 14), (128, 14), (256, 7), (256, 7)]


def test_refuses_images_that_the_pools_use_up():
    with pytest.raises(ValueError, match="survive the max-pools, but got 3"):
        vgg(image_size=3)
