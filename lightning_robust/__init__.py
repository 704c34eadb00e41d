"""Adversarially robust training and evaluation for any PyTorch Lightning module.

The names people need are here, and every subpackage is an attribute; both are loaded when they are used.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_SUBPACKAGES = (
    "attacks",
    "bounds",
    "callbacks",
    "cells",
    "datamodules",
    "evaluation",
    "interop",
    "learning_curves",
    "manifolds",
    "metrics",
    "models",
    "objectives",
    "plots",
    "recipes",
)
_FROM = {
    "attacks": (
        "L1 L2 PGD AffineSpace Attack Box LatentSpace Linf PixelSpace RandomSearch Threat WarmUp as_attack "
        "binary_correct binary_margin cross_entropy dense dense_correct divergence dlr fgsm "
        "finite_differences in_turn log_odds margin restarted targeted worst_of"
    ),
    "callbacks": "AdversarialExamples AdversarialTraining ManifoldSheets RobustEvaluation RobustGeneralizationGap",
    "datamodules": "Fonts",
    "evaluation": "Report evaluate standard",
    "interop": "from_foolbox from_torchattacks",
    "manifolds": "VAEGAN FontsManifold",
    "models": "Normalize RobustClassifier",
    "objectives": "alp awp mart trades",
}
_HOME = {name: package for package, names in _FROM.items() for name in names.split()}

if TYPE_CHECKING:  # the same for type checkers and editors; a test ties the two
    from lightning_robust.attacks import (
        L1 as L1,
        L2 as L2,
        PGD as PGD,
        AffineSpace as AffineSpace,
        Attack as Attack,
        Box as Box,
        LatentSpace as LatentSpace,
        Linf as Linf,
        PixelSpace as PixelSpace,
        RandomSearch as RandomSearch,
        Threat as Threat,
        WarmUp as WarmUp,
        as_attack as as_attack,
        binary_correct as binary_correct,
        binary_margin as binary_margin,
        cross_entropy as cross_entropy,
        dense_correct as dense_correct,
        divergence as divergence,
        dlr as dlr,
        fgsm as fgsm,
        finite_differences as finite_differences,
        in_turn as in_turn,
        log_odds as log_odds,
        margin as margin,
        restarted as restarted,
        targeted as targeted,
        worst_of as worst_of,
    )
    from lightning_robust.attacks.dense import dense as dense
    from lightning_robust.callbacks import (
        AdversarialExamples as AdversarialExamples,
        AdversarialTraining as AdversarialTraining,
        ManifoldSheets as ManifoldSheets,
        RobustEvaluation as RobustEvaluation,
        RobustGeneralizationGap as RobustGeneralizationGap,
    )
    from lightning_robust.datamodules import Fonts as Fonts
    from lightning_robust.evaluation.evaluate import evaluate as evaluate
    from lightning_robust.evaluation.plan import standard as standard
    from lightning_robust.evaluation.report import Report as Report
    from lightning_robust.interop import (
        from_foolbox as from_foolbox,
        from_torchattacks as from_torchattacks,
    )
    from lightning_robust.manifolds import (
        VAEGAN as VAEGAN,
        FontsManifold as FontsManifold,
    )
    from lightning_robust.models import (
        Normalize as Normalize,
        RobustClassifier as RobustClassifier,
    )
    from lightning_robust.objectives.alp import alp as alp
    from lightning_robust.objectives.awp import awp as awp
    from lightning_robust.objectives.mart import mart as mart
    from lightning_robust.objectives.trades import trades as trades

__all__ = sorted(_HOME)


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
