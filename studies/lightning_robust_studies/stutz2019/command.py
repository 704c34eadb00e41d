"""Robustness and generalization, on and off the data manifold, after Stutz et al. (2019)."""

from lightning_robust_studies._command import study_command
from lightning_robust_studies.stutz2019.settings import PRESETS, ManifoldSettings

main = study_command(
    ManifoldSettings,
    __package__,
    name="manifold",
    description="Off- and on-manifold robustness and generalization over sizes, training schemes and seeds.",
    presets=PRESETS,
)
