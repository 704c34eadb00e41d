import numpy as np
import pytest

from lightning_robust.cells.cells import canonical, digest, folder_name, label, problem


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"eps": 8.0}, {"eps": 8}, True),
        ({"eps": -0.0}, {"eps": 0}, True),
        ({"eps": np.float64(0.3)}, {"eps": 0.3}, True),
        ({"flag": True}, {"flag": 1}, False),
        ({"n": "1"}, {"n": 1}, False),
        ({"n": None}, {"n": "none"}, False),
        ({"n": 1}, {"m": 1}, False),
        ({"eps": 0.3}, {"eps": 0.1 + 0.2}, False),
    ],
)
def test_cells_are_the_same_where_their_meaning_is(one, other, same):
    assert (canonical(one) == canonical(other)) is same
    assert (digest(one) == digest(other)) is same
    assert (folder_name(one) == folder_name(other)) is same


def test_folder_names_are_safe_short_and_distinct():
    cells = [{"text": "../../a b/c:*?\n" + "x" * 300 + str(at)} for at in range(50)]
    names = [folder_name(cell) for cell in cells]
    assert len(set(names)) == 50
    assert all(len(name) < 100 and not set(name) & set('/\\:*?"<>| \n') and not name.startswith(".") for name in names)


def test_label_keeps_the_order_of_the_cell():
    assert label({"z": 1, "a": "b", "t": True}) == "z=1 a=b t=true"


@pytest.mark.parametrize(
    "cell", [{}, [], "n=1", {1: 2}, {"": 2}, {"n": float("nan")}, {"n": float("inf")}, {"n": (1,)}, {"n": np.int64(1)}]
)
def test_what_is_no_cell_is_told(cell):
    assert problem(cell)
