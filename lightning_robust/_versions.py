"""What a result was made with."""

import os
import platform
import shlex
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

_PACKAGES = ("torch", "torchvision", "torchmetrics", "pytorch-lightning", "lightning")


def versions() -> dict[str, str | int]:
    """Command, versions of Python, this package and those it stands on; platform, processor, CPUs, threads and device.

    Of `pytorch-lightning` and `lightning` a project may have one or both; an absent one is "not installed". The device
    is the first that torch would compute on. Asking for the name of a GPU initializes CUDA, so call this after the work
    rather than before forking.

    Example:
        >>> list(versions())[:4]
        ['command', 'lightning_robust', 'python', 'torch']
    """
    from lightning_robust import __version__

    return {
        "command": command(),
        "lightning_robust": __version__,
        "python": platform.python_version(),
        **{name: _version(name) for name in _PACKAGES},
        "platform": platform.platform(),
        "processor": processor(),
        "cpu count": os.cpu_count() or 1,
        "torch threads": torch.get_num_threads(),
        "device": _device(),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def command() -> str:
    """How the program was started."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def processor() -> str:
    """The name of the processor: its kind decides how sums are rounded. Linux tells it in a file alone."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _device() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return "mps" if torch.backends.mps.is_available() else "cpu"
