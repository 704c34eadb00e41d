import math

import pytest
import torch
from torch import nn

from lightning_robust.objectives import mart
from lightning_robust.objectives.mart import boosted_cross_entropy
from tests.objectives.reference import linear, mart_reference, two_views


@pytest.mark.parametrize("forward", ["joint", "separate"])
@pytest.mark.parametrize("beta", [0.0, 5.0])
def test_equals_the_formula_of_the_paper_with_gradients(beta, forward):
    x, x_adv, y = two_views()
    ours, theirs = linear(), linear()
    loss = mart(beta, forward)(ours, x, x_adv, y)
    expected = mart_reference(theirs(x), theirs(x_adv), y, beta)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)


def test_without_an_attack_only_the_boosted_cross_entropy_remains():
    x, _, y = two_views()
    model = linear()
    torch.testing.assert_close(mart(5.0)(model, x, x, y), boosted_cross_entropy(model(x), y).mean())


def test_a_certain_clean_prediction_switches_the_divergence_off():
    z, z_adv = torch.tensor([[0.0, 200.0]]), torch.tensor([[1.0, 0.0]])
    y = torch.tensor([1])
    torch.testing.assert_close(mart(5.0)(nn.Identity(), z, z_adv, y), boosted_cross_entropy(z_adv, y).mean())


def test_two_classes_in_closed_form():
    a, b = 1.5, -0.5  # log-odds of class 1, clean and attacked
    p, q = 1 / (1 + math.exp(-a)), 1 / (1 + math.exp(-b))
    kl = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    expected = -2 * math.log(q) + 5 * kl * (1 - p)
    z, z_adv = (torch.tensor([[0.0, v]], dtype=torch.float64) for v in (a, b))
    assert float(mart(5.0)(nn.Identity(), z, z_adv, torch.tensor([1]))) == pytest.approx(expected)


def test_margin_term_keeps_value_and_gradient_where_one_minus_p_rounds_to_zero():
    z = torch.tensor([[0.0, 60.0, 10.0]], requires_grad=True)  # 1 - p_1 = 2e-22: not representable beside 1
    loss = boosted_cross_entropy(z, torch.tensor([0]))
    (g,) = torch.autograd.grad(loss.sum(), z)
    torch.testing.assert_close(loss.detach(), torch.tensor([60.0 + 50.0]), rtol=0, atol=1e-3)
    torch.testing.assert_close(g[0, 1], torch.tensor(2.0))  # both terms push the wrong class down


def test_a_tie_between_wrong_classes_and_infinite_gaps_have_no_nan():
    z = torch.tensor([[0.0, 5.0, 5.0], [1e4, -1e4, -1e4]], requires_grad=True)
    loss = boosted_cross_entropy(z, torch.tensor([0, 0])).sum()
    (g,) = torch.autograd.grad(loss, z)
    assert loss.isfinite()
    assert g.isfinite().all()


def test_one_class_is_refused():
    with pytest.raises(ValueError, match=r"`boosted_cross_entropy`, integers \(N,\) .* one logit"):
        boosted_cross_entropy(torch.zeros(3, 1), torch.zeros(3, dtype=torch.int64))


@pytest.mark.parametrize("top", [0, 1, 2])
def test_boosted_cross_entropy_of_probabilities_is_the_expectation(top):
    z = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z[:, top] += 3
    q = torch.rand(4, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    q = q / q.sum(1, keepdim=True)
    expected = sum(q[:, k] * boosted_cross_entropy(z, torch.full((4,), k)) for k in range(3))
    torch.testing.assert_close(boosted_cross_entropy(z, q), expected)
