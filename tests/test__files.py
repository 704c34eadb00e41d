import os
import stat
from pathlib import Path

import pytest

from lightning_robust._files import replacing, write_bytes, write_text


def test_writes_in_new_folders_and_over_old_files(tmp_path):
    path = tmp_path / "a" / "b" / "page.html"
    assert write_text(path, "first") == path
    write_text(path, "größer\n")
    assert path.read_bytes() == "größer\n".encode()
    assert list(path.parent.iterdir()) == [path]


def test_has_the_permissions_of_an_ordinary_file(tmp_path):
    (tmp_path / "ordinary").write_bytes(b"")
    mode = stat.S_IMODE((tmp_path / "ordinary").stat().st_mode)
    assert stat.S_IMODE(write_bytes(tmp_path / "ours", b"").stat().st_mode) == mode


def _fail(*args):
    raise OSError("no space left")


@pytest.mark.parametrize(("owner", "step"), [(os, "fsync"), (Path, "replace"), (Path, "write_bytes")])
def test_a_failure_at_any_step_leaves_the_old_file_and_no_temporary_one(tmp_path, monkeypatch, owner, step):
    path = tmp_path / "file"
    path.write_text("old")
    monkeypatch.setattr(owner, step, _fail)
    with pytest.raises(OSError, match="no space left"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_in_the_block_leaves_the_old_file(tmp_path):
    write_text(tmp_path / "file", "old")
    with pytest.raises(OSError, match="no space"), replacing(tmp_path / "file") as temporary:
        _fail(temporary.write_text("half of the n"))
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_the_content_is_on_the_disk_before_it_takes_the_name(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (calls.append("fsync"), fsync(handle)))
    monkeypatch.setattr(Path, "replace", lambda *paths: (calls.append("replace"), replace(*paths)))
    write_text(tmp_path / "file", "new")
    assert calls == ["fsync", "replace"]
