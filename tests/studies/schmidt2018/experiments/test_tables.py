import pytest

from lightning_robust_studies.schmidt2018.experiments.tables import (
    accuracy_lines,
    checkpoint_lines,
    law_lines,
    masking_lines,
    masking_verdict,
    needed_lines,
)
from tests.studies.schmidt2018.experiments.toy import MASKING, SIZES, rows_of


def test_tables_say_what_the_rows_say():
    lines = accuracy_lines(rows_of())
    assert [line["N"] for line in lines] == list(SIZES)
    assert lines[1]["no attack"].value == pytest.approx(0.8)
    assert lines[1]["radius 0.1"].value == pytest.approx(0.6)
    needed = {(line["attack"], line["accuracy"]): line for line in needed_lines(rows_of(), (0.7,))}
    assert needed["no attack", "70 %"]["training images"].split()[0] in ("199", "200", "201", "202")
    assert float(needed["radius 0.1", "70 %"]["times those of accuracy without an attack"].split()[0]) == pytest.approx(
        4, rel=0.1
    )
    laws = {line["attack"]: line["exponent b"] for line in law_lines(rows_of())}
    assert all(law.startswith("0.50") for law in laws.values())
    assert all(line["trained and attacked at 0.1"] == "2.0 points" for line in checkpoint_lines(rows_of()))


def test_models_that_mask_gradients_are_named():
    text = masking_verdict(MASKING)
    assert "by more for cnn+threshold on toy trained at 0.1 (20.0 points" in text
    assert "cannot be told on 200 images for cnn on toy trained at 0.1" in text
    sure = [{**row, "high": row["value"] + 0.001} for row in MASKING[:3]]
    assert masking_verdict(sure) == "White-box PGD is too optimistic by at most 2.0 points for 1 models."
    assert masking_lines(MASKING)[1]["PGD too optimistic by"].startswith("20.0 %")
