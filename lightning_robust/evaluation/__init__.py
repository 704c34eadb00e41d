"""Robust accuracy without a Trainer: `evaluate(model, data, standard(threat))` gives a `Report`, image by image."""

from lightning_robust.evaluation.comparison import Comparison
from lightning_robust.evaluation.evaluate import evaluate
from lightning_robust.evaluation.images import Images
from lightning_robust.evaluation.plan import Plan, Stage, autoattack, standard
from lightning_robust.evaluation.report import Report

__all__ = ["Comparison", "Images", "Plan", "Report", "Stage", "autoattack", "evaluate", "standard"]
