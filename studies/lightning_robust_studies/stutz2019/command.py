"""Robustness and generalization, on and off the data manifold, after Stutz et al. (2019)."""

from collections.abc import Sequence

from lightning_robust._command import run_command
from lightning_robust_studies.stutz2019.settings import PRESETS, ManifoldSettings


def main(args: Sequence[str]) -> None:
    """Run the study with command-line options; the claims are printed."""
    run_command(
        ManifoldSettings,
        _run,
        args,
        prog="lightning-robust study manifold",
        description="Off- and on-manifold robustness and generalization over sizes, training schemes and seeds.",
        presets=PRESETS,
    )


def _run(options: ManifoldSettings) -> None:
    from lightning_robust_studies.stutz2019.study import run_and_print  # brings torch along

    run_and_print(options)
