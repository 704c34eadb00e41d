"""Attacks of other packages as `Attack`s: torchattacks and foolbox, inert, seeded and feasible like our own."""

from lightning_robust.interop.foolbox import from_foolbox
from lightning_robust.interop.torchattacks import from_torchattacks

__all__ = ["from_foolbox", "from_torchattacks"]
