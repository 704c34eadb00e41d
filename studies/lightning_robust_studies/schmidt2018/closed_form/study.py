"""How many samples robustness takes, after Schmidt et al. (2018): `lightning-robust study theory`.

Every number comes from `schmidt2018.theory`: exact errors, bounds and sample sizes of the Gaussian and the
Bernoulli model. It takes seconds, so nothing is kept for a later run.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from lightning_robust._command import ready_folder, run_command
from lightning_robust.cells import Row
from lightning_robust_studies.claims import tell
from lightning_robust_studies.schmidt2018.closed_form.claims import claims
from lightning_robust_studies.schmidt2018.closed_form.report import write_report
from lightning_robust_studies.schmidt2018.closed_form.rows import (
    bernoulli_dimension,
    bernoulli_radius,
    bernoulli_samples,
    compare,
    error,
    gap,
    self_training,
)
from lightning_robust_studies.schmidt2018.closed_form.settings import PRESETS, TheorySettings

QUESTIONS = (gap, error, compare, bernoulli_samples, bernoulli_radius, bernoulli_dimension, self_training)
"""Functions from the settings to rows, in the order of the page."""


def run_theory(options: TheorySettings) -> list[Row]:
    """Compute all questions, and write `results.csv`, the figures and `report.html` to `options.out`.

    Returns:
        Rows with the columns question, model, curve, metric, d, noise, eps, n, unlabelled, value, low, high and draws,
        see `lightning_robust_studies.schmidt2018.closed_form.rows`.

    Raises:
        SettingsError: `options.out` cannot be written; nothing has been computed.
    """
    out, began = ready_folder(options.out), time.monotonic()
    rows = [row for question in QUESTIONS for row in question(options)]
    pd.DataFrame(rows).to_csv(out / "results.csv", index=False)
    write_report(rows, out, options, time.monotonic() - began)
    return rows


def main(args: Sequence[str]) -> None:
    """Run the study with command-line options; the claims are printed."""
    run_command(
        TheorySettings,
        _run_and_tell,
        args,
        prog="lightning-robust study theory",
        description="How many samples standard and robust learning take in the Gaussian and the Bernoulli model.",
        presets=PRESETS,
    )


def _run_and_tell(options: TheorySettings) -> None:
    tell(claims(run_theory(options), options), Path(options.out) / "report.html")
