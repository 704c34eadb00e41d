"""When not to believe a robust accuracy: indicators of attacks that failed, with threshold, source and remedy.

Among them are the six of Pintor et al., "Indicators of Attack Failure" (NeurIPS 2022), and the five flags of AutoAttack
(Croce & Hein, ICML 2020). None of them proves anything: an evaluation that no indicator doubts can be wrong, and a
doubt says where to look.
"""

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lightning_robust import _checks
from lightning_robust.attacks import margin
from lightning_robust.attacks._signs import Signs
from lightning_robust.attacks.attack import Context
from lightning_robust.attacks.ball import Ball
from lightning_robust.attacks.labels import Correct
from lightning_robust.attacks.threats import Threat, as_threat
from lightning_robust.evaluation._indicator import KINDS, REFUSED, Indicator, indicator
from lightning_robust.evaluation._measured import Measured
from lightning_robust.evaluation._probe import measure
from lightning_robust.evaluation._unbounded import at_any_size

__all__ = [
    "Indicator",
    "from_signs",
    "probe",
    "radius_used",
    "refuse",
    "search_beats_gradients",
    "standing",
    "transfer_beats_gradients",
    "unbounded",
    "warning",
]

_ENOUGH_SAMPLES = 50  # of fewer, one alone says nothing
_FEW_SAMPLES = 5  # of fewer, one alone at a kink decides what all steps together did
_ENOUGH = 100  # steps; of fewer the sum of what they did tells little of their gradients

_SAID = {
    "attacks": "Robust accuracy may be too high.",
    "model": "The model may not be what is meant.",
    "data": "The samples may not stand for the data.",
}


def probe(
    model: Any,
    x: Tensor,
    y: Any,
    threat: Threat | Ball | None,
    *,
    gain: Any = margin,
    correct: Correct | None = None,
    logits: Tensor | None = None,
    code: Any = None,
    key: int = 0,
) -> list[Indicator]:
    """What a few forwards and five backwards of at most 64 samples tell of a model.

    Does it answer the same question alike: again, with and without gradients, in other company? Are the answers finite
    logits? Is there a gradient, of the wrong classes too and the same each time, and does the gain rise along it more
    than along random steps?

    Args:
        model: x (N, ...) -> output; a module, a function, or one that has `rows`. One that says `whole_batches = True`
            is asked about all samples.
        x: (N, ...) clean inputs.
        y: Labels.
        threat: The perturbation set of the evaluation; None: not known, and nothing is asked within it.
        gain: What the attacks raise.
        correct: What "right" means.
        logits: The clean output, where it is known.
        code: Known latent codes.
        key: Of the random steps.

    Returns:
        What was measured; of a random model nothing that its randomness alone would explain.

    Example:
        >>> from lightning_robust.attacks import Linf
        >>> net = torch.nn.Linear(8, 3)
        >>> x, y = torch.rand(16, 8), torch.arange(16) % 3
        >>> [i.name for i in probe(net, x, y, Linf(0.1)) if i.flagged]
        []
        >>> [i.name for i in probe(lambda x: net(x.round()), x, y, Linf(0.1)) if i.flagged]
        ['zero_gradient', 'gradient_rise']
    """
    known = None if threat is None else as_threat(threat)
    return from_measured(measure(model, x, y, known, gain, Context(code, key, correct, logits)))


def from_measured(measured: Measured) -> list[Indicator]:
    """The indicators of what was measured on one batch, or on several together."""
    values = measured.values()
    return [indicator(name, values[name]) for name in KINDS if name in values]


def from_signs(signs: Signs, n: int, *, steps: int | None = None) -> list[Indicator]:
    """What the ascent loop saw of the samples that withstood.

    Args:
        signs: Of the samples that withstood all attacks: of the others it does not matter how they were broken.
        n: Number of all samples.
        steps: Of the longest run. None: the most that any sample made. In less than 50 the last 10 are no small part,
            and whether the gain still rises is not asked.
    """
    if not len(signs.steps):
        return []
    steps = int(signs.steps.max()) if steps is None else _checks.count("steps", steps)
    return from_sums(sums_of(signs), _checks.count("n", n), steps)


def sums_of(signs: Signs) -> Tensor:
    """What `from_sums` needs of the samples that withstood, (10,): it adds up over batches and processes."""
    made, whole = signs.steps.clamp(min=1), signs.best - signs.start
    late = torch.where(whole > 0, (signs.best - signs.late) / whole.clamp(min=1e-300), 0.0)
    sums = (signs.zero > 0.5 * made, signs.broken / made, signs.silent, late, signs.steps > 0, signs.won & ~signs.short)
    rises = (signs.rise, signs.predicted, signs.agreed, signs.asked)
    return torch.stack([value.to(signs.rise).sum() for value in (*sums, *rises)])


def from_sums(sums: Tensor, n: int, steps: int) -> list[Indicator]:
    """As `from_signs`.

    Args:
        sums: (10,) those of `sums_of`.
        n: Number of all samples.
        steps: Of the longest run.
    """
    stuck, broken, silent, late, moved, won, rise, predicted, agreed, asked = sums.tolist()
    if not moved:
        return []
    known = asked >= _ENOUGH and predicted > 0
    share = rise / predicted if known else math.nan
    risen = indicator("loop_rise", share, agreed=agreed / asked if known else math.nan)
    values = [
        indicator("loop_zero_gradient", stuck / n),
        indicator("loop_broken_gradient", broken / n),
        replace(risen, flagged=risen.flagged and (moved >= _FEW_SAMPLES or share <= 0)),
        indicator("silent_success", silent / n),
        indicator("gain_won", won / n),
    ]
    if steps >= 50:
        values.append(indicator("still_rising", late / moved))
    return values


def radius_used(norm: Tensor, radius: Tensor | float) -> list[Indicator]:
    """How much of the radius the perturbations of the samples that withstood use.

    Args:
        norm: (N,) `ball.norm(delta)` of these samples.
        radius: One number, or (N,).

    Example:
        >>> radius_used(torch.tensor([0.0, 0.02, 0.1]), 0.1)[0].flagged
        True
    """
    share = (norm.double() / torch.as_tensor(radius, dtype=torch.float64, device=norm.device)).flatten()
    share = share[share.isfinite()]
    return [indicator("radius_used", float(share.median()))] if len(share) else []


def unbounded(
    model: Any,
    x: Tensor,
    y: Any,
    threat: Threat | Ball,
    *,
    gain: Any = margin,
    correct: Correct | None = None,
    code: Any = None,
    key: int = 0,
    steps: int = 20,
) -> list[Indicator]:
    """Does anything withstand a perturbation of any size, on at most 64 samples, and does the gain jump on the way?

    The ball is scaled until it covers the bounds of the space; the ascent starts at the clean input, so that it is the
    gradient, and not a start that is far off, which must find the way. Between the clean input and what the ascent
    finds, where the verdict changes, the outputs of a continuous model meet.

    Args:
        model: x (N, ...) -> output.
        x: (N, ...) clean inputs.
        y: Labels.
        threat: The perturbation set of the evaluation.
        gain: What the attack raises.
        correct: What "right" means.
        code: Known latent codes.
        key: Of the attack.
        steps: Number of steps.

    Returns:
        Whether anything withstands, of pixels alone, or that the model gives one class to all that it is shown, which
        is no fault of the attack; and of what does not withstand, whether the gain jumps. Nothing where the space has
        no bounds, no gradient arrives, no sample is right, or the labels do not tell what is.
    """
    return from_measured(at_any_size(model, x, y, as_threat(threat), gain, Context(code, key, correct), steps=steps))


def search_beats_gradients(broken_by_gradients: int, broken_by_search: int, n: int) -> Indicator:
    """Does a search find what attacks with gradients do not?

    Args:
        broken_by_gradients: Number of samples that attacks with gradients broke.
        broken_by_search: Number of those among the others that a search broke. One of less than 50 samples is no reason
            to doubt: a sample at the edge may fall to one attack and not to another.
        n: Number of all samples that both were tried on.

    Example:
        >>> search_beats_gradients(400, 3, 1000).flagged
        True
    """
    return _beats("search_beats_gradients", broken_by_gradients, broken_by_search, n)


def transfer_beats_gradients(broken_by_gradients: int, broken_by_transfer: int, n: int) -> Indicator:
    """Do adversarial examples of another model, a surrogate, find what attacks on this one do not?

    Deviation: Pintor et al. flag examples that fool the surrogate and not the model, as those of any unlike surrogate
    do. Here they count where they succeed.

    Args:
        broken_by_gradients: Number of samples that attacks on the model broke.
        broken_by_transfer: Number of those among the others that adversarial examples of the surrogate broke.
        n: Number of all samples that both were tried on.
    """
    return _beats("transfer_beats_gradients", broken_by_gradients, broken_by_transfer, n)


def _beats(name: str, ours: int, theirs: int, n: int) -> Indicator:
    n = _checks.count("n", n)
    theirs = _checks.count(name.replace("beats_gradients", "broken"), theirs, 0, n)
    ours = _checks.count("broken_by_gradients", ours, 0, n)
    one = indicator(name, theirs / n, more=f"{theirs} beside {ours} of {n}")
    return replace(one, flagged=one.flagged and (theirs > 1 or n >= _ENOUGH_SAMPLES))


def refuse(indicators: Iterable[Indicator]) -> None:
    """Raise a ValueError where there can be no verdict: for a model that is random, or whose output is constant."""
    for one in indicators:
        if one.flagged and one.name in REFUSED:
            raise ValueError(f"Expected a model that can be evaluated. {one.text}")


def standing(indicators: Iterable[Indicator], robust: int) -> list[Indicator]:
    """The indicators of an evaluation in which so many samples withstood.

    Where none did, no robust accuracy can be too high: then only those stay flagged that are of the model, such as of
    outputs that are not finite, or of the data, and not of attacks.

    Args:
        indicators: Of the evaluation.
        robust: Number of samples that are right without an attack and under all attacks; the most of such numbers,
            where the robust accuracy under each attack is shown, too.

    Example:
        >>> found = [search_beats_gradients(400, 3, 1000)]
        >>> [one.flagged for robust in (597, 0) for one in standing(found, robust)]
        [True, False]
    """
    robust = _checks.count("robust", robust, 0)
    return [one if robust or _of(one) != "attacks" else replace(one, flagged=False) for one in indicators]


def _of(one: Indicator) -> str:
    return KINDS[one.name].of if one.name in KINDS else "attacks"


def warning(indicators: Iterable[Indicator]) -> str | None:
    """One warning of all that is flagged; None where nothing is."""
    flagged = [one for one in indicators if one.flagged]
    if not flagged:
        return None
    of = {_of(one) for one in flagged}
    said = next(text for kind, text in _SAID.items() if kind in of)
    return " ".join([said, *(f"{one.name}: {one.text}" for one in flagged)])
