"""The experiments of Schmidt et al. (NeurIPS 2018): how much data robustness needs."""

from lightning_robust_studies.schmidt2018.experiments.problems import Problem, problems
from lightning_robust_studies.schmidt2018.experiments.settings import PRESETS, SampleComplexitySettings
from lightning_robust_studies.schmidt2018.experiments.study import main, run_sample_complexity

__all__ = ["PRESETS", "Problem", "SampleComplexitySettings", "main", "problems", "run_sample_complexity"]
