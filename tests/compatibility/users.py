"""What a cell trains: a user's module, and the attack on it, as callbacks and as a user would write it by hand."""

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from callbacks_fakes import EPS, SIDE, STEP, STEPS, TEXTBOOK, Module, textbook_pgd
from torch import Tensor, nn

from lightning_robust import PGD, AdversarialTraining, LatentSpace, Linf, RobustEvaluation, Threat, recipes
from lightning_robust._affine import IDENTITY, warp
from lightning_robust._lightning import pl
from lightning_robust.attacks import AffineSpace, cross_entropy, divergence
from lightning_robust.objectives import adversarial_loss, awp, trades
from tests.compatibility.table import Cell

VALIDATED = {"sanity check", "limit_batches", "several loaders", "inference mode"}
"""Features with a validation, whatever the part is."""


# What attacks


class Plane:
    """A manifold of three codes: images 0.5 + z A in [0, 1]."""

    def __init__(self) -> None:
        basis = torch.linalg.qr(torch.randn(SIDE * SIDE, 3, generator=torch.Generator().manual_seed(1))).Q.T
        self.basis = basis.double()

    def encode(self, x: Tensor, y: Tensor) -> Tensor:
        wide = torch.promote_types(x.dtype, torch.float32)
        return ((x.double() - 0.5).flatten(1) @ self.basis.T.to(x.device)).to(wide)

    def decode(self, z: Tensor, y: Tensor) -> Tensor:
        x = 0.5 + (z.double() @ self.basis.to(z.device)).to(z.dtype)
        return x.clamp(0, 1).reshape(-1, 1, SIDE, SIDE)


PLANE = Plane()
_TEXTBOOK = {"steps": STEPS, "rel_step_size": STEP / EPS, "random_start": False, "gain": cross_entropy}
ON_MANIFOLD = PGD(Threat(Linf(EPS), LatentSpace(PLANE)), **_TEXTBOOK)
AFFINE = PGD(Threat(Linf(EPS), AffineSpace()), **_TEXTBOOK)
NEAR = PGD(Linf(EPS), 2, gain=divergence, random_start=recipes.NearbyStart())
RANDOM = PGD(Linf(EPS), 2, rel_step_size=1.25)  # that of recipes.madry(Linf(EPS), steps=2)


def callbacks_of(cell: Cell) -> list[pl.Callback]:
    """What a user gives to the Trainer."""
    field: Any = {"input": ("a", 0), "target": ("a", 1)} if cell.feature == "several loaders" else {}
    made: list[pl.Callback] = {
        "pixels": lambda: [AdversarialTraining(TEXTBOOK, **field)],
        "on-manifold": lambda: [AdversarialTraining(ON_MANIFOLD, **field)],
        "affine": lambda: [AdversarialTraining(AFFINE, **field)],
        "half": lambda: [AdversarialTraining(TEXTBOOK, fraction=0.5, **field)],
        "objective": lambda: [AdversarialTraining(NEAR, trades(6), **field)],
        "recipe": lambda: recipes.awp(recipes.madry(Linf(EPS), steps=2, **field), 0.01),
        "evaluation": list,
    }[cell.part]()
    return [*made, RobustEvaluation(TEXTBOOK)] if validates(cell) else list(made)


def validates(cell: Cell) -> bool:
    """Is there a validation in it?"""
    return cell.part == "evaluation" or cell.feature in VALIDATED


# The same by hand


def ascend(module: nn.Module, decode: Any, zero: Tensor, y: Tensor) -> Tensor:
    """Textbook PGD along any space, as everybody would write it."""
    modes = [(m, m.training) for m in module.modules()]
    for m, _ in modes:
        m.training = False
    delta = zero
    for _ in range(STEPS):
        delta.requires_grad_()
        loss = F.cross_entropy(module(decode(delta)), y, reduction="sum")
        (grad,) = torch.autograd.grad(loss, delta)
        delta = (delta.detach() + STEP * grad.sign()).clamp(-EPS, EPS)
    for m, mode in modes:
        m.training = mode
    return decode(delta).detach()


def low(x: Tensor) -> bool:
    """Is it about half precision? There our attacks scale and round gradients in their own way: they are called."""
    kind = x.device.type
    scaled = torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.float16
    return scaled or x.dtype in (torch.float16, torch.bfloat16)


def on_manifold(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    if low(x):
        return ON_MANIFOLD(module, x, y)
    z = PLANE.encode(x, y)
    return ascend(module, lambda delta: PLANE.decode(z + delta, y), torch.zeros_like(z), y)


def affine(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    if low(x):
        return AFFINE(module, x, y)
    zero = torch.zeros(len(x), 6, dtype=x.dtype, device=x.device)
    identity = zero.new_tensor(IDENTITY)
    return ascend(module, lambda delta: warp(x, identity + delta), zero, y)


def pixels(module: nn.Module, x: Tensor, y: Tensor, steps: int = STEPS) -> Tensor:
    return replace(TEXTBOOK, steps=steps)(module, x, y) if low(x) else textbook_pgd(module, x, y, steps)


def half(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    first = len(x) // 2
    return torch.cat([x[:first], pixels(module, x[first:], y[first:])])


BY_HAND: dict[str, Any] = {
    "pixels": pixels,
    "on-manifold": on_manifold,
    "affine": affine,
    "half": half,
    "objective": lambda m, x, y: NEAR(m, x, y, key=m.current_epoch),
    "recipe": lambda m, x, y: RANDOM(m, x, y, key=m.current_epoch),
    "evaluation": None,
}
OBJECTIVES: dict[str, Any] = {"objective": trades(6), "recipe": awp(adversarial_loss, 0.01)}


def compiled(module: nn.Module, cell: Cell) -> Any:
    """With a backend that rounds as without: in half precision `aot_eager` does not. `eager` is faster to compile."""
    exact = cell.precision in ("32-true", "64-true")
    return torch.compile(module, backend="aot_eager" if exact and cell.compilation == "network" else "eager")


class User(Module):
    """A user's module; `by_hand`: it attacks in its own steps, without any callback."""

    def __init__(self, cell: Cell, *, by_hand: bool = False) -> None:
        super().__init__(manual=cell.optimization == "manual", accumulate=cell.accumulation)
        self.cell, self.by_hand = cell, by_hand
        self.ready = False
        self.batch: Any = None
        self.counts = torch.zeros(2, 3, dtype=torch.long)
        if cell.strategy == "DDP unused parameters":
            self.spare = nn.Linear(2, 2)

    def configure_model(self) -> None:
        if self.ready:
            return
        self.ready = True
        if self.cell.strategy == "FSDP2":
            from torch.distributed.fsdp import fully_shard

            mesh = self.device_mesh["data_parallel"]
            fully_shard(self.net[0], mesh=mesh)
            fully_shard(self.net, mesh=mesh)
        if self.cell.compilation == "network":
            self.net = compiled(self.net, self.cell)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:
        several = self.cell.feature == "several loaders"
        x, y = batch["a"] if several else batch
        x_adv = self.moved(x, y) if self.by_hand else x
        objective = OBJECTIVES.get(self.cell.part) if self.by_hand else None
        if objective is not None:
            return objective(self, x, x_adv, y)
        loss = F.cross_entropy(self(x_adv), y)
        if several:
            loss = loss + 0.1 * F.cross_entropy(self(batch["b"][0]), batch["b"][1])
        self.log("train/own", loss, batch_size=len(x))
        if self.automatic_optimization:
            return loss
        self.manual_backward(loss / self.accumulate)
        if (batch_idx + 1) % self.accumulate == 0:
            for optimizer in self.optimizers():
                if self.cell.feature == "gradient clipping":
                    self.clip_gradients(optimizer, 0.1, "norm")
                # Compiled by torch 2.6, a step rounds otherwise, without our callbacks too.
                torch.compiler.disable(optimizer.step)()
                optimizer.zero_grad()
        return None

    def moved(self, x: Tensor, y: Tensor) -> Tensor:
        """The adversarial input, made once for each batch: LBFGS calls the step several times."""
        prepare = BY_HAND[self.cell.part]
        if prepare is None:
            return x
        if self.batch is None or self.batch[0] is not x:
            self.batch = (x, prepare(self, x, y))
        return self.batch[1]

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        x, y = batch
        self.log("val/own", F.cross_entropy(self(x), y), batch_size=len(x), sync_dist=True)
        if self.by_hand and not self.trainer.sanity_checking:
            right = self(x).argmax(1) == y
            with torch.inference_mode(False), torch.enable_grad():
                x, y = x.clone(), y.clone()
                torch.clear_autocast_cache()  # casts of weights that are inference tensors: torch 2.6 keeps them
                views = [pixels(self, x, y, steps) for steps in range(1, STEPS + 1)]
            robust = torch.stack([right, *(self(view).argmax(1) == y for view in views)]).all(0)
            self.counts[dataloader_idx] += torch.tensor([len(x), int(right.sum()), int(robust.sum())])

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.log("test/own", F.cross_entropy(self(batch[0]), batch[1]), batch_size=len(batch[0]), sync_dist=True)

    def on_validation_epoch_start(self) -> None:
        self.counts.zero_()

    def configure_optimizers(self) -> Any:
        if self.cell.optimization == "LBFGS":
            # Its stop by the change of the loss would look at that of one process alone, and leave the others waiting.
            return torch.optim.LBFGS(self.parameters(), lr=0.05, max_iter=3, tolerance_change=-1)
        if self.cell.optimization == "manual":
            head = [p for name, p in self.named_parameters() if ".5." in name]
            rest = [p for name, p in self.named_parameters() if ".5." not in name]
            return torch.optim.SGD(rest, lr=0.1, momentum=0.9), torch.optim.SGD(head, lr=0.05)
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
