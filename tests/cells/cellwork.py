"""Works for the tests of the grid, in a module that worker processes can import."""

import os
import random
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch


def marks(folder: Path, name: str) -> int:
    """How often a work has left a mark in a cell's folder."""
    path = folder / name
    return len(path.read_text().splitlines()) if path.exists() else 0


def mark(folder: Path, name: str) -> None:
    with (folder / name).open("a") as file:
        file.write(f"{os.getpid()}\n")


def draw(cell, folder):
    """Numbers from all three global streams, which must depend on the cell alone."""
    mark(folder, "runs")
    return [
        {"source": "python", "value": random.random()},
        {"source": "numpy", "value": float(np.random.rand())},  # noqa: NPY002
        {"source": "torch", "value": torch.rand(()).item()},
    ]


@dataclass(frozen=True)
class Trouble:
    """Does what the cell says; with `once` only on the first attempt."""

    scale: int = 1
    place: str = field(default="here", repr=False)

    def __call__(self, cell, folder):
        first = marks(folder, "runs") == 0
        mark(folder, "runs")
        print("the cell speaks", flush=True)
        if cell["do"] == "die once" and first:
            os.kill(os.getpid(), signal.SIGKILL)
        if cell["do"] == "fail once" and first:
            raise OSError("the first time")
        if cell["do"] == "fail":
            raise ValueError("always")
        if cell["do"] == "exit":
            sys.exit(3)
        if cell["do"] == "stop":
            raise KeyboardInterrupt
        if cell["do"] == "threads":
            return [{"threads": torch.get_num_threads()}]
        return [{"scaled": self.scale * cell["n"]}]


def slow(cell, folder):
    """Takes a while, in steps, and marks begin and end."""
    mark(folder, "begun")
    time.sleep(cell["seconds"])
    mark(folder, "ended")
    return [{"double": 2 * cell["n"]}]


def not_rows(cell, folder):
    mark(folder, "runs")
    return [{"values": [1, 2]}]
