"""How many passes through a model are made, and for which samples."""

import torch
from torch import Tensor


class Meter:
    """Counts passes: a forward or a backward of one sample through the model is one pass.

    Args:
        n: Number of samples.
    """

    def __init__(self, n: int) -> None:
        self.forwards = self.backwards = 0
        self._rows = torch.zeros(n, dtype=torch.float64)

    def on(self, rows: Tensor) -> "Counter":
        """The counter of a batch that holds these samples, (M,) int64 on the CPU."""
        return Counter(self, rows)

    def drain(self, rows: Tensor) -> list[int]:
        """The passes of these samples since they were last asked for."""
        passes = self._rows[rows].round().long()
        self._rows[rows] = 0.0
        return passes.tolist()

    def add(self, rows: Tensor, n: int) -> None:
        """Count `n` passes. A batch of another size, which an attack may make up, is shared among its samples."""
        if len(rows):
            self._rows.index_add_(0, rows, torch.full((len(rows),), n / len(rows), dtype=torch.float64))


class Counter:
    """A meter as one batch sees it. It is in no way a part of the model: nothing resets it."""

    def __init__(self, meter: Meter, rows: Tensor) -> None:
        self._meter, self._rows = meter, rows

    def take(self, rows: slice | Tensor) -> "Counter":
        """That of some samples of the batch."""
        return Counter(self._meter, self._rows[rows.cpu() if isinstance(rows, Tensor) else rows])

    def forward(self, n: int) -> None:
        """A forward of n inputs was made."""
        self._meter.forwards += n
        self._meter.add(self._rows, n)

    def watch(self, x: Tensor) -> None:
        """Count a backward whenever the gradient at the input x (N, ...) is computed."""
        if x.requires_grad:
            x.register_hook(lambda _: self._backward(len(x)))

    def _backward(self, n: int) -> None:
        self._meter.backwards += n
        self._meter.add(self._rows, n)
