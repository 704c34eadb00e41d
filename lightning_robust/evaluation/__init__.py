"""Robust accuracy without a Trainer: `evaluate(model, data, attacks)` gives a `Report`, image by image."""

from lightning_robust.evaluation.evaluate import evaluate
from lightning_robust.evaluation.report import Report

__all__ = ["Report", "evaluate"]
