"""Adversarially robust training and evaluation for any PyTorch Lightning module.

The names people need are here, and every subpackage is an attribute; both are loaded when they are used.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_FROM = {
    "attacks": (
        "L1",
        "L2",
        "PGD",
        "AffineSpace",
        "Attack",
        "Box",
        "LatentSpace",
        "Linf",
        "PixelSpace",
        "Threat",
        "WarmUp",
        "worst_of",
    ),
    "callbacks": ("AdversarialExamples", "AdversarialTraining", "RobustEvaluation"),
}
_HOME = {name: package for package, names in _FROM.items() for name in names}
_SUBPACKAGES = (
    "attacks",
    "callbacks",
    "cells",
    "datamodules",
    "interop",
    "learning_curves",
    "manifolds",
    "metrics",
    "models",
    "objectives",
    "plots",
)

if TYPE_CHECKING:
    from lightning_robust.attacks import (
        L1,
        L2,
        PGD,
        AffineSpace,
        Attack,
        Box,
        LatentSpace,
        Linf,
        PixelSpace,
        Threat,
        WarmUp,
        worst_of,
    )
    from lightning_robust.callbacks import AdversarialExamples, AdversarialTraining, RobustEvaluation

__all__ = [
    "L1",
    "L2",
    "PGD",
    "AdversarialExamples",
    "AdversarialTraining",
    "AffineSpace",
    "Attack",
    "Box",
    "LatentSpace",
    "Linf",
    "PixelSpace",
    "RobustEvaluation",
    "Threat",
    "WarmUp",
    "worst_of",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    elif name in _SUBPACKAGES:
        value = importlib.import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_SUBPACKAGES})
