"""How far an evaluation is, on a terminal, with the time that is left."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from lightning_robust.evaluation._engine import Tell


class Bar:
    """What is shown.

    Args:
        tell: Takes work done and work left.
        samples: Number of all samples; None: unknown.
    """

    def __init__(self, tell: Tell, samples: int | None) -> None:
        self._tell, self._samples = tell, samples
        self._read = 0

    def read(self, samples: int) -> None:
        """So many more samples are in memory."""
        self._read += samples

    def __call__(self, done: float, left: float) -> None:
        """The work of the samples in memory; that of all others is estimated from it."""
        unread = max((self._samples or 0) - self._read, 0)
        self._tell(done, left + unread * (done + left) / max(self._read, 1))


@contextmanager
def progress_bar(shown: bool, samples: int | None) -> Iterator[Bar]:
    """A bar on a terminal; elsewhere nothing.

    Args:
        shown: Is it wanted?
        samples: Number of all samples; None: unknown.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    bar = Progress(
        *columns,
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not (shown and console.is_terminal),
    )
    with nullcontext() if bar.disable else bar:  # rich 13.0 ends what it does not show with an empty line
        task = bar.add_task("attacking", total=None)
        yield Bar(lambda done, left: bar.update(task, completed=done, total=done + left), samples)
