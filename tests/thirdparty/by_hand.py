"""A user's module around a network of another package, and the attack as everybody writes it, apart from our code.

All inputs are multiples of 2^-6 and all steps powers of two, so that x + delta is exact and weights can be compared bit
for bit.
"""

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from callbacks_fakes import EPS, STEP, STEPS, preloaded
from torch import Tensor, nn

from lightning_robust._lightning import pl
from lightning_robust.attacks import PGD, Linf, PixelSpace, Threat, cross_entropy, dense

CLASSES, BATCH, BATCHES = 3, 4, 2


class Case(NamedTuple):
    """How a network of another package is trained.

    Args:
        net: `() -> network`.
        batches: `() -> list of batches`.
        logits: `(net, batch) -> logits`.
        loss: `(net, batch) -> loss`, the user's.
        input: Where the input is.
        target: Where the labels are.
        class_dim: Of dense logits; None: they are (N, K).
        low: The least valid input.
        tensors: Does `net(x)` give the logits?
    """

    net: Callable[[], nn.Module]
    batches: Callable[[], list[Any]]
    logits: Callable[[nn.Module, Any], Tensor]
    loss: Callable[[nn.Module, Any], Tensor]
    input: Any = 0
    target: Any = 1
    class_dim: int | None = None
    low: float = 0.0
    tensors: bool = False

    def attack(self) -> PGD:
        gain = cross_entropy if self.class_dim is None else dense(cross_entropy, class_dim=self.class_dim)
        threat = Threat(Linf(EPS), PixelSpace(low=self.low))
        return PGD(threat, STEPS, rel_step_size=STEP / EPS, random_start=False, gain=gain)

    def arguments(self) -> dict[str, Any]:
        """What the callbacks are told."""
        forward = None if self.tensors else lambda module, batch: self.logits(module.net, batch)
        return {"input": self.input, "target": self.target, "forward": forward}


def with_input(batch, field, x):
    """A copy of a batch with another input."""
    new = copy.copy(batch) if isinstance(batch, dict) else list(batch)
    new[field] = x
    return new


def positions(case, logits, y):
    """The cross entropy of each position (N, P), zero where it does not count, and which do."""
    z = logits[..., None] if case.class_dim is None else logits.movedim(case.class_dim, 1)
    y = y[..., None] if case.class_dim is None else y
    return F.cross_entropy(z, y, reduction="none").flatten(1), (y != -100).flatten(1)


def iterates(case, net, batch):
    """The inputs that textbook PGD visits, the clean one first."""
    x, y = batch[case.input], batch[case.target]
    modes = [(m, m.training) for m in net.modules()]
    for m, _ in modes:
        m.training = False
    visited = [x]
    for _ in range(STEPS):
        at = visited[-1].clone().requires_grad_()
        with torch.enable_grad():
            loss, counts = positions(case, case.logits(net, with_input(batch, case.input, at)), y)
            (grad,) = torch.autograd.grad((loss.sum(1) / counts.sum(1)).sum(), at)
        new = at.detach() + STEP * grad.sign()
        visited.append(torch.minimum(torch.maximum(new, x - EPS), x + EPS).clamp(case.low, 1.0))
    for m, mode in modes:
        m.training = mode
    return visited


def right(case, net, batch, share):
    """(N,) bool: is at least a share of the positions right?"""
    with torch.no_grad():
        logits, y = case.logits(net, batch), batch[case.target]
    hit = logits.argmax(1 if case.class_dim is None else case.class_dim) == y
    counts = y != -100
    hit, counts = hit.reshape(len(y), -1), counts.reshape(len(y), -1)
    return (hit & counts).sum(1) >= share * counts.sum(1)


class User(pl.LightningModule):
    """A user's module.

    Args:
        case: How it is trained.
        by_hand: Attack in the step, as somebody would write it.
    """

    def __init__(self, case, *, by_hand=False):
        super().__init__()
        torch.manual_seed(0)
        self.net, self.case, self.by_hand, self.seen = case.net(), case, by_hand, []
        if case.tensors:
            self.forward = self.net.forward

    def forward(self, x):
        raise AssertionError("The network says how.")

    def training_step(self, batch, batch_idx):
        if self.by_hand:
            batch = with_input(batch, self.case.input, iterates(self.case, self.net, batch)[-1])
        self.seen.append(batch[self.case.input].detach().clone())
        return self.case.loss(self.net, batch)

    def validation_step(self, batch, batch_idx):
        self.log("val/own", self.case.loss(self.net, batch), batch_size=BATCH)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=2.0**-6, momentum=0.5)


def loader(case):
    """The same batches in each epoch."""
    return preloaded(case.batches())
