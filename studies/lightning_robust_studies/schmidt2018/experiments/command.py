"""How many images robust accuracy takes on image data sets, after Schmidt et al. (2018)."""

from collections.abc import Sequence

from lightning_robust._command import run_command
from lightning_robust_studies.schmidt2018.experiments.settings import PRESETS, SampleComplexitySettings


def main(args: Sequence[str]) -> None:
    """Run the study with command-line options; the claims are printed."""
    run_command(
        SampleComplexitySettings,
        _run,
        args,
        prog="lightning-robust study sample-complexity",
        description="How many training images accuracy takes, and how many robust accuracy.",
        presets=PRESETS,
    )


def _run(options: SampleComplexitySettings) -> None:
    from lightning_robust_studies.schmidt2018.experiments.study import run_and_print  # brings torch along

    run_and_print(options)
