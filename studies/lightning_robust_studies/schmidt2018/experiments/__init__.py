"""The experiments of Schmidt et al. (NeurIPS 2018): how much data robustness needs."""

from typing import TYPE_CHECKING

from lightning_robust_studies._lazy import loaded_when_used
from lightning_robust_studies.schmidt2018.experiments.command import main
from lightning_robust_studies.schmidt2018.experiments.settings import PRESETS, SampleComplexitySettings

if TYPE_CHECKING:
    from lightning_robust_studies.schmidt2018.experiments.problems import Problem
    from lightning_robust_studies.schmidt2018.experiments.study import run_sample_complexity

__all__ = ["PRESETS", "Problem", "SampleComplexitySettings", "main", "run_sample_complexity"]
__getattr__ = loaded_when_used(__name__, {"Problem": "problems", "run_sample_complexity": "study"})
