"""The only place that imports Lightning.

`pytorch_lightning` and `lightning.pytorch` are two copies of one framework whose classes are different objects: a
callback derived from one is refused by the Trainer of the other. The choice is made once, at import: the environment
variable `LIGHTNING_ROBUST_BACKEND` if it is set, else the copy that the running program has already imported, else
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
    for name in _BACKENDS:
        if name in sys.modules:
            return name
    for name in _BACKENDS:
        if importlib.util.find_spec(name.partition(".")[0]) is not None:
            return name
    raise ImportError("Neither `pytorch_lightning` nor `lightning` is installed. Run: pip install pytorch-lightning")


if TYPE_CHECKING:
    import pytorch_lightning as pl
else:
    pl = importlib.import_module(_choose())


def lightning_cli() -> Any:
    """The class LightningCLI of the same copy; loaded here because it brings jsonargparse along."""
    return importlib.import_module(f"{pl.__name__}.cli").LightningCLI


__all__ = ["lightning_cli", "pl"]
