"""Progress of long jobs on the terminal: what runs, and how long is left."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from lightning_robust._lightning import pl


@contextmanager
def progress_bars(console: Console) -> Iterator[Progress]:
    """Bars with the share done, the time since the start and the time left."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, speed_estimate_period=600) as progress:
        yield progress


class Advance(pl.Callback):
    """Move bars by one cost for each training batch and by another for each test batch.

    Args:
        progress: The bars.
        tasks: The tasks to move.
        train_cost: What a training batch costs.
        test_cost: What a test batch costs, in the same unit.
    """

    def __init__(
        self, progress: Progress, tasks: list[TaskID], train_cost: float = 1.0, test_cost: float = 1.0
    ) -> None:
        self.progress, self.tasks = progress, tasks
        self.train_cost, self.test_cost = train_cost, test_cost

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Move by a training batch."""
        for task in self.tasks:
            self.progress.advance(task, self.train_cost)

    def on_test_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Move by a test batch."""
        for task in self.tasks:
            self.progress.advance(task, self.test_cost)
