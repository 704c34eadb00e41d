"""Attacks made of attacks."""

import functools
import itertools
import math
import operator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lightning_robust import _checks, _nested
from lightning_robust.attacks._combined import Combined
from lightning_robust.attacks._tensors import wide
from lightning_robust.attacks.attack import NO_CONTEXT, Attack, Context, Model, Outcome, as_attack, rows_of
from lightning_robust.attacks.gains import cross_entropy
from lightning_robust.attacks.labels import are_class_labels, check_class_labels, check_output, judge_of
from lightning_robust.attacks.scope import ordinary, scope


def _worst(model: Model, x: Tensor, y: Any, outcomes: list[Outcome], context: Context, *, alike: bool) -> Outcome:
    """Per sample the outcome that fools the model, else the one of the highest cross entropy.

    `alike`: they are runs of one attack. Then a sample is stuck where all of them are; the alarm of one attack among
    several is not hidden by the others.
    """
    with scope(model, x, seed=context.key) as ready, torch.no_grad():
        y = ordinary(y)
        # A clone: a forward may write to its input.
        outputs = [ready(outcome.x_adv.clone()) for outcome in outcomes]
        check_output(outputs[0], len(x))  # not every attack asks the model
        if context.correct is None:
            check_class_labels(outputs[0], y, "the worst of several attacks")
        judge = judge_of(context.correct, outputs[0], y)
        assert judge is not None
        fooled = torch.stack([judge(output) for output in outputs])
        value = torch.stack([_height(output, y) for output in outputs])
        # A misclassified one before any other, then the highest cross entropy.
        choice = value.masked_fill(~fooled & fooled.any(0), -math.inf).argmax(0)
        rows = torch.arange(len(x), device=x.device)
        x_adv = torch.stack([o.x_adv for o in outcomes])[choice, rows]
    known = [outcome.stuck for outcome in outcomes if outcome.stuck is not None]
    seen = [outcome.signs for outcome in outcomes if outcome.signs is not None]
    return Outcome(
        x_adv,
        fooled=torch.cat([fooled[i : i + 1] if o.fooled is None else o.fooled for i, o in enumerate(outcomes)]),
        stuck=(torch.stack(known).all(0) if alike else torch.stack(known).any(0)) if known else None,
        signs=functools.reduce(operator.add, seen) if seen else None,
    )


def _height(output: Tensor, y: Any) -> Tensor:
    """What decides between examples that all fail, or all succeed; nothing, where the labels are no class labels."""
    if not are_class_labels(output, y):
        return torch.zeros(len(output), device=output.device)
    value = cross_entropy(wide(output), y)
    # A large finite number for NaN and infinity: an attack that breaks the arithmetic of the model has won.
    return value.nan_to_num(nan=3e38, posinf=3e38)


def _in_order(outcomes: list[Outcome]) -> Outcome:
    """The outcome of a batch from those of its consecutive parts; of some it is not known whether they are stuck."""
    stuck = [torch.zeros(len(o.x_adv), dtype=torch.bool) if o.stuck is None else o.stuck for o in outcomes]
    x_adv, known = torch.cat([o.x_adv for o in outcomes]), any(o.stuck is not None for o in outcomes)
    return Outcome(x_adv, stuck=torch.cat([s.to(x_adv.device) for s in stuck]) if known else None)


@dataclass(frozen=True)
class WorstOf(Combined):
    """Per sample the worst of several attacks, see `worst_of`."""

    attacks: tuple[Attack, ...]

    def run(self, model: Model, x: Tensor, y: Any, context: Context = NO_CONTEXT) -> Outcome:
        """Run all attacks and choose per sample."""
        return _worst(model, x, y, [attack.run(model, x, y, context) for attack in self.attacks], context, alike=False)


def _several(attacks: tuple[Any, ...], least: int, wanted: str) -> tuple[Attack, ...]:
    if len(attacks) < least:
        raise ValueError(f"Expected at least {wanted}, but got {len(attacks) or 'none'}.")
    return tuple(as_attack(attack, f"attacks[{i}]") for i, attack in enumerate(attacks))


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
    return WorstOf(_several(attacks, 1, "one attack"))


@dataclass(frozen=True)
class Restarted(Combined):
    """The worst of several runs of one attack that differ in their key, see `restarted`."""

    attack: Attack
    runs: int

    @property
    def restarts(self) -> int:  # type: ignore[override]
        """Those of all runs."""
        return self.runs * self.attack.restarts

    def brief(self) -> Attack | None:
        """One run."""
        return self.attack.brief()

    def run(self, model: Model, x: Tensor, y: Any, context: Context = NO_CONTEXT) -> Outcome:
        """Run with the keys key, key + 2^32, key + 2 * 2^32, ..."""
        contexts = [replace(context, key=context.key + (run << 32)) for run in range(self.runs)]
        return _worst(model, x, y, [self.attack.run(model, x, y, one) for one in contexts], context, alike=True)


def restarted(attack: Any, restarts: int) -> Restarted:
    """Restarts for any attack that draws at random; `PGD` has its own argument, which saves work.

    Args:
        attack: An attack, or a function `(model, x, y) -> x_adv` that draws from torch's generators.
        restarts: The number of runs.
    """
    return Restarted(as_attack(attack), _checks.count("restarts", restarts))


def attacked_rows(n: int, fraction: float) -> int:
    """How many of `n` samples are attacked, the last ones of the batch: fraction * n, rounded, a half up."""
    return math.floor(fraction * n + 0.5)


def check_fraction(fraction: float) -> float:
    """The share of adversarial samples in a batch, in (0, 1]."""
    return _checks.number("fraction", fraction, 0, 1, above=True)


def _part(model: Model, x: Tensor, y: Any, context: Context, rows: slice) -> tuple[Model, Tensor, Any, Context]:
    """What `run` takes, for some samples of a batch."""
    return rows_of(model, rows), x[rows], _nested.cut(y, len(x), rows), context.take(rows, len(x))


@dataclass(frozen=True)
class OnFraction(Combined):
    """An attack on the last samples of each batch, see `on_fraction`."""

    attack: Attack
    fraction: float

    restarts = 1  # `fooled` of some samples alone is not handed on

    def thorough(self) -> Attack:
        """The attack for evaluation, on every sample: one that is not attacked must not be counted as robust."""
        return self.attack.thorough()

    def run(self, model: Model, x: Tensor, y: Any, context: Context = NO_CONTEXT) -> Outcome:
        """Attack the last samples; the others come back clean."""
        first = len(x) - attacked_rows(len(x), self.fraction)
        if first == len(x):
            return Outcome(x)
        return _in_order([Outcome(x[:first]), self.attack.run(*_part(model, x, y, context, slice(first, None)))])


def on_fraction(attack: Any, fraction: float) -> OnFraction:
    """Attack a fraction of every batch, its last samples; the others stay clean.

    Args:
        attack: An attack, or a function `(model, x, y) -> x_adv`.
        fraction: The share of adversarial samples, in (0, 1].
    """
    return OnFraction(as_attack(attack), check_fraction(fraction))


@dataclass(frozen=True)
class InTurn(Combined):
    """Each of several attacks on its share of the batch, see `in_turn`."""

    attacks: tuple[Attack, ...]

    restarts = 1  # every sample is attacked once

    def thorough(self) -> Attack:
        """In evaluation all attacks see every sample; one must not look robust because another attack had its turn."""
        return WorstOf(tuple(attack.thorough() for attack in self.attacks))

    def run(self, model: Model, x: Tensor, y: Any, context: Context = NO_CONTEXT) -> Outcome:
        """Run all attacks, each on its samples."""
        ends = [len(x) * part // len(self.attacks) for part in range(len(self.attacks) + 1)]
        rows = [slice(start, end) for start, end in itertools.pairwise(ends)]
        pairs = [pair for pair in zip(self.attacks, rows, strict=True) if pair[1].start < pair[1].stop]
        return _in_order([attack.run(*_part(model, x, y, context, part)) for attack, part in pairs])


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
    return InTurn(_several(attacks, 2, "two attacks to take turns"))
