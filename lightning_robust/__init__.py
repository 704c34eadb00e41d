"""Adversarially robust training and evaluation for any PyTorch Lightning module."""

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

__version__ = "0.1.0"

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
