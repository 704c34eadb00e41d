import torch

from lightning_robust import PGD, Linf
from lightning_robust_studies.schmidt2018.experiments.attacks import Transferred, passing
from tests.studies.schmidt2018.experiments.tiny import behind, linear


def test_examples_of_another_model_can_be_made_where_it_is_moved_within_inference_mode():
    source, x, y = linear(0, 1).eval(), torch.rand(4, 1, 4, 4, dtype=torch.float64), torch.tensor([0, 1, 0, 1])

    class Moving:
        def to(self, device):
            return source.double()  # a move to another device makes new tensors, as this does

    with torch.inference_mode():
        found = Transferred(PGD(Linf(0.1), 3), Moving())(source, x, y)
    assert float((found - x).abs().max()) > 0.05


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
