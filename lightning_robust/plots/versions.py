"""What a result was made with: versions, machine, device."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version

import torch

_PACKAGES = ("torch", "torchvision", "torchmetrics", "pytorch-lightning", "lightning")


def versions() -> dict[str, str | int]:
    """Versions of Python, this package and those it stands on; platform, number of CPUs, threads and device.

    Of ``pytorch-lightning`` and ``lightning`` a project may have one or both; one that is not there is "not installed".
    Versions come from the packages' metadata, so nothing is imported for them. The device is the first that torch would
    compute on; asking for the name of a GPU initialises CUDA, so call this after the work rather than before forking.

    Example:
        >>> list(versions())[:3]
        ['lightning_robust', 'python', 'torch']
    """
    from lightning_robust import __version__

    return {
        "lightning_robust": __version__,
        "python": platform.python_version(),
        **{name: _version(name) for name in _PACKAGES},
        "platform": platform.platform(),
        "cpu count": os.cpu_count() or 1,
        "torch threads": torch.get_num_threads(),
        "device": _device(),
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _device() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    if torch.backends.mps.is_available():
        return "mps"
    return "cpu"
