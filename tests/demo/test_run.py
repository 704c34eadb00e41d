"""The demonstration on little data: what it writes, and that it is right."""

import csv
import json
from dataclasses import replace

import pytest
from rich.console import Console

from lightning_robust.cells import CellsFailedError, Inline
from lightning_robust.demo import Settings, run as module, work
from lightning_robust.demo.run import means, run_demo
from lightning_robust.demo.work import METRICS
from lightning_robust.plots import Picture

SMALL = Settings(train_size=50, test_size=20, epochs=2, train_steps=1, test_steps=2, restarts=2, eps=0.05)


def run(options, console=None):
    """In this process."""
    return run_demo(options, console or Console(quiet=True), Inline())


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "nested"
    console = Console(record=True, width=100)
    return out, run(replace(SMALL, out=str(out)), console), console.export_text()


def test_writes_a_tidy_table(demo):
    out, rows, _ = demo
    assert [(row["model"], row["metric"]) for row in rows] == [
        (model, metric) for model in ("normal", "adversarial", "on-manifold", "transformations") for metric in METRICS
    ]
    with (out / "results.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert [{**row, **{k: float(row[k]) for k in ("value", "low", "high", "count")}} for row in read] == rows


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
    assert about["settings"]["train_size"] == 50
    assert {"torch", "processor", "command"} < set(about["versions"])
    for name in ("bars.png", "examples_normal.png", "examples_on-manifold.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    page = (out / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 3
    assert "http://" not in page
    assert "https://" not in page


def test_says_what_it_does_and_where_the_report_is(demo):
    _, _, text = demo
    assert "4 models are trained and attacked, " in text
    assert "on-manifold" in text
    assert "test error" in text
    assert "report.html" in text.replace("\n", "")


@pytest.fixture
def no_drawing(monkeypatch):
    """Figures take seconds to draw: no sheets of examples, and an empty file for the bars."""
    monkeypatch.setattr(module, "SHOWN", ())
    monkeypatch.setattr("lightning_robust.plots.page.png", lambda figure: b"")


@pytest.fixture
def trained(monkeypatch):
    """The trainings that are begun."""
    begun, train = [], work._trained

    def counted(options, threat):
        begun.append((options.seed, threat))
        return train(options, threat)

    monkeypatch.setattr(work, "_trained", counted)
    return begun


@pytest.mark.usefixtures("no_drawing")
def test_what_is_stopped_keeps_the_finished_models_and_goes_on_to_the_same_numbers(
    demo, tmp_path, trained, monkeypatch
):
    """Stopped by the keyboard in the attacks on the second model, then by a full disk before the report is written."""
    out, rows, _ = demo
    options, attacked = replace(SMALL, out=str(tmp_path)), work._attacked

    def interrupted(*args):
        if len(trained) == 2:
            raise KeyboardInterrupt
        return attacked(*args)

    def no_space(*args):
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(work, "_attacked", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(options)
    assert [path.name for path in tmp_path.iterdir()] == ["models"]
    console = Console(record=True, width=200)
    with monkeypatch.context() as patch:
        patch.setattr(Picture, "save", no_space)
        with pytest.raises(OSError, match="No space left"):
            run(options, console)
    (done,) = [line for line in console.export_text().splitlines() if line.startswith("Finished already: ")]
    assert done.count("(seed 0)") == 1
    assert len(trained) == 2 + 3
    console = Console(record=True, width=200)
    assert run(options, console) == rows
    assert len(trained) == 2 + 3
    said = console.export_text()
    assert "All models are finished" in said
    assert f"Report: {tmp_path / 'report.html'}" in said
    left = {path.name for path in out.iterdir()} - {path.name for path in tmp_path.iterdir()}
    assert all(name.startswith("examples_") for name in left)


@pytest.mark.usefixtures("no_drawing")
def test_more_seeds_train_the_new_models_alone_and_give_means(demo, trained):
    out, rows, _ = demo
    both = run(replace(SMALL, out=str(out), seeds=2))
    assert {seed for seed, _ in trained} == {1}
    other = run(replace(SMALL, out=str(out), seed=1))
    assert len(trained) == 4
    for mean, first, second in zip(both, rows, other, strict=True):
        assert mean["value"] == pytest.approx((first["value"] + second["value"]) / 2)
        assert mean["count"] == first["count"] + second["count"]
    with (out / "seeds.csv").open(newline="") as file:
        assert [row["seed"] for row in csv.DictReader(file) if row["metric"] == "test error"] == ["0"] * 4 + ["1"] * 4


def test_means_over_seeds_have_student_s_interval():
    rows = [
        {"model": "normal", "seed": s, "metric": "test error", "value": v, "low": 0.0, "high": 1.0, "count": 10}
        for s, v in enumerate((0.10, 0.20, 0.30))
    ]
    (mean,) = means(rows)
    assert mean["value"] == pytest.approx(0.2)
    assert (mean["low"], mean["high"]) == (0.0, pytest.approx(0.2 + 4.302653 * 0.1 / 3**0.5, abs=1e-6))  # cut at 0
    (one,) = means(rows[:1])
    assert (one["low"], one["high"]) == (0.0, 1.0)  # the model's own


@pytest.mark.usefixtures("no_drawing")
def test_a_model_that_fails_leaves_the_others(tmp_path, monkeypatch):
    attacked = work._attacked

    def full(module, options):
        if not attacks:
            attacks.append(1)
            raise OSError("No space left on device")
        return attacked(module, options)

    attacks = []
    monkeypatch.setattr(work, "_attacked", full)
    monkeypatch.setattr(work, "_trained", lambda options, threat: work.RobustClassifier(work.standard_net()))
    options = replace(SMALL, out=str(tmp_path), train_size=10, test_size=10, epochs=1)
    with pytest.raises(CellsFailedError, match="No space left on device"):
        run(options)
    assert len(list((tmp_path / "models").glob("*/rows.json"))) == 3
    run(options)
    assert len(list((tmp_path / "models").glob("*/rows.json"))) == 4


def test_files_of_something_else_are_not_overwritten(tmp_path):
    (tmp_path / "results.csv").write_text("mine")
    with pytest.raises(ValueError, match=r"`out` to be a new folder .* results.csv of something else"):
        run(replace(SMALL, out=str(tmp_path)))
    assert [path.name for path in tmp_path.iterdir()] == ["results.csv"]
    assert (tmp_path / "results.csv").read_text() == "mine"


def test_more_images_than_there_are_are_refused_before_anything_runs(tmp_path):
    with pytest.raises(ValueError, match="`train_size` to be at most"):
        run(Settings(out=str(tmp_path / "out"), train_size=10**9))
    assert not (tmp_path / "out").exists()
