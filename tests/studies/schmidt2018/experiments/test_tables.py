import pytest

from lightning_robust.learning_curves import LearningCurves
from lightning_robust_studies.schmidt2018.experiments.tables import (
    accuracy_table,
    checkpoint_table,
    law_table,
    least_table,
    masking_table,
    masking_verdict,
    needed_table,
    verdict_table,
)
from tests.studies.schmidt2018.experiments.toy import MASKING, SIZES, toy


def test_tables_say_what_the_rows_say():
    accuracies = accuracy_table(toy())
    assert accuracies["N"].tolist() == list(SIZES)
    assert accuracies["no attack"][1].value == pytest.approx(0.8)
    assert accuracies["radius 0.1"][1].value == pytest.approx(0.6)
    needed = needed_table(toy(), (0.7,)).set_index("attack")
    assert needed.loc["no attack", "training images"].split()[0] in ("199", "200", "201", "202")
    ratio = needed.loc["radius 0.1", "times those of accuracy without an attack"]
    assert float(ratio.split()[0]) == pytest.approx(4, rel=0.1)
    assert law_table(toy())["exponent b"].str.startswith("0.50").all()
    assert (checkpoint_table(toy())["trained and attacked at 0.1"] == "2.0 points").all()


def test_models_that_mask_gradients_are_named():
    text = masking_verdict(toy(masking=MASKING))
    assert "by more for cnn+threshold on toy trained at 0.1 (20.0 points" in text
    assert "cannot be told on 200 images for cnn on toy trained at 0.1" in text
    sure = {"toy": LearningCurves([], (), [{**row, "high": row["value"] + 0.001} for row in MASKING[:3]])}
    assert masking_verdict(sure) == "White-box PGD is too optimistic by at most 2.0 points for 1 models."
    assert masking_table(toy(masking=MASKING))["PGD too optimistic by"][1].startswith("20.0 %")


def test_a_verdict_stands_beside_pgd():
    model = {"n": 1600, "seed": 0, "model": "cnn", "eps_train": 0.1, "eps_test": 0.1}
    values = (("no attack", 0.9, ""), ("PGD", 0.7, ""), ("standard", 0.5, "Too high."))
    rows = [
        {
            **model,
            "attack": attack,
            "value": value,
            "low": value - 0.1,
            "high": value + 0.1,
            "count": 100,
            "doubts": text,
        }
        for attack, value, text in values
    ]
    (line,) = verdict_table({"toy": rows}).to_dict("records")
    assert (line["N"], line["attack"], line["trained at"], line["test images"]) == (1600, "radius 0.1", 0.1, 100)
    assert [line[name].split()[0] for name, *_ in values] == ["90.0", "70.0", "50.0"]
    assert line["doubts"] == "Too high."


def test_least_errors_are_shares():
    rows = [{"eps_test": eps, "value": eps, "pairs": 3, "part": 4, "count": 50} for eps in (0.0, 0.1)]
    table = least_table({"toy": rows}).set_index("attack")
    assert table.loc["radius 0.1", "least error of any classifier"] == "10.00 %"
    assert table.loc["no attack", "conflicts"] == 3


def test_a_power_law_is_of_the_sizes_that_all_seeds_have():
    rows = [row for row in toy()["toy"].rows if row["n"] < 1600 or row["seed"] == 0]
    assert len(law_table({"toy": LearningCurves(rows)})) == 0
    assert len(needed_table({"toy": LearningCurves(rows)}, (0.7,))) == 2
