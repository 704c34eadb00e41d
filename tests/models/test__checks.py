import pytest

from lightning_robust.models._checks import check_counts, height_and_width


def test_sizes():
    assert height_and_width(28) == (28, 28)
    assert height_and_width([56, 48]) == (56, 48)


def test_counts():
    check_counts(a=1, b=2)
    with pytest.raises(ValueError, match="`b` to be a positive integer, but got 0"):
        check_counts(a=1, b=0)
