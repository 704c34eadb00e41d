import pytest

from lightning_robust.cells import cell_folder, expand
from lightning_robust.cells.cell import canonical, checked_cells, digest, label


def test_expand_is_the_product_in_order():
    cells = expand(scheme=["a", "b"], n=range(2), eps=(0.5,))
    assert [tuple(cell.values()) for cell in cells] == [("a", 0, 0.5), ("a", 1, 0.5), ("b", 0, 0.5), ("b", 1, 0.5)]


@pytest.mark.parametrize(
    ("axes", "says"),
    [
        ({}, "at least one axis"),
        ({"n": []}, "`n` to hold at least one value"),
        ({"n": "abc"}, "`n` to be a sequence"),
        ({"n": 3}, "`n` to be a sequence"),
        ({"n": [1, 1.0]}, r"`n` to hold each cell once, but got {'n': 1.0} twice"),
        ({"n": [[1]]}, r"`n` to hold text, .* but `n` is \[1\]"),
        ({"n": [float("nan")]}, "`n` is nan"),
    ],
)
def test_wrong_axes_are_refused(axes, says):
    with pytest.raises((TypeError, ValueError), match=says):
        expand(**axes)


@pytest.mark.parametrize("cells", [[], [{}], [3], ["n"], {"n": 1}, [{1: 2}], [{"": 2}], [{"n": 1}, {"n": 1.0}]])
def test_wrong_cells_are_refused(cells):
    with pytest.raises((TypeError, ValueError), match="argument `cells`"):
        checked_cells(cells)


def test_one_cell_has_one_text_however_it_is_written():
    assert canonical({"b": 1.0, "a": "x"}) == canonical({"a": "x", "b": 1}) == '{"a":"x","b":1}'
    texts = {canonical({"a": value}) for value in (True, 1, "1", None, 1.5, "None", False, 0)}
    assert len(texts) == 8


def test_a_folder_is_named_for_people_and_for_certain(tmp_path):
    folder = cell_folder(tmp_path, {"scheme": "on true/../x", "n": 500.0})
    assert folder.parent == tmp_path
    assert folder.name == f"n=500_scheme=on-true-..-x-{digest({'n': 500, 'scheme': 'on true/../x'})}"
    long = cell_folder(tmp_path, {f"name{i}": "value" for i in range(50)})
    assert len(long.name) == 80 + 13
    assert label({"n": None, "flag": True, "s": "x y"}) == "n=none flag=true s=x y"
