import pytest

from lightning_robust_studies.schmidt2018.experiments.report import write_report
from lightning_robust_studies.schmidt2018.experiments.tables import Tables
from tests.studies.schmidt2018.experiments.toy import GRID, MASKING, SIZES, rows_of


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_page_states_claims_figures_and_settings(seeds, tmp_path):
    gaps = [
        {"data": "toy", "n": n, "model": "cnn", "eps_train": 0.1, "seed": 0, "split": split, "step": step, "value": 0.5}
        for n in SIZES
        for split in ("train", "val")
        for step in (5, 10)
    ]
    path = write_report(
        Tables(rows_of(seeds), gaps, MASKING), tmp_path, targets=(0.5, 0.7), settings={"seeds": seeds}, grids=[GRID]
    )
    page = path.read_text()
    assert "1. The same accuracy takes more samples when it is to be robust.</th><td>holds</td>" in page
    assert "<td>not decided</td>" in page
    assert page.count("<img") == 4
    assert "White-box PGD is too optimistic" in page
    assert "Schmidt" in page


def test_two_sizes_without_masking_are_reported_too(tmp_path):
    rows = [row for row in rows_of(1) if row["n"] < 1600]
    page = write_report(Tables(rows), tmp_path, targets=(0.5,), settings={}, grids=[GRID]).read_text()
    assert "Power laws" not in page
    assert "Can PGD be believed" not in page
