"""The demonstration on little data: what it writes, and that it is right."""

import csv
import json

import pytest
from rich.console import Console

from lightning_robust.studies.demo import METRICS, Settings, run_demo


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "nested"
    options = Settings(
        out=str(out), train_size=200, test_size=60, epochs=2, train_steps=2, test_steps=3, restarts=2, eps=0.05
    )
    console = Console(record=True, width=100)
    return out, run_demo(options, console), console.export_text()


def test_writes_a_tidy_table(demo):
    out, rows, _ = demo
    assert [(row["model"], row["metric"]) for row in rows] == [
        (model, metric) for model in ("normal", "adversarial", "on-manifold", "transformations") for metric in METRICS
    ]
    with (out / "results.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert [{**row, **{k: float(row[k]) for k in ("value", "low", "high", "n")}} for row in read] == rows


def test_intervals_hold_the_values_and_attacks_only_add_errors(demo):
    _, rows, _ = demo
    value = {(row["model"], row["metric"]): row["value"] for row in rows}
    for row in rows:
        assert 0 <= row["low"] <= row["value"] <= row["high"] <= 1
    for model in {row["model"] for row in rows}:
        assert value[model, "test error"] <= value[model, "pixel robust error"]
        assert value[model, "test error"] <= value[model, "on-manifold robust error"]


def test_writes_settings_figures_and_a_page_that_opens_offline(demo):
    out, _, _ = demo
    about = json.loads((out / "about.json").read_text())
    assert about["settings"]["seed"] == 0
    assert about["settings"]["train_size"] == 200
    assert "torch" in about["versions"]
    for name in ("bars.png", "examples_normal.png", "examples_on-manifold.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    page = (out / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 3
    assert "http://" not in page
    assert "https://" not in page


def test_prints_one_table_and_where_the_report_is(demo):
    _, _, text = demo
    assert "on-manifold" in text
    assert "test error" in text
    assert "report.html" in text.replace("\n", "")


def test_again_gives_the_same_numbers(demo, tmp_path):
    _, rows, _ = demo
    options = Settings(
        out=str(tmp_path), train_size=200, test_size=60, epochs=2, train_steps=2, test_steps=3, restarts=2, eps=0.05
    )
    assert run_demo(options, Console(quiet=True)) == rows


@pytest.mark.parametrize("name", ["train_size", "test_size", "epochs", "train_steps", "test_steps", "restarts"])
def test_settings_are_checked(name):
    with pytest.raises(ValueError, match=f"`{name}` to be at least 1, but got 0"):
        Settings(**{name: 0})
