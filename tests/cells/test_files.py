import os
import traceback

import pytest
import torch
from torch import nn

from lightning_robust.cells.errors import DamagedFileError
from lightning_robust.cells.files import load_artifact, remove_leftovers, replacing, save_artifact, set_aside


def _crash(*args):
    raise OSError("no space left")


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_crash_at_any_step_leaves_the_old_content(tmp_path, monkeypatch, step):
    path = tmp_path / "file"
    path.write_text("old")
    monkeypatch.setattr(os, step, _crash)
    with pytest.raises(OSError, match="no space"), replacing(path) as new:
        new.write_text("new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_crash_while_writing_leaves_the_old_content(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(OSError, match="no space"), replacing(path) as new:
        _crash(new.write_text("half of the n"))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_content_is_on_the_disk_before_it_takes_the_place(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (calls.append("fsync"), fsync(handle)))
    monkeypatch.setattr(os, "replace", lambda *paths: (calls.append("replace"), replace(*paths)))
    with replacing(tmp_path / "file") as new:
        new.write_text("new")
    assert calls == ["fsync", "replace", "fsync"]
    assert (tmp_path / "file").read_text() == "new"


def test_leftovers_go_and_nothing_else(tmp_path):
    for name in (".rows.json.1f.tmp", "rows.json", "weights.pt", "notes.tmp"):
        (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.tmp", "rows.json", "weights.pt"]


def test_set_aside_never_overwrites(tmp_path):
    path = tmp_path / "rows.json"
    for content in "abc":
        path.write_text(content)
        set_aside(path)
    names = ["rows.json.damaged", "rows.json.damaged-2", "rows.json.damaged-3"]
    assert [(tmp_path / name).read_text() for name in names] == ["a", "b", "c"]


def test_artifacts_come_back_bit_for_bit(tmp_path):
    state = {"model": nn.Linear(3, 2).state_dict(), "epoch": 3, "name": "best"}
    save_artifact(tmp_path / "model.pt", state)
    loaded = load_artifact(tmp_path / "model.pt")
    assert loaded["epoch"] == 3
    assert all(torch.equal(loaded["model"][key], state["model"][key]) for key in state["model"])


def test_what_could_not_be_loaded_safely_is_not_saved(tmp_path):
    with pytest.raises(TypeError, match=r"Save `module.state_dict\(\)`"):
        save_artifact(tmp_path / "model.pt", {"model": nn.Linear(3, 2)})
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_artifact_is_told(tmp_path):
    path = tmp_path / "model.pt"
    save_artifact(path, {"w": torch.zeros(100)})
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DamagedFileError, match="Delete the folder"):
        load_artifact(path)
    with pytest.raises(FileNotFoundError):
        load_artifact(tmp_path / "other.pt")


def test_a_disk_that_is_full_is_called_so(tmp_path, monkeypatch):
    def full(obj, path):
        path.write_bytes(b"half")
        raise RuntimeError("unexpected pos 2240 vs 2128")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match=r"model.pt could not be written. Is the disk full\? \(unexpected pos"):
        save_artifact(tmp_path / "model.pt", {})
    assert not list(tmp_path.iterdir())


def test_no_error_advises_to_load_unsafely(tmp_path):
    path = tmp_path / "model.pt"
    torch.save({"model": nn.Linear(3, 2)}, path)
    with pytest.raises(DamagedFileError, match="holds objects that are never loaded") as load:
        load_artifact(path)
    with pytest.raises(TypeError) as save:
        save_artifact(tmp_path / "other.pt", {"model": nn.Linear(3, 2)})
    for error in (load.value, save.value):
        assert "weights_only" not in "".join(traceback.format_exception(error))
        assert "can still be loaded" not in "".join(traceback.format_exception(error))
