"""Shared by the demonstration and the studies: a quiet Trainer, the device, weights that are read back."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from lightning_robust._lightning import pl
from lightning_robust.cells import load_artifact

T = TypeVar("T", bound=nn.Module)


def device() -> torch.device:
    """The GPU, if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def quiet_trainer(callbacks: Sequence[pl.Callback] = (), **options: Any) -> pl.Trainer:
    """A Trainer on one device that shows and writes nothing, unless its `options` say otherwise."""
    defaults: dict[str, Any] = {
        "accelerator": "gpu" if device().type == "cuda" else "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "callbacks": list(callbacks),
    }
    return pl.Trainer(**(defaults | options))


def loaded(module: T, path: Path) -> T:
    """The module with the weights that `save_artifact` wrote, on the device, frozen and in evaluation mode."""
    module.load_state_dict(load_artifact(path))
    return module.to(device()).eval().requires_grad_(False)
