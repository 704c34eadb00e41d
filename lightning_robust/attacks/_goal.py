"""What an attacker wants on one batch, and the best that it has seen."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_robust.attacks._gain import GainFn, anchor_of, check_gain, gain_of
from lightning_robust.attacks._tensors import column, wide
from lightning_robust.attacks.attack import Context
from lightning_robust.attacks.labels import Judge, check_output, finite, judge_of
from lightning_robust.attacks.threats import Batch


class Goal:
    """The gain as a function of the logits alone, and whether the attacker has won.

    Args:
        gain: `(logits, y) -> (N,)`. The anchor of an anchored gain is read off the clean logits here, once.
        batch: The model, the inputs and the labels.
        context: Of the attack.
        must_judge: Refuse labels that do not tell whether the attacker has won.
    """

    def __init__(self, gain: GainFn, batch: Batch, context: Context, *, must_judge: bool = False) -> None:
        self._must_judge = must_judge
        self._gain, self._n, self._y, self._correct = gain, len(batch.x), batch.y, context.correct
        self._against: Any = batch.y
        self._checked = False
        self.judge: Judge | None = None
        anchor = anchor_of(gain)
        if anchor is not None:
            with torch.no_grad():
                logits = batch.model(batch.x.clone())  # a forward may write to its input
                check_output(logits, self._n)
                self._against = anchor(wide(logits), batch.y)

    def check(self, logits: Any) -> None:
        """Refuse an output or labels that cannot be meant; once for each batch."""
        if not self._checked:
            check_output(logits, self._n)
            check_gain(self._gain, logits, self._against)
            self.judge = judge_of(self._correct, logits, self._y)
            if self._must_judge and self.judge is None:
                raise ValueError(
                    "Expected `early_stop` to be False for labels that are no class labels: the attack cannot know "
                    "when a sample is misclassified. Say what is right: correct=(output, y) -> (N,) bool."
                )
            self._checked = True

    def gain(self, logits: Tensor) -> Tensor:
        """The gain of each sample, (N,), in float32 or float64."""
        return gain_of(self._gain, wide(logits), self._against)

    def known(self, logits: Tensor) -> Tensor | None:
        """(N,) bool: has the attacker won? None where the labels do not tell."""
        return None if self.judge is None else self.judge(logits)

    def fooled(self, logits: Tensor) -> Tensor:
        """(N,) bool; where it cannot be known, only a model that breaks has lost."""
        return ~finite(logits) if self.judge is None else self.judge(logits)


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

    @classmethod
    def start(cls, delta: Tensor) -> "Trace":
        """Nothing has been seen."""
        none = torch.zeros(len(delta), dtype=torch.bool, device=delta.device)
        gain, first = (torch.full_like(none, -math.inf, dtype=torch.float), torch.full_like(none, -1, dtype=torch.long))
        return cls(delta, gain, none, first, none)

    def see(self, delta: Tensor, gain: Tensor, fooled: Tensor, step: int | Tensor) -> None:
        """Take a perturbation where it is better."""
        self.keep((fooled & ~self.fooled) | ((fooled == self.fooled) & (gain > self.gain)), delta, gain)
        self.first = torch.where(fooled & (self.first < 0), step, self.first)
        self.fooled = fooled | self.fooled

    def keep(self, better: Tensor, delta: Tensor, gain: Tensor) -> None:
        """Take a perturbation where `better` (N,) says so."""
        self.delta = torch.where(column(better, delta), delta, self.delta)
        self.gain = torch.where(better, gain, self.gain)

    def over(self) -> bool:
        """Are all samples misclassified? Never where processes run together: all must make as many forwards."""
        return not torch.distributed.is_initialized() and bool(self.fooled.all())
