"""How many samples robustness takes in the two models of Schmidt et al. (2018); a minute."""

from lightning_robust_studies._command import study_command
from lightning_robust_studies.schmidt2018.closed_form.settings import PRESETS, TheorySettings

main = study_command(
    TheorySettings,
    __package__,
    name="theory",
    description="How many samples standard and robust learning take in the Gaussian and the Bernoulli model.",
    presets=PRESETS,
    keeps=False,
)
