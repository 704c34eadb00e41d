"""What `test_awp.py` runs in two processes."""

import contextlib
import datetime as dt

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from lightning_robust.objectives import awp, trades

GAMMA = 0.1
CASES = {
    "plain": {},
    "static graph": {"static_graph": True},
    "unused": {"find_unused_parameters": True},
}


class Step(nn.Module):
    """A network, and what Lightning makes of it: the forward of DDP calls the step."""

    def __init__(self, spare):
        super().__init__()
        torch.manual_seed(0)
        self.part = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh())
        self.last = nn.Linear(8, 3)
        self.spare = nn.Linear(3, 3) if spare else None

    def logits(self, x):
        return self.last(checkpoint(self.part, x, use_reentrant=False))

    def forward(self, *batch):
        return awp(_objective, GAMMA)(self, *batch)


def _objective(model, *batch):
    return trades()(model.logits, *batch)


def _batch(rank, step):
    generator = torch.Generator().manual_seed(2 * step + rank)
    x, noise = torch.rand(2, 6, 4, generator=generator, dtype=torch.float64)
    return x, x + 0.1 * noise, torch.randint(3, (6,), generator=generator)


def _by_hand(spare, steps):
    """The mean over both ranks of the gradients of hand-written AWP, summed over the steps of an accumulation."""
    found = []
    for rank in range(2):
        model = Step(spare).double()
        weights = [model.part[0].weight, model.last.weight]
        for step in range(steps):
            gradients = torch.autograd.grad(_objective(model, *_batch(rank, step)), weights)
            v = [g * GAMMA * w.detach().norm() / g.norm() for w, g in zip(weights, gradients, strict=True)]
            with torch.no_grad():
                torch._foreach_add_(weights, v)
            (_objective(model, *_batch(rank, step)) / steps).backward()
            with torch.no_grad():
                torch._foreach_sub_(weights, v)
        found.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    return {name: (found[0][name] + found[1][name]) / 2 for name in found[0]}


def main():
    torch.distributed.init_process_group("gloo", timeout=dt.timedelta(seconds=60))
    try:
        for name, settings in CASES.items():
            for steps in (1, 2) if name != "static graph" else (1,):
                _check(name, settings, torch.distributed.get_rank(), steps)
    finally:
        torch.distributed.destroy_process_group()


def _check(name, settings, rank, steps):
    model = Step(spare=name == "unused").double()
    parallel = DistributedDataParallel(model, **settings)
    for step in range(steps):
        with contextlib.nullcontext() if step == steps - 1 else parallel.no_sync():
            (parallel(*_batch(rank, step)) / steps).backward()
    expected = _by_hand(name == "unused", steps)
    for weight, p in model.named_parameters():
        if weight in expected:
            torch.testing.assert_close(p.grad, expected[weight], msg=lambda m, at=weight: f"{name}, {at}: {m}")
