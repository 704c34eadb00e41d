from dataclasses import replace

import pytest
import torch

from lightning_robust import PGD, Linf
from lightning_robust_studies.schmidt2018.experiments.attacks import Transferred, passing
from tests.learning_curves.helpers import blobs
from tests.studies.schmidt2018.experiments.tiny import OPTIONS, TINY, behind, linear

ATTACKS = OPTIONS.attacks_on(TINY)


def test_examples_of_another_model_can_be_made_where_it_is_moved_within_inference_mode():
    source, x, y = linear(0, 1).eval(), torch.rand(4, 1, 4, 4, dtype=torch.float64), torch.tensor([0, 1, 0, 1])

    class Moving:
        def to(self, device):
            return source.double()  # a move to another device makes new tensors, as this does

    with torch.inference_mode():
        x_adv = Transferred(PGD(Linf(0.1), 3), Moving())(source, x, y)
    assert float((x_adv - x).abs().max()) > 0.05


def test_a_passing_copy_has_the_same_logits_and_the_gradient_of_the_linear_filters():
    torch.manual_seed(0)
    module = behind(0.3, 1).eval()
    copied = passing(module)
    x = torch.full((1, 1, 4, 4), 0.1, requires_grad=True)  # below both thresholds
    torch.testing.assert_close(copied(x), module(x))
    assert not bool(torch.autograd.grad(module(x)[0, 0], x)[0].any())
    gradient = torch.autograd.grad(copied(x)[0, 0], x)[0]
    weight = module.network[2].weight[0].detach().reshape(2, 4, 4).sum(0)
    torch.testing.assert_close(gradient[0, 0], weight)


def _right(module, attack):
    x, y = blobs(40, 0).tensors("test")
    return (module(x).argmax(1) == y) & (module(attack(module, x, y)).argmax(1) == y)


def test_threshold_filters_are_attacked_through():
    torch.manual_seed(0)
    module = behind(0.1, 1).eval()
    through = Transferred(ATTACKS.pgd(0.1), passing(module))
    both = _right(module, ATTACKS.pgd(0.1)) & _right(module, through)
    assert int(_right(module, ATTACKS.evaluation(0.1, module)).sum()) <= int(both.sum()) + 1
    assert ATTACKS.evaluation(0.1, linear(0, 1)) == ATTACKS.pgd(0.1)
    assert replace(ATTACKS, own_inputs=True).evaluation(0.1, module) == ATTACKS.pgd(0.1)


def test_the_worst_of_several_attacks_is_no_better_than_pgd():
    torch.manual_seed(0)
    module = linear(0, 1).eval()
    worst = replace(ATTACKS, attacks="worst").evaluation(0.1, module)
    assert int(_right(module, worst).sum()) <= int(_right(module, ATTACKS.pgd(0.1)).sum())


@pytest.mark.parametrize(("make", "more"), [(linear, []), (behind, ["substitute gradients"])])
def test_suspicious_attacks_transfer_and_pass_filters(make, more):
    names = ["pgd", "random search", "numerical gradients"]
    assert list(ATTACKS.suspicious(0.1, make(0, 1), None)) == [*names, *more]
    assert list(ATTACKS.suspicious(0.1, make(0, 1), linear(0, 1))) == [*names, "transfer", *more]
    assert list(replace(ATTACKS, own_inputs=True).suspicious(0.1, make(0, 1), linear(0, 1))) == names
