"""How many samples robustness takes in the two models of Schmidt et al. (2018); a minute."""

from collections.abc import Sequence

from lightning_robust._command import run_command
from lightning_robust_studies.schmidt2018.closed_form.settings import PRESETS, TheorySettings


def main(args: Sequence[str]) -> None:
    """Run the study with command-line options; the claims are printed."""
    run_command(
        TheorySettings,
        _run,
        args,
        prog="lightning-robust study theory",
        description="How many samples standard and robust learning take in the Gaussian and the Bernoulli model.",
        presets=PRESETS,
        keeps=False,
    )


def _run(options: TheorySettings) -> None:
    from lightning_robust_studies.schmidt2018.closed_form.study import run_and_print  # brings torch along

    run_and_print(options)
