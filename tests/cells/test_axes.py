import pytest

from lightning_robust.cells.axes import check_cells, choose, expand
from lightning_robust.cells.errors import StudyArgumentError


def test_expand_is_the_product_with_the_last_axis_fastest():
    cells = expand(a=["x", "y"], n=range(3))
    assert cells == [{"a": a, "n": n} for a in ("x", "y") for n in (0, 1, 2)]
    assert expand(a=["x", "y"], n=range(3), where=lambda cell: cell["n"] == 2) == [
        {"a": "x", "n": 2},
        {"a": "y", "n": 2},
    ]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({}, "at least one axis"),
        ({"n": []}, "`n` to hold at least one value"),
        ({"n": 5}, "`n` to be a sequence"),
        ({"scheme": "normal"}, "`scheme` to be a sequence"),
        ({"n": [1, 2, 1.0]}, "each value once, but got 1.0 twice"),
        ({"n": [[1]]}, "`n` to hold scalars"),
        ({"n": [1], "where": lambda cell: cell["size"] > 1}, "axes n, but it asks for 'size'"),
        ({"n": [1], "where": lambda cell: cell["n"] > 1}, "keeps none of 1"),
    ],
)
def test_expand_refuses(arguments, says):
    with pytest.raises(StudyArgumentError, match=says):
        expand(**arguments)


def test_choose_keeps_the_order_asked_for_and_suggests():
    assert choose("n", [3, 1], known=[1, 2, 3]) == [3, 1]
    with pytest.raises(
        StudyArgumentError, match=r"`schemes` to be among normal, on-true, but got 'nromal'. Did you mean"
    ):
        choose("schemes", ["nromal"], known=["normal", "on-true"])
    with pytest.raises(StudyArgumentError, match="twice"):
        choose("n", [1, 1], known=[1])


@pytest.mark.parametrize(
    ("cells", "says"),
    [
        ([], "at least one cell"),
        ("ab", "a sequence"),
        ([{"n": 1}, {"n": 1.0}], "each cell once"),
        ([1], "not a mapping"),
    ],
)
def test_check_cells_refuses(cells, says):
    with pytest.raises(StudyArgumentError, match=says):
        check_cells(cells)
