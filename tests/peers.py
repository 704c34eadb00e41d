"""Other packages, as independent references."""

import sys
from types import ModuleType

import pytest


def adv_lib(name: str) -> ModuleType:
    """The module `adv_lib.attacks.<name>`. The package wants a plot server, visdom, which no attack needs.

    Where it is not installed, the test is skipped.
    """
    sys.modules.setdefault("visdom", ModuleType("visdom"))
    pytest.importorskip("adv_lib")
    return pytest.importorskip(f"adv_lib.attacks.{name}")
