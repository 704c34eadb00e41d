import math

import pytest
import torch
from torch import nn

from lightning_robust.objectives import trades
from tests.objectives.reference import linear, trades_reference, two_views


@pytest.mark.parametrize("forward", ["joint", "separate"])
@pytest.mark.parametrize("beta", [0.0, 1.0, 6.0])
def test_equals_the_formula_of_the_paper_with_gradients(beta, forward):
    x, x_adv, y = two_views()
    ours, theirs = linear(), linear()
    loss = trades(beta, forward)(ours, x, x_adv, y)
    expected = trades_reference(theirs(x), theirs(x_adv), y, beta)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)


def test_beta_zero_is_clean_training_and_no_attack_costs_nothing():
    x, x_adv, y = two_views()
    model = linear()
    clean = nn.functional.cross_entropy(model(x), y)
    torch.testing.assert_close(trades(0.0)(model, x, x_adv, y), clean)
    torch.testing.assert_close(trades(6.0)(model, x, x, y), clean)


def test_two_classes_in_closed_form():
    a, b = 1.5, -0.5  # log-odds of class 1, clean and attacked
    p, q = 1 / (1 + math.exp(-a)), 1 / (1 + math.exp(-b))
    expected = -math.log(p) + 3 * (p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q)))
    z, z_adv = (torch.tensor([[0.0, v]], dtype=torch.float64) for v in (a, b))
    assert float(trades(3.0)(nn.Identity(), z, z_adv, torch.tensor([1]))) == pytest.approx(expected)


def test_confident_predictions_have_no_nan():
    z = torch.tensor([[-1e4, 1e4], [3e4, -3e4]], requires_grad=True)
    loss = trades(6.0)(nn.Identity(), z, z.flip(1) * 1e-4, torch.tensor([1, 0]))
    (g,) = torch.autograd.grad(loss, z)
    assert loss.isfinite()
    assert g.isfinite().all()
