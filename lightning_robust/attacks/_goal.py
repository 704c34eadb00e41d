"""What an attacker wants on one batch, and the best that it has seen."""

import copy
import math
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from lightning_robust._nested import cut
from lightning_robust.attacks._aim import aim_of
from lightning_robust.attacks._gain import GainFn, anchor_of, check_gain, gain_in_loop, slope_of
from lightning_robust.attacks._tensors import column, wide
from lightning_robust.attacks.attack import Context
from lightning_robust.attacks.labels import Judge, are_class_labels, check_output, class_labels, finite, judge_of
from lightning_robust.attacks.threats import Batch


def clean_logits(batch: Batch, context: Context) -> Tensor:
    """The outputs for the clean inputs, in float32 or float64; asked for once, unless the context knows them."""
    logits = context.logits
    if logits is None:
        with torch.no_grad():
            logits = batch.model(batch.x.clone())  # a forward may write to its input
    check_output(logits, len(batch.x))
    return wide(logits)


class Goal:
    """The gain as a function of the logits alone, and whether the attacker has won.

    Args:
        gain: `(logits, y) -> (N,)`. The anchor of an anchored gain is read off the clean logits here, once.
        batch: The model, the inputs and the labels.
        context: Of the attack.
        must_judge: Refuse labels that do not tell whether the attacker has won.

    Attributes:
        judges: Do the labels tell whether the attacker has won? Known after `check`.
    """

    def __init__(self, gain: GainFn, batch: Batch, context: Context, *, must_judge: bool = False) -> None:
        self._must_judge = must_judge
        self._gain, self._n, self._y, self._correct = gain, len(batch.x), batch.y, context.correct
        self._against: Any = batch.y
        self._checked = self._looked = self.judges = False
        self._judge: Judge | None = None
        anchor, of_context = anchor_of(gain), getattr(gain, "of_context", None)
        if anchor is not None:
            logits = clean_logits(batch, context)
            with torch.no_grad():
                self._against = anchor(logits, batch.y) if of_context is None else of_context(logits, batch.y, context)

    @property
    def held(self) -> tuple[Any, ...]:
        """What the gain of logits depends on."""
        return self._gain, self._against

    def take(self, rows: Tensor) -> "Goal":
        """The goal of some of the samples."""
        part = copy.copy(self)
        part._n, part._judge, part._looked = len(rows), None, False
        part._y, part._against = (cut(value, self._n, rows) for value in (self._y, self._against))
        return part

    def check(self, logits: Any) -> None:
        """Refuse an output or labels that cannot be meant; once for each batch."""
        if not self._checked:
            check_output(logits, self._n)
            check_gain(self._gain, logits, self._against)
            self.judges = self._judged(logits) is not None
            if self._must_judge and not self.judges:
                raise ValueError(
                    "Expected `early_stop` to be False for labels that are no class labels: the attack cannot know "
                    "when a sample is misclassified. Say what is right: correct=(output, y) -> (N,) bool."
                )
            self._checked = True

    def _judged(self, logits: Tensor) -> Judge | None:
        """How the attacker knows that it has won; None: the labels do not tell. `logits`: an output of the batch."""
        if not self._looked:
            self._judge, self._looked = judge_of(self._correct, logits, self._y), True
        return self._judge

    def gain(self, logits: Tensor) -> Tensor:
        """The gain of each sample, (N,), in float32 or float64."""
        return gain_in_loop(self._gain, wide(logits), self._against)

    def slope(self, logits: Tensor) -> tuple[Tensor, Tensor] | None:
        """The gain and its gradient with respect to the logits; None where the gain does not know it itself."""
        return slope_of(self._gain, wide(logits.detach()), self._against)

    def known(self, logits: Tensor) -> Tensor | None:
        """(N,) bool: has the attacker won? None where the labels do not tell."""
        judge = self._judged(logits)
        return None if judge is None else judge(logits)

    def fooled(self, logits: Tensor) -> Tensor:
        """(N,) bool; where it cannot be known, only a model that breaks has lost."""
        known = self.known(logits)
        return ~finite(logits) if known is None else known

    def won(self, logits: Tensor, gain: Tensor) -> Tensor | None:
        """(N,) bool: has the gain (N,) got what it asks for, another class than the label, or its target before the
        label, whatever the verdict is? None where the verdict is the usual one, or labels are no classes.
        """
        if self._correct is None or not are_class_labels(logits, self._y):
            return None
        labels = class_labels(logits, self._y)
        other, aim = logits.argmax(1) != (labels if labels.ndim == 1 else labels.argmax(1)), aim_of(self._gain)
        return other & (gain > 0) if aim == "target" else other & (aim == "another")

    @property
    def seeks_any(self) -> bool:
        """Does the gain ask for any class but the label?"""
        return aim_of(self._gain) == "another"


@dataclass
class Trace:
    """Per sample, the best perturbation so far and the step of the first success.

    The best is a misclassified one before any other, then the one with the highest gain.
    """

    delta: Tensor
    gain: Tensor
    fooled: Tensor
    first: Tensor
    stuck: Tensor
    radius: Tensor

    @classmethod
    def start(cls, delta: Tensor) -> "Trace":
        """Nothing has been seen."""
        none = torch.zeros(len(delta), dtype=torch.bool, device=delta.device)
        gain, first = (torch.full_like(none, -math.inf, dtype=torch.float), torch.full_like(none, -1, dtype=torch.long))
        return cls(delta, gain, none, first, none, -gain)

    def see(
        self, delta: Tensor, gain: Tensor, fooled: Tensor, step: int | Tensor, radius: Tensor | None = None
    ) -> None:
        """Take a perturbation where it is better; `radius` (N,) is its norm."""
        self.keep((fooled & ~self.fooled) | ((fooled == self.fooled) & (gain > self.gain)), delta, gain)
        self.first = torch.where(fooled & (self.first < 0), step, self.first)
        self.fooled = fooled | self.fooled
        if radius is not None:
            self.radius = torch.where(fooled, torch.minimum(self.radius, radius), self.radius)

    def keep(self, better: Tensor, delta: Tensor, gain: Tensor) -> None:
        """Take a perturbation where `better` (N,) says so."""
        self.delta = torch.where(column(better, delta), delta, self.delta)
        self.gain = torch.where(better, gain, self.gain)

    def take(self, rows: Tensor) -> "Trace":
        """The trace of some of the samples."""
        return Trace(*(getattr(self, f.name)[rows] for f in fields(self)))

    def put(self, rows: Tensor, part: "Trace") -> None:
        """The trace with that of some of the samples written into it."""
        for f in fields(self):
            old, new = getattr(self, f.name), getattr(part, f.name)
            setattr(self, f.name, old.to(new.dtype).index_copy(0, rows, new))

    def over(self) -> bool:
        """Are all samples misclassified? Never where processes run together: all must make as many forwards."""
        return not torch.distributed.is_initialized() and bool(self.fooled.all())
