"""What the ascent loop sees on its way, per sample: by these an evaluation knows when not to be believed."""

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from lightning_robust.attacks._tensors import dims, wide


def _exact(x: Tensor) -> Tensor:
    """In float64, where the device has it."""
    return x.float() if x.device.type == "mps" else x.double()


FLAGS = ("silent", "won", "short")
"""The signs that are bool."""


@dataclass(eq=False)
class Signs:
    """Sums over the steps of one run, (N,) each.

    Args:
        steps: Number of gradient steps.
        zero: Number of steps whose gradient was zero in all coordinates.
        broken: Sum over the steps of the share of coordinates whose gradient was NaN or infinite.
        asked: Number of steps for which the gradient predicted a rise or a fall of the gain.
        agreed: Number of those after which the gain had moved that way.
        rise: Sum of what the gain rose by.
        predicted: Sum of <gradient, move>.
        start: The gain at the first perturbation.
        late: The highest gain up to 10 steps before the end, or a tenth of the steps, if these are more.
        best: The highest gain at the end.
        silent: bool, misclassified on the way and not at the end.
        won: bool, the gain got what it asks for, and the verdict was right all the same, see `Goal.won`.
        short: bool, a gradient run did not, whose gain asks for one class, or for what is not known.
        way: Norm of the way from the first perturbation to the last.
    """

    steps: Tensor
    zero: Tensor
    broken: Tensor
    asked: Tensor
    agreed: Tensor
    rise: Tensor
    predicted: Tensor
    start: Tensor
    late: Tensor
    best: Tensor
    silent: Tensor
    won: Tensor
    short: Tensor
    way: Tensor

    @classmethod
    def none(cls, n: int, device: torch.device) -> "Signs":
        """Nothing has been seen of n samples."""
        zeros = {f.name: _exact(torch.zeros(n, device=device)) for f in fields(cls)}
        return cls(**{name: value.bool() if name in FLAGS else value for name, value in zeros.items()})

    def take(self, rows: Tensor) -> "Signs":
        """The signs of some of the samples."""
        return Signs(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def put(self, rows: Tensor, part: "Signs") -> None:
        """Write those of some of the samples."""
        for f in fields(self):
            getattr(self, f.name)[rows] = getattr(part, f.name)

    def __add__(self, other: "Signs") -> "Signs":
        """Those of two runs on the same samples; `start`, `late` and `best` are of the run that rose further,
        `way` is the longer one.

        A search, which makes no gradient steps, rises to its end by its nature: its own stand only where both search.
        """
        further = other.best - other.start > self.best - self.start
        one, two = self.steps > 0, other.steps > 0
        further = torch.where(one == two, further, two)
        values = {
            f.name: torch.where(further, getattr(other, f.name), getattr(self, f.name))
            if f.name in ("start", "late", "best")
            else getattr(self, f.name) + getattr(other, f.name)
            for f in fields(self)
        }
        return Signs(**values | {"way": torch.maximum(self.way, other.way)})


class Lookout:
    """Watches one run of the loop.

    Args:
        first: (N, ...) the first perturbation.
        steps: Number of steps.
    """

    def __init__(self, first: Tensor, steps: int) -> None:
        self.signs, self._first = Signs.none(len(first), first.device), first
        self._last_of_late = steps - max(10, steps // 10)
        self._before: Tensor | None = None
        self._predicted: Tensor | None = None

    def gradient(self, grad: Tensor) -> None:
        """Look at a gradient (N, ...) before what is not finite in it is replaced."""
        signs = self.signs
        signs.steps += 1
        signs.broken += _exact((~grad.isfinite()).sum(dims(grad))) / grad[0].numel()
        signs.zero += (grad == 0).flatten(1).all(1)

    def gain(self, gain: Tensor, step: int) -> None:
        """Look at the gain (N,) before step number `step`; after the last, at their number."""
        signs, value = self.signs, _exact(gain).nan_to_num(nan=3e38, posinf=3e38, neginf=-3e38)
        if self._before is None:
            signs.start, signs.late, signs.best = value.clone(), value.clone(), value.clone()
        elif self._predicted is not None:
            rise, asked = value - self._before, self._predicted != 0
            signs.asked += asked
            signs.agreed += asked & (rise * self._predicted > 0)
            signs.rise += torch.where(asked, rise, 0.0)
            signs.predicted += self._predicted
        signs.best = torch.maximum(signs.best, value)
        if step <= self._last_of_late:
            signs.late = signs.best.clone()
        self._before = value

    def move(self, grad: Tensor | None, move: Tensor) -> None:
        """Look at the gradient and the move (N, ...) that was made of it."""
        if grad is not None:
            self._predicted = _exact((wide(grad) * move).sum(dims(move)))

    def end(self, last: Tensor, norm: Callable[[Tensor], Tensor]) -> None:
        """Look at the last perturbation (N, ...); `norm` is that of the ball."""
        self.signs.way = _exact(norm(last - self._first))

    def take(self, rows: Tensor) -> "Lookout":
        """The lookout on some of the samples."""
        part = object.__new__(Lookout)
        part._last_of_late, part._first = self._last_of_late, self._first[rows]
        part.signs = self.signs.take(rows)
        part._before = None if self._before is None else self._before[rows]
        part._predicted = None if self._predicted is None else self._predicted[rows]
        return part
