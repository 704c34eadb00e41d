import pytest
import torch
from torch.nn.functional import cross_entropy

from lightning_robust.objectives import adversarial_loss, mixed
from tests.objectives.reference import linear, two_views


@pytest.mark.parametrize("forward", ["joint", "separate"])
def test_weight_is_the_weight_of_the_adversarial_loss(forward):
    x, x_adv, y = two_views()
    model = linear()
    clean, adversarial = cross_entropy(model(x), y), cross_entropy(model(x_adv), y)
    torch.testing.assert_close(mixed(0.25, forward)(model, x, x_adv, y), 0.75 * clean + 0.25 * adversarial)
    torch.testing.assert_close(mixed(0.0, forward)(model, x, x_adv, y), clean)
    torch.testing.assert_close(mixed(1.0, forward)(model, x, x_adv, y), adversarial_loss(model, x, x_adv, y))
