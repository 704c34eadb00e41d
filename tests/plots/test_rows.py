import pytest

from lightning_robust.plots.rows import check_columns, distinct


def test_distinct_keeps_the_order_of_first_appearance():
    assert distinct([{"a": 3}, {"a": 1}, {"a": 3}, {"a": 2}], "a") == (3, 1, 2)


def test_missing_columns_and_empty_tables_are_refused():
    check_columns([{"a": 1, "b": 2}], ["a"])
    with pytest.raises(ValueError, match="at least one row, but got none"):
        check_columns([], ["a"])
    with pytest.raises(ValueError, match=r"row 1 lacks \['b'\]"):
        check_columns([{"a": 1, "b": 2}, {"a": 1}], ["a", "b"])
