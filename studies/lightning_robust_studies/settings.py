"""What the settings of all studies share. Nothing here needs torch, so that the help of a study comes at once."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeVar

from lightning_robust import _checks

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Where and how the cells of a study run.

    Args:
        out: Folder of the results. The same folder again continues; a larger grid computes only its new cells.
        workers: Number of cells at once.
        threads: CPU threads for each; 0 shares the cores out.
        launcher: Where cells run: processes of this machine, a Ray cluster, or this process.
        gpus: GPUs for each cell on a Ray cluster; processes see those of the machine.
        progress: Is progress shown?
    """

    out: str
    workers: int = 2
    threads: int = 1
    launcher: Literal["processes", "ray", "inline"] = "processes"
    gpus: float = 0.0
    progress: bool = True

    def __post_init__(self) -> None:
        _checks.count("workers", self.workers)
        _checks.count("threads", self.threads, 0)
        _checks.choice("launcher", self.launcher, ("processes", "ray", "inline"))
        _checks.number("gpus", self.gpus, 0)
        _checks.boolean("progress", self.progress)


def choose(argument: str, values: Iterable[T], known: Iterable[T]) -> list[T]:
    """The values, each one of those known, and none twice."""
    chosen, names = list(values), list(known)
    for value in chosen:
        _checks.choice(argument, value, names)
    if not chosen or len(set(chosen)) < len(chosen):
        raise ValueError(f"Expected argument `{argument}` to hold at least one value and none twice, but got {chosen}.")
    return chosen
