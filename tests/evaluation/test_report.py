"""A report says per sample what was withstood, in numbers, as a table and as a page."""

import dataclasses
import json
import math
import warnings

import pandas as pd
import pytest
import torch

from lightning_robust import PGD, Linf
from lightning_robust.attacks import MinimumNorm
from lightning_robust.evaluation import Report, evaluate
from lightning_robust.evaluation.images import LEAST_RADII, Images
from lightning_robust.evaluation.indicators import Indicator
from lightning_robust.evaluation.ledger import Event, Ledger
from lightning_robust.metrics import wilson_interval
from lightning_robust.plots import radius_curve

RIGHT = {
    "clean": torch.tensor([1, 1, 1, 1, 0, 0]).bool(),
    "pgd <b>": torch.tensor([1, 1, 0, 1, 0, 0]).bool(),
    "search": torch.tensor([1, 0, 1, 1, 0, 0]).bool(),
}
LABELS = torch.tensor([0, 0, 0, 1, 1, 1])
IMAGES = Images(
    key=[f"{n:016x}" for n in (10, 11, 12, 13, 14, 15)],
    label=LABELS,
    clean=RIGHT["clean"],
    attack=["", "search", "pgd <b>", "", "", ""],
    target=torch.tensor([-1, 2, 1, -1, 0, 0]),
    restart=torch.tensor([-1, 1, 0, -1, -1, -1]),
    step=torch.tensor([-1, -1, 7, -1, -1, -1]),
    gain=torch.tensor([-0.1, 0.25, 1 / 3, math.nan, math.nan, math.nan], dtype=torch.float64),
    radius=torch.tensor([math.inf, 0.11, 0.05, 0.2, 0, 0], dtype=torch.float64),
    passes=torch.tensor([80, 75, 9, 80, 1, 1]),
)
INDICATORS = (
    Indicator("calm", math.nan, 0.1, False, "Nothing.", "A. Uthor, 2020"),
    Indicator("<u>loud", 0.5, 0.1, True, "Do <s>this</s>.", "A. & B., 2021"),
)
FULL = {
    "images": IMAGES,
    "indicators": INDICATORS,
    "passes": (130, 116),
    "eps": 0.1,
    "threat": "Linf(<tt>0.1)",
    "about": {"seed": 0, "<em>": "<q>", "limit": None},
}
REPORT = Report(RIGHT, LABELS, ("Beware of <i>this</i>.",), {"pgd <b>": "PGD(...)"}, 1.25)
PLAN = Report({"clean": RIGHT["clean"]}, attacks={"first": "A()", "pgd <b>": "PGD()", "search": "S()"}, **FULL)


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
    assert str(REPORT) == "6 samples: clean accuracy 66.7 % [30.0, 90.3], robust accuracy 33.3 % [9.7, 70.0], 1 doubt"
    assert REPORT.table().splitlines()[-2:] == ["worst case  33.3 % [9.7, 70.0]", "doubt       Beware of <i>this</i>."]
    frame = REPORT.to_pandas()
    assert list(frame) == ["label", "clean", "pgd <b>", "search", "robust"]
    assert frame["robust"].tolist() == REPORT.robust.tolist()
    assert "label" not in Report(RIGHT).to_pandas()


def test_names_of_users_are_escaped():
    whole = dataclasses.replace(REPORT, **FULL)
    for text in (REPORT._repr_html_(), REPORT.page().html(), whole._repr_html_(), whole.page().html()):
        assert not [tag for tag in ("<b>", "<i>", "<u>", "<s>", "<tt>", "<em>", "<q>") if tag in text]
        assert "pgd &lt;b&gt;" in text
        assert "Beware of &lt;i&gt;this" in text
    assert "Do &lt;s&gt;this" in whole._repr_html_()
    assert all(text in whole.page().html() for text in ("&lt;u&gt;loud", "Linf(&lt;tt&gt;0.1)", "A. &amp; B., 2021"))


@pytest.mark.parametrize("name", ["sample", "label", "robust", "worst case", "radius", "broken_by"])
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
        ({"images": dataclasses.replace(IMAGES, clean=~RIGHT["clean"])}, '`images` to be right where `right\\["clean"'),
        ({"passes": (1, -1)}, r"`passes\[1\]` to be an integer of at least 0"),
        ({"eps": -1}, "`eps` to be a number of at least 0"),
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


def test_images_decide_what_is_robust():
    assert PLAN.robust.tolist() == REPORT.robust.tolist()
    assert PLAN.labels is LABELS
    assert PLAN.flagged == INDICATORS[1:]
    worst = PLAN.worst_class
    assert (worst["class"], worst["robust"].value) == (0, pytest.approx(1 / 3))
    assert Report({"clean": RIGHT["clean"], "other": ~RIGHT["search"]}, images=IMAGES).robust.tolist() == [False] * 6


def test_stages_say_what_each_attack_added():
    rows = [(row["attack"], row["broke"], round(6 * row["accuracy after"].value)) for row in PLAN.stages()]
    assert rows == [("clean", 2, 4), ("first", 0, 4), ("pgd <b>", 1, 3), ("search", 1, 2)]
    with pytest.raises(ValueError, match="made without them"):
        REPORT.stages()


def test_the_curve_counts_the_images_whose_least_radius_is_greater():
    """Least radii 0, 0, 0.05, 0.11 cut to the radius 0.1 at which it was broken, 0.2, and none."""
    report = dataclasses.replace(PLAN, about=LEAST_RADII)
    rows = report.radius_curve([0, 0.04, 0.05, 0.0999, 0.1, 0.2])
    assert [round(6 * row["value"]) for row in rows] == [4, 4, 3, 3, 2, 1]
    assert (rows[2]["low"], rows[2]["high"]) == pytest.approx([float(end) for end in wilson_interval(3, 6)])
    rows = report.radius_curve()
    assert (len(rows), rows[0]["radius"], rows[-1]["radius"]) == (25, 0, pytest.approx(0.1))
    assert rows[0]["value"] == PLAN.clean_acc.value
    assert rows[-1]["value"] == PLAN.robust_acc.value
    assert dataclasses.replace(report, eps=None).radius_curve()[-1]["radius"] == pytest.approx(0.2)
    unknown = dataclasses.replace(IMAGES, radius=torch.full((6,), math.inf, dtype=torch.float64))
    with pytest.raises(ValueError, match="of 2 broken images it is not known"):
        dataclasses.replace(report, eps=None, images=unknown).radius_curve()
    assert "Over the radius" in report.page().html()
    assert "Over the radius" not in dataclasses.replace(report, eps=None, images=unknown).page().html()
    assert len(radius_curve([{"model": "m", **row} for row in rows]).axes[0].collections) == 1


def test_the_table_says_what_to_doubt():
    lines = PLAN.table().splitlines()
    assert [line.split("  ")[0] for line in lines] == [
        *("clean", "after first", "after pgd <b>", "after search", "worst case"),
        *("worst class (0)", "passes", "doubt: <u>loud"),
    ]
    assert lines[-2].endswith("130 forward, 116 backward; 41.0 per image")
    assert lines[-1].endswith("Do <s>this</s>.")
    assert str(PLAN).startswith("6 samples under Linf(<tt>0.1): clean accuracy 66.7 %")
    assert str(PLAN).endswith(", 1 doubt")
    made_of_it = dataclasses.replace(PLAN, warnings=("Too high. <u>loud: Do <s>this</s>.", "Beware. Else."))
    assert str(made_of_it).endswith(", 2 doubts")
    assert [line.split("  ")[0] for line in made_of_it.table().splitlines()[-2:]] == ["doubt", "doubt: <u>loud"]
    assert str(Report(RIGHT)).endswith("]")


def test_a_row_of_an_image_has_what_the_ledger_has():
    frame = PLAN.to_pandas()
    assert list(frame) == [
        *("label", "clean", "robust", "key", "broken_by", "target", "restart", "step", "gain", "radius", "passes")
    ]
    assert frame["broken_by"].tolist() == IMAGES.attack
    assert frame["passes"].sum() == 246


def test_what_is_written_is_read_again(tmp_path):
    for number, report in enumerate((dataclasses.replace(REPORT, **FULL), PLAN, Report(RIGHT))):
        report.write(tmp_path / str(number))
        again = Report.load(tmp_path / str(number))
        assert again.table() == report.table()
        assert again.to_dict() == report.to_dict()
        pd.testing.assert_frame_equal(again.to_pandas(), report.to_pandas(), check_exact=True)
    assert [str(one) for one in again.indicators] == [str(one) for one in report.indicators]


def test_damaged_and_missing_reports_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"neither report\.json nor ledger"):
        Report.load(tmp_path)
    PLAN.write(tmp_path)
    lines = (tmp_path / "samples.csv").read_text("utf-8").splitlines(keepends=True)
    for damage in ("".join(lines[:-1]), "".join(lines[:-1]) + "5,1", "".join(lines).replace("False", "No")):
        (tmp_path / "samples.csv").write_text(damage, "utf-8")
        with pytest.raises(ValueError, match=r"that in .* cannot be read .*Evaluate again"):
            Report.load(tmp_path)


def test_a_ledger_is_a_report_with_a_doubt(tmp_path):
    values = {"key": "00c0ffee00c0ffee", "label": 1, "gain": math.nan, "wave": 0, "passes": 3}
    nothing = {"target": -1, "step": -1, "radius": math.inf}
    with Ledger.open(tmp_path, {"eps": 0.1, "seed": 3, "full": 0}) as ledger:
        ledger.add(Event(n, "clean", fooled=n == 2, **values, **nothing) for n in range(3))
        ledger.add([Event(1, "pgd", fooled=True, target=0, step=4, radius=0.02, **values)])
        with pytest.warns(UserWarning, match="has not come to its end"):
            report = Report.load(tmp_path)
        ledger.add([Event(-1, "end", fooled=False, **values, **nothing)])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            ended = Report.load(tmp_path)
    assert report.robust.tolist() == ended.robust.tolist() == [True, False, False]
    assert report.images.radius.tolist() == [math.inf, 0.02, 0]
    assert (report.eps, report.about["seed"], list(ended.attacks), list(report.right)) == (0.1, 3, ["pgd"], ["clean"])
    assert "not come to its end" in report.warnings[1]
    assert len(ended.warnings) == 1


def test_attacks_that_were_made_in_full_are_read_from_ledgers(tmp_path):
    values = {"key": "0", "label": None, "gain": 0.0, "wave": 0, "passes": 3, "target": -1, "step": -1, "radius": 1.0}
    with Ledger.open(tmp_path, {"full": 1}) as ledger:
        ledger.add(Event(0, stage, fooled=stage == "b", **values) for stage in ("clean", "a", "b"))
        ledger.add([Event(-1, "end", fooled=False, **values)])
    assert {name: right.item() for name, right in Report.load(tmp_path).right.items()} == {
        "clean": True,
        "a": True,
        "b": False,
    }


def test_a_long_threat_is_shown_short():
    threat = "Threat(ball=Linf(eps=0.03137254901960784), space=PixelSpace(low=0.0, high=1.0))"
    assert str(Report(RIGHT, threat=threat)).startswith("6 samples under Linf(eps=0.03137): clean")
    assert threat in Report(RIGHT, threat=threat).page().html()


def test_a_page_has_a_part_for_each_question():
    html = dataclasses.replace(PLAN, warnings=("Beware.", "Too high. <u>loud: Do <s>this</s>.")).page().html()
    headings = [part.split("</h2>")[0] for part in html.split("<h2>")[1:]]
    assert headings == [
        *("Read with care", "Which attack broke how many", "Class by class"),
        "Indicators of attacks that failed",
    ]
    assert html.count("data:image/png") == 1
    assert html.count("<p>&lt;u&gt;loud: Do &lt;s&gt;this") == 1
    assert "Too high" not in html


def test_the_curve_over_the_radius_is_on_the_page_where_an_attack_looked_for_least_radii(tmp_path):
    """Else it would be the accuracy without an attack, up to the radius of the attacks."""
    generator = torch.Generator().manual_seed(0)
    model, x = torch.nn.Linear(4, 3), torch.rand(40, 4, generator=generator)
    data = x, model(x).argmax(1)
    for name, attack, drawn in (("pgd", PGD(Linf(0.1)), False), ("least", MinimumNorm(Linf(0.1), 10), True)):
        evaluate(model, data, {name: attack}, out=tmp_path / name, progress=False)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            Report.load(tmp_path / name).radius_curve()
        assert any("No attack looked for" in str(one.message) for one in caught) != drawn
        assert ("Over the radius" in (tmp_path / name / "report.html").read_text("utf-8")) == drawn
        assert ("Over the radius" in Report.load(tmp_path / name).page().html()) == drawn
        (tmp_path / name / "report.json").unlink()
        assert ("Over the radius" in Report.load(tmp_path / name).page().html()) == drawn


def test_json_has_no_number_that_is_none(tmp_path):
    report = dataclasses.replace(PLAN, about={"limit": math.inf, "plan": object})
    report.write(tmp_path)
    content = json.loads((tmp_path / "report.json").read_text("utf-8"), parse_constant=lambda name: pytest.fail(name))
    assert content["indicators"][0]["value"] == "nan"
    assert content["about"]["limit"] == "inf"
    assert content["stages"][-1] == {**content["stages"][-1], "attack": "search", "broke": 1}
    assert content["worst_class"]["class"] == 0


def test_a_report_of_one_sample_has_a_page():
    one = Report({"clean": torch.tensor([False])}, images=Images(**_first(IMAGES, clean=torch.tensor([False]))))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert one.page().html()


def _first(images, **changed):
    values = {f.name: getattr(images, f.name) for f in dataclasses.fields(images) if f.name != "examples"}
    return {name: value[:1] for name, value in values.items()} | changed
