"""How many images robust accuracy takes on image data sets, after Schmidt et al. (2018)."""

from lightning_robust_studies._command import study_command
from lightning_robust_studies.schmidt2018.experiments.settings import PRESETS, SampleComplexitySettings

main = study_command(
    SampleComplexitySettings,
    __package__,
    name="sample-complexity",
    description="How many training images accuracy takes, and how many robust accuracy.",
    presets=PRESETS,
)
