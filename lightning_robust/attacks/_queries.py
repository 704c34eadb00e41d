"""What attacks without gradients share: asking the model, and keeping what was best."""

import torch
from torch import Tensor

from lightning_robust.attacks.attack import Model, Outcome, check_logits, check_shape, misclassified
from lightning_robust.attacks.gains import Anchored, GainFn
from lightning_robust.attacks.spaces import Chart


def check_gain(gain: GainFn) -> None:
    """Refuse what is no gain of labels."""
    if isinstance(gain, Anchored) or not callable(gain):
        raise TypeError(
            f"Expected argument `gain` to be a function (logits, y) -> (N,) such as margin, but got {gain!r}."
        )


def check_count(name: str, value: int, least: int) -> None:
    """Refuse what is not an integer of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"Expected argument `{name}` to be an integer of at least {least}, but got {value!r}.")


class Search:
    """The best perturbation so far, per sample, found by asking for the logits alone.

    A perturbation is better if it makes the sample misclassified, or if its gain is higher. A misclassified sample
    stays where it is: the search is over for it, so that when it ends for all does not matter to any.

    Args:
        model: Inputs to logits (N, K).
        chart: Of the batch.
        gain: `(logits, y) -> (N,)`.
        y: (N,) labels.
    """

    def __init__(self, model: Model, chart: Chart, gain: GainFn, y: Tensor) -> None:
        self._model, self._chart, self._gain, self._y = model, chart, gain, y
        self.delta = chart.zero
        self._value = torch.full((len(y),), -torch.inf, dtype=chart.zero.dtype, device=chart.zero.device)
        self._fooled = torch.zeros(len(y), dtype=torch.bool, device=chart.zero.device)
        self._first = torch.full((len(y),), -1, device=chart.zero.device)
        self._asked = 0

    def ask(self, delta: Tensor) -> None:
        """Try one perturbation of every sample, (N, ...), which must be in the perturbation set."""
        logits = self._model(self._chart.decode(delta))
        (check_shape if self._asked else check_logits)(logits, self._y)
        wide = logits if logits.dtype in (torch.float32, torch.float64) else logits.float()
        value = self._gain(wide, self._y).to(self._value.dtype)
        fooled = misclassified(logits, self._y)
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
        return Outcome(
            self._chart.emit(self.delta), self.delta, fooled=self._fooled[None], first=self._first[None], stuck=None
        )
