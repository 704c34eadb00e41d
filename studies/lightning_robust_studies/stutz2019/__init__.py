"""The study of Stutz, Hein and Schiele (CVPR 2019): robustness on and off the data manifold."""

from typing import TYPE_CHECKING

from lightning_robust_studies._lazy import loaded_when_used
from lightning_robust_studies.stutz2019.command import main
from lightning_robust_studies.stutz2019.settings import PRESETS, ManifoldSettings

if TYPE_CHECKING:
    from lightning_robust_studies.stutz2019.study import run_manifold_study

__all__ = ["PRESETS", "ManifoldSettings", "main", "run_manifold_study"]
__getattr__ = loaded_when_used(__name__, {"run_manifold_study": "study"})
