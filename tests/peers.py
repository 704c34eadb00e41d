"""Other packages, as independent references."""

import importlib
import sys
from types import ModuleType


def adv_lib(name: str) -> ModuleType:
    """The module `adv_lib.attacks.<name>`. The package wants a plot server, visdom, which no attack needs."""
    sys.modules.setdefault("visdom", ModuleType("visdom"))
    return importlib.import_module(f"adv_lib.attacks.{name}")
