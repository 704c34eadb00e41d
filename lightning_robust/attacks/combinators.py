"""Attacks made of attacks."""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lightning_robust.attacks.attack import Attack, Model, Outcome, as_attack, check_logits, misclassified
from lightning_robust.attacks.gains import cross_entropy
from lightning_robust.attacks.scope import plain, scope


def _worst(model: Model, x: Tensor, y: Tensor, found: list[Outcome], key: int) -> Outcome:
    """Per sample the outcome that fools the model, else the one of the highest cross entropy."""
    with scope(model, seed=key, device=x.device), torch.no_grad():
        y = plain(y)
        logits = [model(outcome.x_adv) for outcome in found]
        check_logits(logits[0], y)  # not every attack asks the model
        fooled = torch.stack([misclassified(z, y) for z in logits])
        value = torch.stack([cross_entropy(z.float() if z.dtype != torch.float64 else z, y) for z in logits])
        # A large finite number for NaN and infinity: an attack that breaks the arithmetic of the model has won.
        value = value.nan_to_num(nan=3e38, posinf=3e38)
        # A misclassified one before any other, then the highest cross entropy.
        choice = value.masked_fill(~fooled & fooled.any(0), -math.inf).argmax(0)
        shape = (1, -1, *[1] * (x.ndim - 1))
        x_adv = torch.stack([o.x_adv for o in found]).gather(0, choice.reshape(shape).expand(1, *found[0].x_adv.shape))[
            0
        ]
    stuck = [outcome.stuck for outcome in found]
    return Outcome(
        x_adv,
        fooled=torch.cat([fooled[i : i + 1] if o.fooled is None else o.fooled for i, o in enumerate(found)]),
        stuck=None if any(s is None for s in stuck) else torch.stack(stuck).all(0),  # type: ignore[arg-type]
    )


@dataclass(frozen=True)
class WorstOf(Attack):
    """Per sample the worst of several attacks, see `worst_of`."""

    attacks: tuple[Attack, ...]

    def check(self, x: Tensor, y: Tensor) -> None:
        """Refuse what any of the attacks refuses."""
        for attack in self.attacks:
            attack.check(x, y)

    @property
    def attempts(self) -> int:
        """Those of all attacks."""
        return sum(attack.attempts for attack in self.attacks)

    def thorough(self) -> "WorstOf":
        """Every attack for evaluation."""
        return WorstOf(tuple(attack.thorough() for attack in self.attacks))

    def scaled(self, factor: float) -> "WorstOf":
        """Every attack in a scaled ball."""
        return WorstOf(tuple(attack.scaled(factor) for attack in self.attacks))

    def run(self, model: Model, x: Tensor, y: Tensor, *, code: Any = None, key: int = 0) -> Outcome:
        """Run all attacks and choose per sample."""
        return _worst(model, x, y, [attack.run(model, x, y, code=code, key=key) for attack in self.attacks], key)


def worst_of(*attacks: Any) -> WorstOf:
    """The worst of several attacks per sample: the adversary of a union of threats (Tramer & Boneh, NeurIPS 2019,
    "max").

    Args:
        attacks: Attacks, or functions `(model, x, y) -> x_adv`.

    Example:
        >>> from lightning_robust.attacks import L2, PGD, Linf
        >>> union = worst_of(PGD(Linf(8 / 255)), PGD(L2(0.5)))
        >>> len(union.attacks)
        2
    """
    if not attacks:
        raise ValueError("Expected at least one attack, but got none.")
    return WorstOf(tuple(map(as_attack, attacks)))


@dataclass(frozen=True)
class Restarted(Attack):
    """The worst of several runs of one attack that differ in their key, see `restarted`."""

    attack: Attack
    restarts: int

    def check(self, x: Tensor, y: Tensor) -> None:
        """Refuse what the attack refuses."""
        self.attack.check(x, y)

    @property
    def attempts(self) -> int:
        """Those of all runs."""
        return self.restarts * self.attack.attempts

    def thorough(self) -> "Restarted":
        """The attack for evaluation."""
        return replace(self, attack=self.attack.thorough())

    def scaled(self, factor: float) -> "Restarted":
        """The attack in a scaled ball."""
        return replace(self, attack=self.attack.scaled(factor))

    def run(self, model: Model, x: Tensor, y: Tensor, *, code: Any = None, key: int = 0) -> Outcome:
        """Run with the keys key, key + 2^32, key + 2 * 2^32, ..."""
        keys = [key + (restart << 32) for restart in range(self.restarts)]
        return _worst(model, x, y, [self.attack.run(model, x, y, code=code, key=k) for k in keys], key)


def restarted(attack: Any, restarts: int) -> Restarted:
    """Restarts for any attack that draws at random; `PGD` has its own argument, which saves work.

    Args:
        attack: An attack, or a function `(model, x, y) -> x_adv` that draws from torch's generators.
        restarts: How many runs.
    """
    if isinstance(restarts, bool) or not isinstance(restarts, int) or restarts < 1:
        raise ValueError(f"Expected argument `restarts` to be an integer of at least 1, but got {restarts!r}.")
    return Restarted(as_attack(attack), restarts)


def _take(code: Any, rows: slice) -> Any:
    """The codes of some samples: of a tensor, or of a tuple, list or named tuple of tensors."""
    if code is None:
        return None
    if isinstance(code, tuple | list):
        parts = [part[rows] for part in code]
        return type(code)(*parts) if hasattr(code, "_fields") else type(code)(parts)
    return code[rows]


def attacked_rows(n: int, fraction: float) -> int:
    """How many of `n` samples are attacked, the last ones of the batch: fraction * n, rounded, a half up."""
    return math.floor(fraction * n + 0.5)


def check_fraction(fraction: float) -> None:
    """Refuse a fraction that is not in (0, 1]."""
    if not 0 < fraction <= 1:
        raise ValueError(
            f"Expected argument `fraction`, the share of adversarial samples, to be in (0, 1], but got {fraction}."
        )


@dataclass(frozen=True)
class OnFraction(Attack):
    """An attack on the last samples of each batch, see `on_fraction`."""

    attack: Attack
    fraction: float

    def check(self, x: Tensor, y: Tensor) -> None:
        """Refuse what the attack refuses."""
        self.attack.check(x, y)

    def thorough(self) -> Attack:  # type: ignore[override]
        """The attack for evaluation, on every sample: one that is not attacked must not be counted as robust."""
        return self.attack.thorough()

    def scaled(self, factor: float) -> "OnFraction":
        """The attack in a scaled ball."""
        return replace(self, attack=self.attack.scaled(factor))

    def run(self, model: Model, x: Tensor, y: Tensor, *, code: Any = None, key: int = 0) -> Outcome:
        """Attack the last samples; the others come back clean."""
        first = len(x) - attacked_rows(len(x), self.fraction)
        if first == len(x):
            return Outcome(x)
        rows = slice(first, None)
        outcome = self.attack.run(model, x[rows], y[rows], code=_take(code, rows), key=key)
        return Outcome(torch.cat([x[:first], outcome.x_adv]))


def on_fraction(attack: Any, fraction: float) -> OnFraction:
    """Attack a fraction of every batch, its last samples; the others stay clean.

    Args:
        attack: An attack, or a function `(model, x, y) -> x_adv`.
        fraction: The share of adversarial samples, in (0, 1].
    """
    check_fraction(fraction)
    return OnFraction(as_attack(attack), fraction)


@dataclass(frozen=True)
class InTurn(Attack):
    """Each of several attacks on its share of the batch, see `in_turn`."""

    attacks: tuple[Attack, ...]

    def check(self, x: Tensor, y: Tensor) -> None:
        """Refuse what any of the attacks refuses."""
        for attack in self.attacks:
            attack.check(x, y)

    def thorough(self) -> Attack:  # type: ignore[override]
        """All attacks on every sample: one must not be counted as robust because another attack was its turn."""
        return WorstOf(tuple(attack.thorough() for attack in self.attacks))

    def scaled(self, factor: float) -> "InTurn":
        """Every attack in a scaled ball."""
        return InTurn(tuple(attack.scaled(factor) for attack in self.attacks))

    def run(self, model: Model, x: Tensor, y: Tensor, *, code: Any = None, key: int = 0) -> Outcome:
        """Run all attacks, each on its samples."""
        ends = [len(x) * part // len(self.attacks) for part in range(len(self.attacks) + 1)]
        found = [
            attack.run(model, x[rows], y[rows], code=_take(code, rows), key=key)
            for attack, rows in zip(self.attacks, map(slice, ends, ends[1:]), strict=True)
            if rows.start < rows.stop
        ]
        stuck = [outcome.stuck for outcome in found]
        return Outcome(
            torch.cat([outcome.x_adv for outcome in found]),
            stuck=None if any(s is None for s in stuck) else torch.cat(stuck),  # type: ignore[arg-type]
        )


def in_turn(*attacks: Any) -> InTurn:
    """Cut every batch into equal parts, in order, and give each to one of several attacks.

    Training on several threats at the cost of one attack a sample, where `worst_of` makes all of them on every sample.
    With half of each batch clean, `in_turn(off, on)` is the combined scheme of Stutz et al. (CVPR 2019): 1/2 clean,
    1/4 off, 1/4 on the manifold. Where a batch cannot be cut into equal parts, the later ones are the larger ones.

    In evaluation every sample is given to all attacks, and the worst counts.

    Args:
        attacks: Attacks, or functions `(model, x, y) -> x_adv`.

    Example:
        >>> from lightning_robust.attacks import L2, PGD, Linf
        >>> x, y = torch.full((4, 1, 2, 2), 0.5), torch.zeros(4).long()
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
        >>> x_adv = in_turn(PGD(Linf(0.1)), PGD(L2(0.1)))(model, x, y)
        >>> [round(float(d.norm()), 3) for d in x_adv - x]
        [0.2, 0.2, 0.1, 0.1]
    """
    if len(attacks) < 2:
        raise ValueError(f"Expected at least two attacks to take turns, but got {len(attacks)}.")
    return InTurn(tuple(map(as_attack, attacks)))
