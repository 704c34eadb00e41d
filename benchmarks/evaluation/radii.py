"""Least radii: those of others' attacks at 2,000 passes each, and how close an attack comes to the best known ones."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.evaluation.models import OnModels
from benchmarks.evaluation.oracles import NORMS, Counted, from_adv_lib
from lightning_robust import cells
from lightning_robust._optional import optional
from lightning_robust.attacks import Ball

STEPS = 1000
"""Forward and backward passes of each attack: 2,000 passes together."""

Attack = Callable[[nn.Module, Tensor, Tensor], Tensor]


def optimality(radius: Tensor, best: Tensor, clean: Tensor) -> float:
    r"""How close an attack comes to the best known radii, the measure of AttackBench.

    .. math:: 1 - \frac{\int_0^{e} (\rho - \rho^*) d\epsilon}{\int_0^{e} (\rho(0) - \rho^*) d\epsilon}

    where :math:`\rho(\epsilon)` is the share of images whose least radius under the attack is above :math:`\epsilon`,
    :math:`\rho^*` the same for the best known radii, and e the largest of these. The integrals are those of the steps
    themselves; AttackBench joins them by lines.

    A. E. Cinà et al., AttackBench, AAAI 2025 (arXiv 2404.19460), section 3.

    Args:
        radius: (N,) Least radii that the attack found; inf: none.
        best: (N,) Best known radii, all finite.
        clean: (N,) Bool, right when clean; others do not count.
    """
    radius, best = radius[clean].double(), best[clean].double()
    largest = best.max()
    return float((largest - radius.clamp(max=largest)).sum() / (largest - best).sum())


def others(norm: str, eps: float, seed: int) -> dict[str, Attack]:
    """Attacks of adv-lib, foolbox and torchattacks that look for the nearest adversarial example."""
    found: dict[str, Attack] = {}
    p = NORMS[norm]
    apgd, fmn = from_adv_lib("auto_pgd").minimal_apgd, from_adv_lib("fast_minimum_norm").fmn
    pdpgd = from_adv_lib("primal_dual_gradient_descent").pdpgd
    large = norm == "L1"
    reach = partial(apgd, norm=p, max_eps=2 * eps, use_large_reps=large)
    found["adv-lib APGD"] = partial(reach, binary_search_steps=13, n_iter=STEPS // 13)
    found["adv-lib APGD-T"] = partial(
        reach, binary_search_steps=11, n_iter=STEPS // 33, targeted_version=True, num_targets=3
    )
    found["adv-lib FMN"] = partial(fmn, norm=p, steps=STEPS)
    found["adv-lib PDPGD"] = partial(pdpgd, norm=p, num_steps=STEPS)
    if norm == "L2":
        found["adv-lib DDN"] = partial(from_adv_lib("decoupled_direction_norm").ddn, steps=STEPS, levels=None)
    found["foolbox FMN"] = _foolbox({"Linf": "LInfFMNAttack", "L2": "L2FMNAttack", "L1": "L1FMNAttack"}[norm])
    if norm != "L1":
        found["torchattacks FAB"] = _torchattacks(norm, eps, seed)
    return found


def _foolbox(name: str) -> Attack:
    foolbox = optional("foolbox", "foolbox")

    def attack(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device=x.device)
        adversarial: Tensor = getattr(foolbox.attacks, name)(steps=STEPS)(wrapped, x, y, epsilons=None)[0]
        return adversarial

    return attack


def _torchattacks(norm: str, eps: float, seed: int) -> Attack:
    """FAB on target classes, nearest first, until one is reached; an iteration passes forward twice, backward once."""
    torchattacks = optional("torchattacks", "torchattacks")

    def attack(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        settings: dict[str, Any] = {"norm": norm, "eps": 4 * eps, "multi_targeted": True, "n_classes": 10}
        fab = torchattacks.FAB(model, steps=2 * STEPS // 3, seed=seed, **settings)
        adversarial: Tensor = fab(x, y)
        return adversarial

    return attack


def radii(model: nn.Module, attack: Attack, x: Tensor, y: Tensor, ball: Ball) -> Tensor:
    """(N,) The norms of the perturbations that fool, inf where the attack's does not."""
    adversarial = attack(model, x, y).detach()
    with torch.no_grad():
        fooled = model(adversarial).argmax(1) != y
    fooled &= ((adversarial >= 0) & (adversarial <= 1)).flatten(1).all(1)
    return torch.where(fooled, ball.norm(adversarial - x), torch.inf)


@dataclass(frozen=True)
class Others(OnModels):
    """The work of a cell: the least radii that one attack of others finds on some images of a model."""

    def __call__(self, cell: cells.Row, folder: Path) -> Sequence[dict[str, Any]]:
        """One row for each image that is right when clean; a radius of -1: none."""
        seed = int(str(cell["seed"]))
        model, network, x, y = self.given(cell)
        with torch.no_grad():
            right = (network(x).argmax(1) == y).nonzero()[:, 0]
        counted = Counted(network)
        torch.manual_seed(seed)
        attack = others(model.norm, model.eps, seed)[str(cell["attack"])]
        radius = radii(counted, attack, x[right], y[right], model.ball)
        passes = counted.passes / len(right)
        finite = torch.where(radius.isinf(), -1.0, radius).tolist()
        return [{"image": i, "radius": r, "passes": passes} for i, r in zip(right.tolist(), finite, strict=True)]


def by_image(rows: Sequence[Mapping[str, Any]]) -> dict[int, float]:
    """The radii of rows by image, inf where there is none."""
    return {int(row["image"]): torch.inf if row["radius"] < 0 else float(row["radius"]) for row in rows}
