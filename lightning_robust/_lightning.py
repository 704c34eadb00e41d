"""The only place that imports Lightning.

`pytorch_lightning` and `lightning.pytorch` are two copies of one framework whose classes are different objects: a
callback of one is none for the Trainer of the other. The choice is made once, at import: the environment
variable `LIGHTNING_ROBUST_BACKEND` if it is set, else the copy that the running program has imported first, else
whichever is installed, `pytorch_lightning` first.
"""

import importlib
import importlib.util
import os
import sys
from typing import TYPE_CHECKING, Any

_BACKENDS = ("pytorch_lightning", "lightning.pytorch")


def _choose() -> str:
    asked = os.environ.get("LIGHTNING_ROBUST_BACKEND")
    if asked is not None:
        if asked not in _BACKENDS:
            raise ImportError(f"Expected `LIGHTNING_ROBUST_BACKEND` to be one of {_BACKENDS}, but got {asked!r}.")
        return asked
    # A module takes its place in `sys.modules` when its import starts, and the last place when it ends. None: blocked.
    for name, module in sys.modules.items():
        if name in _BACKENDS and module is not None:
            return name
    for name in _BACKENDS:
        if importlib.util.find_spec(name.partition(".")[0]) is not None:
            return name
    raise ImportError("Neither `pytorch_lightning` nor `lightning` is installed. Run: pip install pytorch-lightning")


if TYPE_CHECKING:
    import pytorch_lightning as pl
else:
    pl = importlib.import_module(_choose())


def check_backend(trainer: Any) -> None:
    """Refuse a Trainer of the other copy of Lightning.

    Raises:
        TypeError: The Trainer is of the other copy; the text says how to use that one.
    """
    (other,) = (name for name in _BACKENDS if name != pl.__name__)
    if isinstance(trainer, getattr(sys.modules.get(other), "Trainer", ())):
        raise TypeError(
            f"Expected a Trainer of `{pl.__name__}`, but got one of `{other}`: these are two copies of one framework, "
            f"and lightning_robust uses the one that was imported first. Import `{other}` before what imports "
            f"`{pl.__name__}`, or start the program with LIGHTNING_ROBUST_BACKEND={other} in the environment."
        )


def copy_of(value: Any, kind: str) -> Any:
    """The copy of Lightning, if any, of whose `LightningModule` or `LightningDataModule` a value is one."""
    copies = (sys.modules.get(name) for name in _BACKENDS)
    return next((copy for copy in copies if isinstance(value, getattr(copy, kind, ()))), None)


def lightning_cli() -> Any:
    """The class LightningCLI of the same copy; loaded here because it brings jsonargparse along."""
    return importlib.import_module(f"{pl.__name__}.cli").LightningCLI


def move_to_device(batch: Any, device: Any) -> Any:
    """A batch of any kind with all its tensors on a device, as the Trainer moves it."""
    name = "lightning.fabric" if pl.__name__ == "lightning.pytorch" else "lightning_fabric"
    return importlib.import_module(f"{name}.utilities.apply_func").move_data_to_device(batch, device)


__all__ = ["check_backend", "copy_of", "lightning_cli", "move_to_device", "pl"]
