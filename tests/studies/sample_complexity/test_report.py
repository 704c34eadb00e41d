import pytest

from lightning_robust.studies.sample_complexity.report import (
    Tables,
    accuracy_lines,
    checkpoint_lines,
    law_lines,
    masking_lines,
    masking_verdict,
    needed_lines,
    write_report,
)
from lightning_robust.studies.sample_complexity.settings import Grid

SIZES = (100, 400, 1600)
GRID = Grid(
    data="toy", sizes=SIZES, eps_train=(0.0, 0.1), eps_test=(0.0, 0.1), models=("cnn",), steps=10, train_steps=2
)


def _rows(seeds=3):
    """Errors 4 n^-1/2 without an attack and 8 n^-1/2 under it; the last checkpoint is two points worse."""
    return [
        {
            "data": "toy", "n": n, "model": "cnn", "eps_train": eps_train, "seed": seed, "checkpoint": checkpoint,
            "split": split, "eps_test": eps, "value": value, "low": value - 0.01, "high": value + 0.01, "count": 10_000,
        }
        for n in SIZES
        for seed in range(seeds)
        for eps_train in (0.0, 0.1)
        for checkpoint in ("best", "last")
        for split in ("train", "val", "test")
        for eps in (0.0, 0.1)
        for value in (
            1
            - (4 + 4 * (eps > 0)) / n**0.5
            - 0.02 * (checkpoint == "last")
            - 0.1 * (eps_train != eps)
            + 0.001 * (seed - 1)
            + 0.05 * (split == "train"),
        )
    ]  # fmt: skip


MASKING = [
    {"data": "toy", "n": 1600, "model": model, "eps_train": 0.1, "seed": 0, "eps_test": 0.1, "attack": attack,
     "metric": metric, "value": value, "low": max(0.0, value - 0.03), "high": value + 0.03, "count": 200}
    for model, excess in (("cnn", 0.01), ("cnn+threshold", 0.2))
    for attack, metric, value in (
        ("pgd", "accuracy", 0.6), ("all", "accuracy", 0.6 - excess), ("pgd", "too optimistic by", excess)
    )
]  # fmt: skip


def test_tables_say_what_the_rows_say():
    lines = accuracy_lines(_rows())
    assert [line["N"] for line in lines] == list(SIZES)
    assert lines[1]["no attack"].value == pytest.approx(0.8)
    assert lines[1]["radius 0.1"].value == pytest.approx(0.6)
    needed = {(line["attack"], line["accuracy"]): line for line in needed_lines(_rows(), (0.7,))}
    assert needed["no attack", "70 %"]["training images"].split()[0] in ("199", "200", "201", "202")
    assert float(needed["radius 0.1", "70 %"]["times those of accuracy without an attack"].split()[0]) == pytest.approx(
        4, rel=0.1
    )
    laws = {line["attack"]: line["exponent b"] for line in law_lines(_rows())}
    assert all(law.startswith("0.50") for law in laws.values())
    assert all(line["trained and attacked at 0.1"] == "2.0 points" for line in checkpoint_lines(_rows()))


def test_models_that_mask_gradients_are_named():
    text = masking_verdict(MASKING)
    assert "by more for cnn+threshold on toy trained at 0.1 (20.0 points" in text
    assert "cannot be told on 200 images for cnn on toy trained at 0.1" in text
    sure = [{**row, "high": row["value"] + 0.001} for row in MASKING[:3]]
    assert masking_verdict(sure) == "White-box PGD is too optimistic by at most 2.0 points for 1 models."
    assert masking_lines(MASKING)[1]["PGD too optimistic by"].startswith("20.0 %")


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_page_states_claims_figures_and_settings(seeds, tmp_path):
    gaps = [
        {"data": "toy", "n": n, "model": "cnn", "eps_train": 0.1, "seed": 0, "split": split, "step": step, "value": 0.5}
        for n in SIZES
        for split in ("train", "val")
        for step in (5, 10)
    ]
    path = write_report(
        Tables(_rows(seeds), gaps, MASKING), tmp_path, targets=(0.5, 0.7), settings={"seeds": seeds}, grids=[GRID]
    )
    page = path.read_text()
    assert "1. The same accuracy takes more samples when it is to be robust. Holds." in page
    assert page.count("<img") == 4
    assert "White-box PGD is too optimistic" in page
    assert "Schmidt" in page


def test_two_sizes_without_masking_are_reported_too(tmp_path):
    rows = [row for row in _rows(1) if row["n"] < 1600]
    page = write_report(Tables(rows), tmp_path, targets=(0.5,), settings={}, grids=[GRID]).read_text()
    assert "Power laws" not in page
    assert "Can PGD be believed" not in page
