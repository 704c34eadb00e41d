import torch

from lightning_robust.objectives import alp, mixed
from tests.objectives.reference import linear, two_views


def test_is_half_and_half_plus_the_squared_distance_of_the_logits():
    x, x_adv, y = two_views()
    model = linear()
    squared = (((x - x_adv) @ model.weight.T) ** 2).sum(1).mean() / 4  # the bias cancels; 4 classes
    half = mixed(0.5)(model, x, x_adv, y)
    torch.testing.assert_close(alp(0.7)(model, x, x_adv, y), half + 0.7 * squared)
    torch.testing.assert_close(alp(0.0)(model, x, x_adv, y), half)
