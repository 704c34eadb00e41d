"""Stacked Adam against torch's Adam on each network."""

import copy

import pytest
import torch

from lightning_robust.manifolds.stacked_adam import StackedAdam

OPTIONS = {"lr": 0.05, "betas": (0.5, 0.9), "weight_decay": 0.01}


@pytest.mark.parametrize("present", [None, [[1, 1, 1], [1, 0, 1], [0, 0, 1], [1, 1, 1], [1, 0, 0]]])
def test_each_network_is_optimised_as_if_alone(present):
    torch.manual_seed(0)
    start = [torch.randn(3, 4, 2, dtype=torch.float64), torch.randn(3, 5, dtype=torch.float64)]
    together = [p.clone().requires_grad_() for p in start]
    alone = [[p[k].clone().requires_grad_() for p in start] for k in range(3)]
    mine = StackedAdam(together, **OPTIONS)
    theirs = [torch.optim.Adam(own, **OPTIONS) for own in alone]
    for step in range(5):
        here = [1, 1, 1] if present is None else present[step]
        gradients = [torch.randn_like(p) for p in start]
        for p, g in zip(together, gradients, strict=True):
            p.grad = g * torch.tensor(here).view(3, *[1] * (p.ndim - 1))
        mine.step(present=None if present is None else [bool(h) for h in here])
        for k in range(3):
            for p, g in zip(alone[k], gradients, strict=True):
                p.grad = g[k].clone()
            if here[k]:
                theirs[k].step()
        for i, p in enumerate(together):
            torch.testing.assert_close(p, torch.stack([own[i] for own in alone]))


def test_an_absent_network_does_not_move_at_all():
    p = torch.randn(2, 3, requires_grad=True)
    before = p.detach().clone()
    optimizer = StackedAdam([p], **OPTIONS)
    p.grad = torch.ones_like(p)
    optimizer.step(present=[True, False])
    assert torch.equal(p[1], before[1])
    assert not torch.equal(p[0], before[0])
    assert optimizer.state[p]["step"].tolist() == [1, 0]


def test_state_can_be_saved():
    torch.manual_seed(0)
    first = torch.randn(2, 3, requires_grad=True)
    optimizer = StackedAdam([first], **OPTIONS)
    first.grad = torch.randn(2, 3)
    optimizer.step(present=[True, False])
    second = first.detach().clone().requires_grad_()
    resumed = StackedAdam([second], lr=1.0)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    second.grad = first.grad.clone()
    for o in (optimizer, resumed):
        o.step()
    assert torch.equal(first, second)


def test_closure():
    p = torch.ones(1, 2, requires_grad=True)
    optimizer = StackedAdam([p], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = p.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 2
    torch.testing.assert_close(p.detach(), torch.full((1, 2), 0.9))
