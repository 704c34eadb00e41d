import csv
import math
import os
import sys

import pytest

from lightning_robust.cells.errors import StudyArgumentError
from lightning_robust.cells.tables import columns, write_table

ROWS = [
    {"scheme": "normal", "n": 500, "acc": 0.1 + 0.2, "ok": True, "note": 'comma, "quote"\nline'},
    {"scheme": "on, true", "n": 2**60, "acc": math.nan, "ok": False, "note": None, "late": 1},
    {"scheme": "größer", "n": -3, "acc": 1e-300, "ok": None, "late": 2.5},
]


def test_the_csv_round_trips(tmp_path):
    path = write_table(ROWS, tmp_path / "new" / "folder")[0]
    with path.open(newline="", encoding="utf-8") as file:
        back = list(csv.DictReader(file, strict=True))
    assert list(back[0]) == columns(ROWS) == ["scheme", "n", "acc", "ok", "note", "late"]
    assert [row["scheme"] for row in back] == ["normal", "on, true", "größer"]
    assert [int(row["n"]) for row in back] == [500, 2**60, -3]
    assert float(back[0]["acc"]) == 0.1 + 0.2
    assert math.isnan(float(back[1]["acc"]))
    assert float(back[2]["acc"]) == 1e-300
    assert [row["ok"] for row in back] == ["true", "false", ""]
    assert [row["note"] for row in back] == [ROWS[0]["note"], "", ""]
    assert [row["late"] for row in back] == ["", "1", "2.5"]


def test_the_csv_is_that_of_the_rfc(tmp_path):
    path = write_table([{"a": 'x"y', "b": 1}, {"a": "p,q", "b": None}], tmp_path)[0]
    assert path.read_bytes() == b'a,b\r\n"x""y",1\r\n"p,q",\r\n'


def test_a_crash_keeps_the_old_table(tmp_path, monkeypatch):
    path = write_table([{"a": 1}], tmp_path)[0]
    before = path.read_bytes()

    def crash(*args):
        raise OSError("crash")

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(OSError, match="crash"):
        write_table(ROWS, tmp_path)
    assert path.read_bytes() == before
    assert not list(tmp_path.glob(".*"))


def test_parquet_has_typed_columns(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    paths = write_table([*ROWS, {"mixed": "a"}, {"mixed": 3}, {"mixed": True, "n": None, "never": None}], tmp_path)
    assert [path.name for path in paths] == ["results.csv", "results.parquet"]
    table = parquet.read_table(paths[1])
    types = {field.name: str(field.type) for field in table.schema}
    assert types == {
        "scheme": "string",
        "n": "int64",
        "acc": "double",
        "ok": "bool",
        "note": "string",
        "late": "double",
        "mixed": "string",
        "never": "string",
    }
    assert table["n"].to_pylist() == [500, 2**60, -3, None, None, None]
    assert table["mixed"].to_pylist() == [None, None, None, "a", "3", "true"]
    assert table["late"].to_pylist()[:3] == [None, 1.0, 2.5]


def test_integers_beyond_64_bits_become_text(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    path = write_table([{"n": 2**63}, {"n": 1}], tmp_path)[1]
    assert parquet.read_table(path)["n"].to_pylist() == [str(2**63), "1"]


def test_without_pyarrow_there_is_the_csv_alone_and_no_old_parquet(tmp_path, monkeypatch):
    (tmp_path / "results.parquet").write_text("old")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert [path.name for path in write_table(ROWS, tmp_path)] == ["results.csv"]
    assert [path.name for path in tmp_path.iterdir()] == ["results.csv"]


def test_no_rows_are_refused(tmp_path):
    with pytest.raises(StudyArgumentError, match="`rows` to hold at least one row"):
        write_table([], tmp_path)
