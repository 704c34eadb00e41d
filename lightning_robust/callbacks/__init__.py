"""Callbacks: robust training and evaluation of any LightningModule."""

from lightning_robust.callbacks.adversarial_examples import AdversarialExamples
from lightning_robust.callbacks.adversarial_training import AdversarialTraining
from lightning_robust.callbacks.manifold_sheets import ManifoldSheets
from lightning_robust.callbacks.robust_evaluation import RobustEvaluation
from lightning_robust.callbacks.robust_generalization_gap import RobustGeneralizationGap

__all__ = [
    "AdversarialExamples",
    "AdversarialTraining",
    "ManifoldSheets",
    "RobustEvaluation",
    "RobustGeneralizationGap",
]
