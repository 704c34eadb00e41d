import math

import pandas as pd
import pytest

from lightning_robust.plots.rows import checked_rows


def test_missing_columns_and_empty_tables_are_refused():
    assert checked_rows([{"a": 1, "b": 2}], x="a", low=None) == [{"a": 1, "b": 2}]
    with pytest.raises(ValueError, match="at least one row, but got none"):
        checked_rows([])
    with pytest.raises(ValueError, match=r"row 1 lacks \['b'\]"):
        checked_rows([{"a": 1, "b": 2}, {"a": 1}], x="b")
    with pytest.raises(TypeError, match="list of dicts or a DataFrame, but got dict"):
        checked_rows({"a": [1]})


def test_a_data_frame_is_its_rows():
    frame = pd.DataFrame({"a": [1, None], "b": ["x", None], "c": [0.5, math.nan]}, index=[7, 8]).astype({"a": "Int64"})
    first, second = checked_rows(frame, low="c")
    assert first == {"a": 1, "b": "x", "c": 0.5}
    assert list(second) == ["a", "b", "c"]
    assert all(math.isnan(value) for value in second.values())
