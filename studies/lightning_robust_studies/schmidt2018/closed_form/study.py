"""How many samples robustness takes in the two models of Schmidt et al. (2018); a minute.

The command is `lightning-robust study theory`.

Every number comes from `schmidt2018.theory`: exact errors, bounds and sample sizes of the Gaussian and the Bernoulli
model. It takes seconds, so nothing is kept for a later run.
"""

import time
from pathlib import Path

import pandas as pd

from lightning_robust._command import ready_folder
from lightning_robust._files import write_text
from lightning_robust_studies.claims import print_claims
from lightning_robust_studies.schmidt2018.closed_form.claims import claims
from lightning_robust_studies.schmidt2018.closed_form.report import write_report
from lightning_robust_studies.schmidt2018.closed_form.rows import compute
from lightning_robust_studies.schmidt2018.closed_form.settings import TheorySettings


def run_theory(options: TheorySettings) -> pd.DataFrame:
    """Compute all questions, and write `results.csv`, the figures and `report.html` to `options.out`.

    With pyarrow, `results.parquet` is written as well.

    Returns:
        The rows; their columns are those of `lightning_robust_studies.schmidt2018.closed_form.rows`.

    Raises:
        SettingsError: `options.out` cannot be written; nothing has been computed.
    """
    out, began = ready_folder(options.out), time.monotonic()
    rows = compute(options)
    write_text(out / "results.csv", rows.to_csv(index=False))
    try:
        rows.astype({"d": float}).to_parquet(out / "results.parquet", index=False)
    except ImportError:
        (out / "results.parquet").unlink(missing_ok=True)  # an older one would be of other rows
    write_report(rows, out, options, time.monotonic() - began)
    return rows


def run_and_print(options: TheorySettings) -> None:
    """Run the study, and print the claims and where the report is."""
    print_claims(claims(run_theory(options), options), Path(options.out) / "report.html")
