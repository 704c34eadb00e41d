"""The theory of Schmidt et al. (NeurIPS 2018) as a study: numbers, figures and claims in seconds."""

from lightning_robust_studies.schmidt2018.closed_form.settings import PRESETS, TheorySettings
from lightning_robust_studies.schmidt2018.closed_form.study import main, run_theory

__all__ = ["PRESETS", "TheorySettings", "main", "run_theory"]
