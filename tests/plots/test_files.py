import stat
from pathlib import Path

import pytest

from lightning_robust.plots import write_bytes, write_text


def test_writes_in_new_folders_and_over_old_files(tmp_path):
    path = tmp_path / "a" / "b" / "page.html"
    assert write_text(path, "first") == path
    write_text(path, "größer")
    assert path.read_text(encoding="utf-8") == "größer"
    assert [file.name for file in path.parent.iterdir()] == ["page.html"]


def test_has_the_permissions_of_an_ordinary_file(tmp_path):
    (tmp_path / "ordinary").write_bytes(b"")
    mode = stat.S_IMODE((tmp_path / "ordinary").stat().st_mode)
    assert stat.S_IMODE(write_bytes(tmp_path / "ours", b"").stat().st_mode) == mode


def test_a_failure_leaves_the_old_file_and_no_temporary_one(tmp_path, monkeypatch):
    path = write_bytes(tmp_path / "file", b"old")

    def fail(self, target):
        assert self.read_bytes() == b"new"  # the whole new content is beside the old file by now
        assert Path(target).read_bytes() == b"old"
        raise OSError("no room")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="no room"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
