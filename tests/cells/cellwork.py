"""Works for the tests of cells, in a module that other processes can import."""

import os
import random
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch


def marks(folder: Path, name: str = "runs") -> int:
    """How often a work has left a mark in the folder of a cell."""
    path = folder / name
    return len(path.read_text().splitlines()) if path.exists() else 0


def mark(folder: Path, name: str = "runs") -> None:
    with (folder / name).open("a") as file:
        file.write(f"{os.getpid()}\n")


def draw(cell, folder):
    """Numbers from all three global streams, and torch's settings, which it changes."""
    mark(folder)
    values = random.random(), float(np.random.rand()), torch.rand(()).item()  # noqa: NPY002
    settings = str(torch.get_default_dtype()), torch.get_deterministic_debug_mode(), torch.get_num_threads()
    torch.set_default_dtype(torch.float64)
    torch.set_deterministic_debug_mode("warn")
    torch.set_num_threads(1 + settings[2])
    names = ("python", "numpy", "torch", "dtype", "deterministic", "threads")
    return [dict(zip(names, values + settings, strict=True))]


@dataclass(frozen=True)
class Trouble:
    """Does what the cell says, `once` only on the first attempt."""

    factor: int = 1
    place: str = field(default="here", repr=False)

    def __call__(self, cell, folder):
        first = marks(folder) == 0
        mark(folder)
        print("the cell speaks", flush=True)
        match cell["do"]:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "leave":
                os._exit(3)
            case "fail":
                raise ValueError("always")
            case "fail once" if first:
                raise OSError("the first time")
            case "exit":
                sys.exit(4)
            case "stop":
                raise KeyboardInterrupt
            case "rows":
                return [{"values": [1, 2]}]
        return [{"product": self.factor * cell["n"]}]


def slow(cell, folder):
    """Takes a while, and marks its begin and its end."""
    mark(folder, "begun")
    time.sleep(cell["seconds"])
    mark(folder, "ended")
    return [{"double": 2 * cell["n"]}]
