"""The study of Stutz, Hein and Schiele (CVPR 2019): robustness on and off the data manifold."""

from lightning_robust_studies.stutz2019.settings import PRESETS, ManifoldSettings
from lightning_robust_studies.stutz2019.study import main, run_manifold_study

__all__ = ["PRESETS", "ManifoldSettings", "main", "run_manifold_study"]
