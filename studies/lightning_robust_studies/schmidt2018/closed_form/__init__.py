"""The theory of Schmidt et al. (NeurIPS 2018) as a study: numbers, figures and claims in seconds."""

from typing import TYPE_CHECKING

from lightning_robust_studies._lazy import loaded_when_used
from lightning_robust_studies.schmidt2018.closed_form.command import main
from lightning_robust_studies.schmidt2018.closed_form.settings import PRESETS, TheorySettings

if TYPE_CHECKING:
    from lightning_robust_studies.schmidt2018.closed_form.study import run_theory

__all__ = ["PRESETS", "TheorySettings", "main", "run_theory"]
__getattr__ = loaded_when_used(__name__, {"run_theory": "study"})
