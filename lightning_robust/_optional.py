"""Packages that only a part of this one needs."""

from importlib import import_module
from typing import Any


def optional(module: str, extra: str) -> Any:
    """Import a module of a package that comes with an extra of this one.

    Args:
        module: the module, such as `"matplotlib.figure"`.
        extra: the extra that installs it.

    Raises:
        ModuleNotFoundError: the package is not installed; the message says how to install it.

    Example:
        >>> optional("no_such_package.module", "report")
        Traceback (most recent call last):
        ModuleNotFoundError: This needs the package `no_such_package`. Run: pip install "lightning-robust[report]"
    """
    package = module.partition(".")[0]
    try:
        import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:  # the package is there, and lacks something itself
            raise
        wanted = f'This needs the package `{package}`. Run: pip install "lightning-robust[{extra}]"'
        raise ModuleNotFoundError(wanted, name=package) from error
    return import_module(module)
