"""Networks of classes in one module against each class's samples through its own network: outputs, gradients, state."""

import copy

import pytest
import torch
from torch import nn

from lightning_robust.manifolds._per_class import PerClass
from lightning_robust.manifolds.networks import encoder

K = 4
LABELS = {"mixed": [2, 0, 2, 3, 2, 0, 1], "one missing": [3, 0, 0, 3, 3], "one class": [1, 1, 1], "one sample": [2]}


def networks() -> PerClass:
    torch.manual_seed(0)
    return PerClass([encoder((1, 8, 8), 5, 1 / 16, init_std=None).double() for _ in range(K)])


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("labels", list(LABELS))
def test_each_class_is_alone_in_its_network(training, labels):
    together = networks().train(training)
    alone = copy.deepcopy(together.members)
    y = torch.tensor(LABELS[labels])
    x = torch.rand(len(y), 1, 8, 8).double().requires_grad_()
    out = together(x, y)
    weights = torch.randn_like(out)
    (gradient,) = torch.autograd.grad((out * weights).sum(), x, retain_graph=True)
    (out * weights).sum().backward()
    for k, (member, own) in enumerate(zip(together.members, alone, strict=True)):
        if (y == k).any():
            part = x.detach()[y == k].requires_grad_()
            want = own(part)
            torch.testing.assert_close(out[y == k], want)
            (want * weights[y == k]).sum().backward()
            torch.testing.assert_close(gradient[y == k], part.grad)
        for p, q in zip(member.parameters(), own.parameters(), strict=True):
            torch.testing.assert_close(p.grad, q.grad)  # None both where the class is not in the batch
        for p, q in zip(member.buffers(), own.buffers(), strict=True):
            torch.testing.assert_close(p, q)


def test_an_absent_class_does_not_move_at_all():
    together = networks()
    before = copy.deepcopy(together.state_dict())
    optimizer = torch.optim.Adam(together.parameters(), lr=0.05, weight_decay=0.01)
    for _ in range(2):
        optimizer.zero_grad()
        together(torch.rand(6, 1, 8, 8).double(), torch.tensor([2, 0, 3] * 2)).square().sum().backward()
        optimizer.step()
    moved = {
        name.split(".")[1] for name, value in together.state_dict().items() if not torch.equal(value, before[name])
    }
    assert moved == {"0", "2", "3"}


def test_a_sample_does_not_depend_on_its_neighbors():
    together = networks().eval()
    x, y = torch.rand(7, 1, 8, 8).double(), torch.tensor(LABELS["mixed"])
    alone = torch.cat([together(x[i : i + 1], y[i : i + 1]) for i in range(7)])
    torch.testing.assert_close(together(x, y), alone)
    assert together(x[:0], y[:0]).shape == (0, 10)


@pytest.mark.parametrize("labels", [[0, 4], [-1, 2], [0, 2**62]])
def test_labels_out_of_range_are_refused(labels):
    with pytest.raises(ValueError, match="Expected labels from 0 to 3"):
        PerClass([nn.Identity()] * K)(torch.zeros(2, 1), torch.tensor(labels))


def test_labels_of_a_single_network_are_ignored():
    assert PerClass([nn.Identity()])(torch.ones(2, 1), torch.tensor([7, 99])).sum() == 2
