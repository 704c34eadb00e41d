"""How far a grid is: a live bar on a terminal, one plain line per cell elsewhere."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lightning_robust.cells.cells import Cell, canonical, label

_SHOWN = 8  # cells named at once


@dataclass
class Account:
    """What a grid has done, does and will do; pure bookkeeping, no output.

    Args:
        costs: for every cell, by its canonical text as everywhere here, what it costs, in any unit.
        lanes: how many cells run at once.
        spent: the seconds that finished cells took.
        running: when each running cell began.
        given_up: cells that failed for good.
    """

    costs: Mapping[str, float]
    lanes: int = 1
    spent: dict[str, float] = field(default_factory=dict)
    running: dict[str, float] = field(default_factory=dict)
    given_up: set[str] = field(default_factory=set)

    @property
    def done(self) -> int:
        """Cells that need no more work."""
        return len(self.spent) + len(self.given_up)

    @property
    def unfinished(self) -> list[str]:
        """Cells that are still to be computed or running."""
        return [key for key in self.costs if key not in self.spent and key not in self.given_up]

    @property
    def share_done(self) -> float:
        """The done part of the cost, in [0, 1]."""
        total = sum(self.costs.values())
        return 1 - sum(self.costs[key] for key in self.unfinished) / total

    def seconds_left(self, now: float) -> float | None:
        r"""The time left, from the seconds per cost of the finished cells; None before there is one.

        With rate :math:`r = \sum s_i / \sum c_i` over finished cells, each unfinished cell has :math:`r c_j` seconds to
        go, less what it has run already, and the lanes share the sum; but no cell ends sooner than its own rest.
        """
        spent = dict(self.spent)  # a copy: the live bar asks from another thread
        cost_done = sum(self.costs[key] for key in spent)
        if cost_done == 0:
            return None
        rate = sum(spent.values()) / cost_done
        rests = [max(0.0, rate * self.costs[key] - (now - self.running.get(key, now))) for key in self.unfinished]
        return max([sum(rests) / self.lanes, *rests])


class Display:
    """Tells of a grid's progress.

    Args:
        account: the bookkeeping, which the display updates.
        console: where to.
        quiet: tell nothing but notes.
    """

    def __init__(self, account: Account, console: Console, *, quiet: bool = False):
        self.account, self.console, self.quiet = account, console, quiet
        self.labels: dict[str, str] = {}
        self.began = time.monotonic()

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the live bar, where there is a terminal, for the length of the block."""
        account = self.account
        if account.done and not self.quiet:
            self.note(f"{account.done} of {len(account.costs)} cells are finished already")
        if self.quiet or not self.console.is_terminal:
            yield
            return
        with Live(get_renderable=self.render, console=self.console, refresh_per_second=2):
            yield

    def started(self, cell: Cell) -> None:
        """A cell begins."""
        self.labels[canonical(cell)] = label(cell)
        self.account.running[canonical(cell)] = time.monotonic()

    def finished(self, cell: Cell, seconds: float) -> None:
        """A cell is finished."""
        self.account.running.pop(canonical(cell), None)
        self.account.spent[canonical(cell)] = seconds
        self._line(cell, duration(seconds))

    def failed(self, cell: Cell, reason: str, *, last: bool) -> None:
        """An attempt failed, the last one or not."""
        self.account.running.pop(canonical(cell), None)
        if last:
            self.account.given_up.add(canonical(cell))
        self._line(cell, f"failed{'' if last else ', tries again'}: {reason}")

    def note(self, text: str) -> None:
        """Say something, quiet or not."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def render(self) -> RenderableType:
        """The bar and, under it, what runs now."""
        account, now = self.account, time.monotonic()
        left = account.seconds_left(now)
        bar = Table.grid(padding=(0, 1))
        bar.add_row(
            f"{account.done}/{len(account.costs)} cells",
            ProgressBar(total=1.0, completed=account.share_done, width=40),
            duration(now - self.began),
            "" if left is None else f"about {duration(left)} left",
        )
        running = list(account.running.items())
        lines = [Text(f"  {self.labels[key]}  {duration(now - began)}", style="dim") for key, began in running[:_SHOWN]]
        if len(running) > _SHOWN:
            lines.append(Text(f"  and {len(running) - _SHOWN} more", style="dim"))
        return Group(bar, *lines)

    def _line(self, cell: Cell, text: str) -> None:
        if self.quiet or (self.console.is_terminal and not text.startswith("failed")):
            return
        account = self.account
        left = account.seconds_left(time.monotonic())
        rest = "" if left is None or account.done == len(account.costs) else f", about {duration(left)} left"
        self.note(f"[{account.done}/{len(account.costs)}] {label(cell)}: {text}{rest}")


def duration(seconds: float) -> str:
    """A length of time for people.

    Example:
        >>> duration(7.6), duration(200), duration(7500)
        ('7.6 s', '3 min 20 s', '2 h 05 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
