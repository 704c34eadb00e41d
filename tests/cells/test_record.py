import functools
import json
import math
import traceback
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import nn

from lightning_robust.cells import CellsError, describe, load_artifact, save_artifact
from lightning_robust.cells.record import ROWS, differences, finished, read_record, tidy, write_record
from tests.cells.cellwork import Trouble, draw

CELL = {"n": 1, "name": "größer"}


def _write(folder):
    return write_record(folder, CELL, [{"acc": math.inf}, {"acc": -0.1}], 1.23456, {"work": "f"})


def test_a_record_comes_back(tmp_path):
    assert read_record(tmp_path) is None
    record = _write(tmp_path)
    assert read_record(tmp_path, {"name": "größer", "n": 1.0}) == record
    assert record.seconds == 1.235
    assert record.rows == [{**CELL, "acc": math.inf}, {**CELL, "acc": -0.1}]
    assert set(record.versions) == {"python", "torch", "lightning_robust"}


def test_every_byte_counts(tmp_path):
    """Any damage is seen: a byte that is missing, and every letter and digit that is another one."""
    _write(tmp_path)
    path = tmp_path / ROWS
    whole = path.read_bytes()
    for at in range(0, len(whole) - 2, 7):
        other = {ord("1"): b"2"}.get(whole[at], b"1")
        for damaged in (whole[:at], whole[:at] + other + whole[at + 1 :]):
            path.write_bytes(damaged)
            if not damaged or not _same(damaged, whole):
                with pytest.raises(CellsError, match=r"rows.json is damaged"):
                    read_record(tmp_path)


def _same(one, other):
    try:
        return json.loads(one) == json.loads(other)
    except ValueError:
        return False


def test_damage_is_named_and_set_aside_without_overwriting(tmp_path, caplog):
    path = tmp_path / ROWS
    for content in ("[]", "{", ""):
        path.write_text(content)
        assert finished(tmp_path, CELL) is None
    assert sorted(aside.read_text() for aside in tmp_path.glob("rows.json.damaged-*")) == ["", "[]", "{"]
    _write(tmp_path)
    assert finished(tmp_path, {"n": 2}) is None
    assert "it is of another cell, n=1 name=größer. It is kept as rows.json.damaged-" in caplog.text
    assert not path.exists()


@pytest.mark.parametrize(
    "value", [np.float32(0.5), np.array(0.5), torch.tensor(0.5), torch.tensor(0.5, requires_grad=True)]
)
def test_scalars_of_arrays_become_plain(value):
    rows = tidy({"n": 1}, ({"acc": value, "right": np.bool_(True), "n": np.int64(1), "none": None},))
    assert rows == [{"n": 1, "acc": 0.5, "right": True, "none": None}]
    assert [type(each) for each in rows[0].values()] == [int, float, bool, type(None)]


def test_not_a_number_is_a_value():
    assert math.isnan(float(tidy({"n": 1}, [{"acc": math.nan}])[0]["acc"]))


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (None, "to return a sequence of rows, but for n=1 got None"),
        ({"acc": 1}, "sequence of rows"),
        ("rows", "sequence of rows"),
        ([1], "sequence of rows"),
        ([{"acc": torch.zeros(2)}], "to hold scalars, but `acc` is"),
        ([{1: 2}], "`1` is 2"),
        ([{"n": 2}], "to leave `n` as it is, but got 2. Rename it"),
    ],
)
def test_wrong_rows_are_refused(rows, says):
    with pytest.raises((TypeError, ValueError), match=says):
        tidy({"n": 1}, rows)


@dataclass(frozen=True)
class Options:
    steps: int = 20
    device: str = field(default="cpu", repr=False)


@dataclass(frozen=True)
class Train:
    options: Options = Options()
    model: object = None
    folder: str = field(default="x", repr=False)

    def __call__(self, cell, folder):
        return []


def test_descriptions_change_with_settings_and_with_nothing_else():
    assert describe(draw) == {"work": "draw"}
    assert (
        describe(Train(folder="y"))
        == describe(Train())
        == {
            "work": "Train",
            "options.steps": "20",
            "model": "None",
        }
    )
    assert describe(Train(Options(device="cuda"))) == describe(Train())
    assert describe(Train(Options(steps=7))) != describe(Train())
    assert describe(Train(model=object())) == describe(Train(model=object()))
    assert describe(functools.partial(Train(), n=2)) == {**describe(Train()), "work.n": "2"}
    assert describe(functools.partial(draw, 1)) != describe(functools.partial(draw, 2))


def test_differences_are_named():
    assert differences(describe(Trouble(1)), describe(Trouble(2))) == "`factor` was 1 and is 2"
    assert differences(describe(draw), describe(Trouble())) == (
        "`work` was draw and is Trouble, `factor` was not there and is 1"
    )
    many = differences({f"a{i}": "0" for i in range(9)}, {f"a{i}": "1" for i in range(9)})
    assert many.endswith("`a4` was 0 and is 1 and so on")
    assert len(differences({"a": "x" * 500}, {"a": "1"})) < 150


def test_artifacts_come_back_bit_for_bit(tmp_path):
    state = {"model": nn.Linear(3, 2).state_dict(), "epoch": 3, "name": "best"}
    save_artifact(tmp_path / "model.pt", state)
    loaded = load_artifact(tmp_path / "model.pt")
    assert loaded["epoch"] == 3
    assert all(torch.equal(loaded["model"][key], state["model"][key]) for key in state["model"])


def test_a_damaged_artifact_is_named(tmp_path):
    path = tmp_path / "model.pt"
    save_artifact(path, {"w": torch.zeros(100)})
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(CellsError, match="Delete the folder"):
        load_artifact(path)
    with pytest.raises(FileNotFoundError):
        load_artifact(tmp_path / "other.pt")


def test_what_could_not_be_loaded_safely_is_neither_saved_nor_loaded_nor_advised(tmp_path):
    path = tmp_path / "model.pt"
    torch.save({"model": nn.Linear(3, 2)}, path)
    with pytest.raises(CellsError, match="holds objects that are never loaded") as load:
        load_artifact(path)
    with pytest.raises(TypeError, match=r"Save `module.state_dict\(\)`") as save:
        save_artifact(tmp_path / "other.pt", {"model": nn.Linear(3, 2)})
    for error in (load.value, save.value):
        assert "weights_only" not in "".join(traceback.format_exception(error))
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_that_is_full_is_named(tmp_path, monkeypatch):
    def full(obj, path):
        path.write_bytes(b"half")
        raise RuntimeError("unexpected pos 2240 vs 2128")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match=r"model.pt could not be written. Is the disk full\? \(unexpected pos"):
        save_artifact(tmp_path / "model.pt", {})
    assert not list(tmp_path.iterdir())
