import json
import math

import numpy as np
import pytest
import torch

from lightning_robust.cells.errors import DamagedFileError, RowsError
from lightning_robust.cells.records import (
    FILE,
    Record,
    cell_folder,
    decode,
    encode,
    read_record,
    tidy,
    versions,
    write_record,
)

CELL = {"scheme": "größer", "n": 500}
RECORD = Record(
    cell=CELL,
    rows=[{**CELL, "acc": 0.1 + 0.2, "note": None, "ok": True}, {**CELL, "acc": 1e-300, "text": 'a,"b"\n'}],
    seconds=1.5,
    work="train",
    versions=versions(),
)


def test_a_record_comes_back_exactly(tmp_path):
    assert decode(encode(RECORD), CELL) == RECORD
    write_record(tmp_path, RECORD)
    assert read_record(tmp_path, CELL) == RECORD
    assert list(read_record(tmp_path).rows[0]) == ["scheme", "n", "acc", "note", "ok"]
    assert read_record(tmp_path / "none") is None


def test_values_that_are_no_numbers_come_back():
    record = Record(cell={"n": 1}, rows=[{"n": 1, "a": math.nan, "b": math.inf, "c": -math.inf}], seconds=0.0, work="w")
    row = decode(encode(record)).rows[0]
    assert math.isnan(row["a"])
    assert (row["b"], row["c"]) == (math.inf, -math.inf)


def test_every_truncation_is_found():
    data = encode(RECORD)
    for length in range(len(data) - 1):  # the last byte is the newline
        with pytest.raises(DamagedFileError):
            decode(data[:length])


def test_every_change_of_a_digit_is_found():
    data = encode(RECORD)
    digits = [at for at, byte in enumerate(data) if chr(byte).isdigit()]
    assert len(digits) > 50
    for at in digits:
        other = b"1" if data[at : at + 1] != b"1" else b"2"
        with pytest.raises(DamagedFileError):
            decode(data[:at] + other + data[at + 1 :])


@pytest.mark.parametrize("data", [b"", b"null", b"[]", b"{}", b'{"checksum": "x"}', b"\xff\xfe", b"\0" * 100])
def test_what_is_no_record_is_found(data):
    with pytest.raises(DamagedFileError):
        decode(data)


def test_the_record_of_another_cell_is_found(tmp_path):
    write_record(tmp_path, RECORD)
    with pytest.raises(DamagedFileError, match=r"rows.json is damaged: it is of another cell, scheme=größer n=500"):
        read_record(tmp_path, {"scheme": "größer", "n": 501})


def test_the_file_is_plain_json_with_all_there_is_to_know(tmp_path):
    write_record(tmp_path, RECORD)
    content = json.loads((tmp_path / FILE).read_text(encoding="utf-8"))
    assert set(content) == {"checksum", "cell", "rows", "seconds", "work", "versions"}
    assert set(content["versions"]) == {"python", "torch", "lightning_robust"}


def test_rows_get_the_cell_in_front_and_plain_scalars():
    rows = tidy(
        {"n": 5}, [{"acc": torch.tensor(0.5), "k": np.int64(3), "b": np.array(True)}, {"n": 5.0, "s": np.str_("t")}]
    )
    assert rows == [{"n": 5, "acc": 0.5, "k": 3, "b": True}, {"n": 5, "s": "t"}]
    assert [type(value) for value in rows[0].values()] == [int, float, int, bool]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (None, "a sequence of rows"),
        ("ab", "a sequence of rows"),
        ({"acc": 1}, "a sequence of rows"),
        ([1], "a row to be a mapping"),
        ([{"acc": [1]}], "`acc` is"),
        ([{"acc": torch.zeros(1)}], "`acc` is"),
        ([{1: 1}], "`1` is"),
        ([{"n": 6}], "leave `n` as it is, but got 6"),
        ([{"n": math.nan}], "leave `n` as it is"),
    ],
)
def test_other_rows_are_refused(rows, says):
    with pytest.raises(RowsError, match=says):
        tidy({"n": 5}, rows)


def test_cell_folder_is_where_the_study_put_it(tmp_path):
    assert cell_folder(tmp_path, "models", {"n": 5.0}) == cell_folder(str(tmp_path), "models", {"n": 5})
    assert cell_folder(tmp_path, "models", {"n": 5}).parent == tmp_path / "models"
