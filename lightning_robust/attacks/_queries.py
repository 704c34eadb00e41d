"""What attacks without gradients share: they ask the model, and keep what was best."""

import torch
from torch import Tensor

from lightning_robust.attacks._gain import GainFn
from lightning_robust.attacks._goal import Goal, Trace
from lightning_robust.attacks.attack import Context, Outcome
from lightning_robust.attacks.threats import Batch


class Search:
    """The best perturbation so far, per sample, by the logits alone.

    A perturbation is better if it makes the sample misclassified, or if its gain is higher. A misclassified sample
    stays where it is: the search is over for it, so that when it ends for all does not matter to any.

    Args:
        batch: The model, the labels and the chart.
        gain: `(logits, y) -> (N,)`.
        context: Of the attack.
    """

    def __init__(self, batch: Batch, gain: GainFn, context: Context) -> None:
        self._model, self._chart, self._goal = batch.model, batch.chart, Goal(gain, batch, context)
        self._trace, self._asked = Trace.start(batch.chart.zero), 0

    @property
    def delta(self) -> Tensor:
        """(N, ...) the best perturbation."""
        return self._trace.delta

    def ask(self, delta: Tensor) -> None:
        """Try one perturbation of every sample, (N, ...), which must be in the perturbation set."""
        logits, trace = self._model(self._chart.decode(delta)), self._trace
        self._goal.check(logits)
        gain, fooled = self._goal.gain(logits), self._goal.fooled(logits)
        trace.keep(~trace.fooled & (fooled | (gain > trace.gain)), delta, gain)
        trace.first = torch.where(fooled & ~trace.fooled, self._asked, trace.first)
        trace.fooled = trace.fooled | fooled
        self._asked += 1

    def over(self) -> bool:
        """Are all samples misclassified?"""
        return self._trace.over()

    def outcome(self) -> Outcome:
        """The best of all; `first` counts questions from 0."""
        trace, known = self._trace, self._goal.judges
        fooled, first = (trace.fooled[None], trace.first[None]) if known else (None, None)
        return Outcome(self._chart.emit(trace.delta), trace.delta, fooled=fooled, first=first)
