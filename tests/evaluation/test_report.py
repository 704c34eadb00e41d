"""A report says per sample what was withstood, in numbers, as a table and as a page."""

import json

import pandas as pd
import pytest
import torch

from lightning_robust.evaluation import Report
from lightning_robust.metrics import wilson_interval

RIGHT = {
    "clean": torch.tensor([1, 1, 1, 1, 0, 0]).bool(),
    "pgd <b>": torch.tensor([1, 1, 0, 1, 0, 0]).bool(),
    "search": torch.tensor([1, 0, 1, 1, 0, 0]).bool(),
}
LABELS = torch.tensor([0, 0, 0, 1, 1, 1])
REPORT = Report(RIGHT, LABELS, ("Beware of <i>this</i>.",), {"pgd <b>": "PGD(...)"}, 1.25)


def test_robust_accuracy_is_the_worst_case_over_all():
    assert REPORT.n == 6
    assert REPORT.robust.tolist() == [True, False, False, True, False, False]
    assert REPORT.robust_acc.value == pytest.approx(2 / 6)
    assert (REPORT.robust_acc.low, REPORT.robust_acc.high) == pytest.approx(
        [float(end) for end in wilson_interval(2, 6)]
    )
    assert [row["accuracy"].value for row in REPORT.rows()] == pytest.approx([4 / 6, 3 / 6, 3 / 6, 2 / 6])


def test_classes():
    rows = [(row["class"], row["n"], row["clean"].value, row["robust"].value) for row in REPORT.per_class()]
    assert rows == [(0, 3, 1.0, pytest.approx(1 / 3)), (1, 3, pytest.approx(1 / 3), pytest.approx(1 / 3))]


def test_text_and_frame():
    assert str(REPORT) == "6 samples: clean accuracy 66.7 % [30.0, 90.3], robust accuracy 33.3 % [9.7, 70.0]"
    assert REPORT.table().splitlines()[-1] == "worst case  33.3 % [9.7, 70.0]"
    frame = REPORT.to_pandas()
    assert list(frame) == ["label", "clean", "pgd <b>", "search", "robust"]
    assert frame["robust"].tolist() == REPORT.robust.tolist()
    assert "label" not in Report(RIGHT).to_pandas()


def test_names_of_users_are_escaped():
    for text in (REPORT._repr_html_(), REPORT.page().html()):
        assert "<b>" not in text
        assert "<i>" not in text
        assert "pgd &lt;b&gt;" in text
        assert "Beware of &lt;i&gt;this" in text


@pytest.mark.parametrize("name", ["sample", "label", "robust", "worst case"])
def test_the_names_of_the_report_are_its_own(name):
    with pytest.raises(ValueError, match=f"`right` to have no attack of the name '{name}'"):
        Report({"clean": RIGHT["clean"], name: RIGHT["search"]})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"right": {"pgd": RIGHT["search"]}}, '`right` to have an entry "clean"'),
        ({"right": {"clean": RIGHT["clean"][:0]}}, "N of at least 1"),
        ({"right": {"clean": RIGHT["clean"], "pgd": RIGHT["search"][:2]}}, r"`right\['pgd'\]` .* \(6,\)"),
        ({"labels": LABELS[:2]}, r"`labels` to be an integer tensor of shape \(6,\)"),
    ],
)
def test_tensors_fit_together(change, message):
    with pytest.raises(ValueError, match=message):
        Report(**{"right": RIGHT, "labels": LABELS, **change})


def test_files(tmp_path):
    page = REPORT.write(tmp_path / "out")
    assert page.read_text("utf-8").count("data:image/png") == 1
    content = json.loads((tmp_path / "out" / "report.json").read_text("utf-8"))
    assert content["n"] == 6
    assert content["accuracy"][-1]["inputs"] == "worst case"
    assert content["accuracy"][-1]["value"] == pytest.approx(2 / 6)
    assert pd.read_csv(tmp_path / "out" / "samples.csv", index_col="sample")["robust"].sum() == 2
    with pytest.raises(FileExistsError, match=r"`folder` to be .* without a report, .* holds report\.html"):
        REPORT.write(tmp_path / "out")
