"""What attacks without gradients share: asking the model, and keeping what was best."""

from typing import Any

import torch
from torch import Tensor

from lightning_robust import _checks
from lightning_robust.attacks.attack import Context, Outcome
from lightning_robust.attacks.gains import Anchored, GainFn, check_gain, gain_of
from lightning_robust.attacks.labels import Judge, check_output, finite, judge_of
from lightning_robust.attacks.threats import Batch


def check_plain_gain(gain: Any) -> GainFn:
    """Refuse what is no gain of labels."""
    if isinstance(gain, Anchored):
        raise TypeError(
            f"Expected argument `gain` to be a function (logits, y) -> (N,) such as margin, but got {gain!r}."
        )
    return _checks.function("gain", gain, "(logits, y) -> (N,)")


class Search:
    """The best perturbation so far, per sample, found by asking for the logits alone.

    A perturbation is better if it makes the sample misclassified, or if its gain is higher. A misclassified sample
    stays where it is: the search is over for it, so that when it ends for all does not matter to any.

    Args:
        batch: The model, the labels and the chart.
        gain: `(logits, y) -> (N,)`.
        context: Of the attack.
    """

    def __init__(self, batch: Batch, gain: GainFn, context: Context) -> None:
        self._model, self._chart, self._gain, self._y = batch.model, batch.chart, gain, batch.y
        self._correct = context.correct
        self._judge: Judge | None = None
        self.delta = zero = batch.chart.zero
        n = len(zero)
        self._value = torch.full((n,), -torch.inf, dtype=zero.dtype, device=zero.device)
        self._fooled = torch.zeros(n, dtype=torch.bool, device=zero.device)
        self._first = torch.full((n,), -1, device=zero.device)
        self._asked = 0

    def ask(self, delta: Tensor) -> None:
        """Try one perturbation of every sample, (N, ...), which must be in the perturbation set."""
        logits = self._model(self._chart.decode(delta))
        if not self._asked:
            check_output(logits, len(delta))
            check_gain(self._gain, logits, self._y)
            self._judge = judge_of(self._correct, logits, self._y)
        wide = logits if logits.dtype in (torch.float32, torch.float64) else logits.float()
        value = gain_of(self._gain, wide, self._y).to(self._value.dtype)
        fooled = ~finite(logits) if self._judge is None else self._judge(logits)
        better = ~self._fooled & (fooled | (value > self._value))
        self.delta = torch.where(better.reshape(-1, *[1] * (delta.ndim - 1)), delta, self.delta)
        self._value = torch.where(better, value, self._value)
        self._first = torch.where(fooled & ~self._fooled, self._asked, self._first)
        self._fooled = self._fooled | fooled
        self._asked += 1

    def over(self) -> bool:
        """Are all samples misclassified? Never where processes run together: all must make as many forwards."""
        return not torch.distributed.is_initialized() and bool(self._fooled.all())

    def outcome(self) -> Outcome:
        """What was found; `first` counts questions from 0."""
        known = self._judge is not None
        return Outcome(
            self._chart.emit(self.delta),
            self.delta,
            fooled=self._fooled[None] if known else None,
            first=self._first[None] if known else None,
        )
