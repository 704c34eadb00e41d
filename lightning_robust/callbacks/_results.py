"""What the last evaluation measured, also where other processes did it."""

import json
from typing import Any

import torch

from lightning_robust.evaluation._tally import Interval


class Results:
    """The values of the last evaluation and their intervals, by key: of this process, or of one that it has started."""

    def __init__(self) -> None:
        self._mailbox = Mailbox()
        self._own: tuple[int, dict[str, float], dict[str, Interval]] = (0, {}, {})

    def write(self, values: dict[str, float], intervals: dict[str, Interval], *, publish: bool) -> None:
        """Set the values of another evaluation; `publish`: also for the program that has started this process."""
        self._own = (self._latest()[0] + 1, values, intervals)
        if publish:
            self._mailbox.write(self._own)

    @property
    def values(self) -> dict[str, float]:
        """Each value by its key."""
        return self._latest()[1]

    @property
    def intervals(self) -> dict[str, Interval]:
        """The 95 % intervals by the same keys."""
        return self._latest()[2]

    def _latest(self) -> tuple[int, dict[str, float], dict[str, Interval]]:
        number, values, intervals = self._mailbox.read() or (0, {}, {})
        if number <= self._own[0]:
            return self._own
        return number, values, {key: (low, high) for key, (low, high) in intervals.items()}


class Mailbox:
    """Shared memory by which the processes of `ddp_spawn` hand results to the program that has started them."""

    _BYTES = 1 << 16

    def __init__(self) -> None:
        self._memory = torch.zeros(self._BYTES, dtype=torch.uint8).share_memory_()

    def write(self, content: Any) -> None:
        """Leave a content that JSON can write; if it is too long, leave nothing."""
        text = json.dumps(content).encode()
        if len(text) > self._BYTES - 8:
            text = b""
        self._memory[8 : 8 + len(text)] = torch.frombuffer(bytearray(text or b"-"), dtype=torch.uint8)[: len(text)]
        self._memory[:8] = torch.tensor([len(text)]).view(torch.uint8)

    def read(self) -> Any:
        """The content, or None."""
        length = int(self._memory[:8].view(torch.int64))
        return json.loads(bytes(self._memory[8 : 8 + length].tolist())) if length else None
