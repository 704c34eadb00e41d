"""The demonstration on little data: what it writes, and that it is right."""

import csv
import json
import signal
from dataclasses import replace

import pytest
from rich.console import Console

from lightning_robust import demo as module
from lightning_robust.demo import METRICS, Settings, run_demo

SMALL = Settings(train_size=200, test_size=60, epochs=2, train_steps=2, test_steps=3, restarts=2, eps=0.05)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "nested"
    console = Console(record=True, width=100)
    return out, run_demo(replace(SMALL, out=str(out)), console), console.export_text()


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


def test_what_is_stopped_keeps_the_finished_models_and_goes_on_to_the_same_numbers(demo, tmp_path, monkeypatch):
    """Stopped by the keyboard in the training of the second model, then by a full disk before the report is written."""
    out, rows, _ = demo
    options = replace(SMALL, out=str(tmp_path))
    trained, train = [], module._TrainAndAttack._train
    advance = module._Advance.on_train_batch_end

    def counted(*args):
        trained.append(args)
        return train(*args)

    def interrupted(self, *args):
        if len(trained) == 2:
            raise KeyboardInterrupt
        advance(self, *args)

    def no_space(*args):
        raise OSError("No space left on device")

    monkeypatch.setattr(module._TrainAndAttack, "_train", counted)
    handler = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        patch.setattr(module._Advance, "on_train_batch_end", interrupted)
        with pytest.raises(SystemExit):  # which Lightning makes of an interruption
            run_demo(options, Console(quiet=True))
    signal.signal(signal.SIGINT, handler)  # Lightning switches it off
    assert [path.name for path in tmp_path.iterdir()] == ["unfinished"]
    console = Console(record=True, width=100)
    with monkeypatch.context() as patch:
        patch.setattr(module.plots, "save_png", no_space)
        with pytest.raises(OSError, match="No space left"):
            run_demo(options, console)
    assert "Finished by the run that was stopped: normal." in console.export_text()
    assert len(trained) == 2 + 3
    assert run_demo(options, Console(quiet=True)) == rows
    assert len(trained) == 2 + 3
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in out.iterdir())


def test_files_of_something_else_are_not_overwritten(tmp_path):
    (tmp_path / "results.csv").write_text("mine")
    with pytest.raises(ValueError, match=r"`out` to be a new folder .* results.csv of something else"):
        run_demo(replace(SMALL, out=str(tmp_path)), Console(quiet=True))
    assert [path.name for path in tmp_path.iterdir()] == ["results.csv"]
    assert (tmp_path / "results.csv").read_text() == "mine"


def test_more_images_than_there_are_are_refused_before_anything_runs(tmp_path):
    with pytest.raises(ValueError, match="`train_size` to be at most"):
        run_demo(Settings(out=str(tmp_path / "out"), train_size=10**9), Console(quiet=True))
    assert not (tmp_path / "out").exists()


def test_models_that_read_nothing_have_no_success_rate(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SHOWN", ())
    options = replace(SMALL, out=str(tmp_path), train_size=10, test_size=1, epochs=1)
    rows = run_demo(options, Console(record=True, width=100))
    value = {(row["model"], row["metric"]): row["value"] for row in rows}
    wrong = [model for model in module.SCHEMES if value[model, "test error"] == 1]
    assert wrong
    assert not any((model, "on-manifold success rate") in value for model in wrong)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        *(
            ({name: 0}, f"`{name}` to be an integer of at least 1, but got 0")
            for name in ("train_size", "test_size", "epochs", "train_steps", "test_steps", "restarts")
        ),
        ({"eps": -1}, "`eps` to be a number of at least 0, but got -1"),
        ({"eta": float("nan")}, "`eta` to be a number of at least 0, but got nan"),
        ({"seed": -1}, "`seed` to be an integer of at least 0"),
        ({"threads": -1}, "`threads` to be an integer of at least 0, but got -1"),
    ],
)
def test_settings_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        Settings(**arguments)
