"""What others' attacks find on the same images, and at which cost.

A pass is one forward or one backward of one image through the model.
"""

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.evaluation.models import OnModels
from lightning_robust import cells
from lightning_robust._optional import optional

TOLERANCE = 1e-5
"""By which an adversarial example may leave the ball, relative to the radius."""


@dataclass
class Passes:
    """Forwards and backwards of single images. An object of its own: attacks put back the attributes of a module."""

    forwards: int = 0
    backwards: int = 0


class Counted(nn.Module):
    """A model that counts its passes."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.made = model, Passes()
        self.eval()

    @property
    def passes(self) -> int:
        return self.made.forwards + self.made.backwards

    def forward(self, x: Tensor) -> Tensor:
        output = self.model(x)
        self.made.forwards += len(x)
        if output.requires_grad:
            output.register_hook(self._count)
        return output

    def _count(self, gradient: Tensor) -> None:
        self.made.backwards += len(gradient)


Attack = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""`(model, x, y) -> x_adv`."""

NORMS = {"Linf": torch.inf, "L2": 2.0, "L1": 1.0}


def autoattack(norm: str, eps: float, seed: int) -> dict[str, Attack]:
    """The four attacks of AutoAttack's standard version (pyautoattack), one by one: what one breaks, the next skips."""
    whole = optional("pyautoattack", "dev").AutoAttack

    def single(name: str) -> Attack:
        def attack(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
            judge = whole(model, norm=norm, eps=eps, seed=seed, version="standard")
            judge.attacks_to_run = [name]
            adversarial: Tensor = judge.run_standard_evaluation(x, y, batch_size=len(x))[0]
            return adversarial

        return attack

    return {name: single(name) for name in ("apgd-ce", "apgd-t", "fab-t", "square")}


def adv_lib(norm: str, eps: float, seed: int) -> dict[str, Attack]:
    """Auto-PGD with cross-entropy, then on the nine other classes, as adv-lib has them; L1 with 5 restarts."""
    library = from_adv_lib("auto_pgd")
    options: dict[str, Any] = {"eps": eps, "norm": NORMS[norm], "use_large_reps": norm == "L1"}

    def apgd(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        torch.manual_seed(seed)
        restarts = 5 if norm == "L1" else 1
        adversarial: Tensor = library.apgd(model, x, y, loss_function="ce", n_restarts=restarts, **options)
        return adversarial

    def targeted(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        torch.manual_seed(seed)
        adversarial: Tensor = library.apgd_targeted(model, x, y, **options)
        return adversarial

    return {"apgd-t": targeted} | ({"apgd-ce": apgd} if norm == "L1" else {})


def from_adv_lib(module: str) -> Any:
    """A module of adv-lib's attacks, without the plot server that it imports and no attack needs."""
    with suppress(ImportError):
        import_module("visdom")
    sys.modules.setdefault("visdom", ModuleType("visdom"))
    return optional(f"adv_lib.attacks.{module}", "dev")


ORACLES = {"autoattack": autoattack, "adv-lib": adv_lib}


@dataclass(frozen=True)
class Judge(OnModels):
    """The work of a cell: what an oracle breaks of some test images of a model, and its passes."""

    def __call__(self, cell: cells.Row, folder: Path) -> Sequence[dict[str, Any]]:
        """One row for each image; the passes of each attack are in the rows whose `image` is -1."""
        seed, first = int(str(cell["seed"])), int(str(cell["first"]))
        model, network, x, y = self.given(cell)
        counted = Counted(network)
        attacks = ORACLES[str(cell["oracle"])](model.norm, model.eps, seed)
        right, broken = _broken(counted, x, y, attacks, model.ball)
        passes = broken.pop("passes")
        rows = [{"image": -1, "attack": attack, "passes": count} for attack, count in passes.items()]
        by = broken["by"]
        for i in range(len(x)):
            rows.append({"image": first + i, "clean": bool(right[i]), "attack": by[i]})
        return rows


def _broken(model: Counted, x: Tensor, y: Tensor, attacks: dict[str, Attack], ball: Any) -> tuple[Tensor, dict]:
    with torch.no_grad():
        right = model.model(x).argmax(1) == y
    alive, by, passes = right.clone(), [""] * len(x), {}
    for name, attack in attacks.items():
        before = model.passes
        rows = alive.nonzero()[:, 0]
        if len(rows):
            adversarial = attack(model, x[rows], y[rows]).detach()
            inside = (adversarial >= 0).flatten(1).all(1) & (adversarial <= 1).flatten(1).all(1)
            inside &= ball.norm(adversarial - x[rows]) <= ball.radius * (1 + TOLERANCE) + 1e-6
            with torch.no_grad():
                fooled = (model.model(adversarial).argmax(1) != y[rows]) & inside
            for row in rows[fooled].tolist():
                by[row] = name
            alive[rows[fooled]] = False
        passes[name] = model.passes - before
    return right, {"by": by, "passes": passes}
