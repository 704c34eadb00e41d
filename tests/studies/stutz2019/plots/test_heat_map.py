import math
from itertools import pairwise

import pytest
import torch

from lightning_robust.plots import PLAIN, png
from lightning_robust_studies.stutz2019.plots import heat_map

NAN = float("nan")
MATRIX = torch.tensor([[0.9, 0.2, 0.05], [0.25, 0.85, NAN]])
ROWS, COLUMNS = ["normal", "adversarial"], ["normal", "adversarial", "on-manifold"]


def cells(figure):
    return {text.get_position(): text for text in figure.axes[0].texts}


def test_each_value_stands_in_its_cell():
    texts = cells(heat_map(MATRIX, ROWS, COLUMNS))
    assert {place: text.get_text() for place, text in texts.items()} == {
        (0, 0): "90.0",
        (1, 0): "20.0",
        (2, 0): "5.0",
        (0, 1): "25.0",
        (1, 1): "85.0",
        (2, 1): "n/a",
    }


def test_rows_run_down_and_columns_to_the_right():
    axes = heat_map(MATRIX, ROWS, COLUMNS, xlabel="evaluated on", ylabel="made on").axes[0]
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    assert left < right
    assert bottom > top
    assert [label.get_text() for label in axes.get_yticklabels()] == ROWS
    assert [label.get_text() for label in axes.get_xticklabels()] == COLUMNS
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("evaluated on", "made on")


def test_larger_values_are_darker_from_white_at_zero_and_nan_is_white():
    image = heat_map(torch.linspace(0.0, 0.6, 20)[None], ["a"], [str(i) for i in range(20)]).axes[0].images[0]
    colours = torch.from_numpy(image.to_rgba(image.get_array())[0, :, :3])
    assert colours[0].tolist() == [1.0, 1.0, 1.0]
    assert (colours.sum(1).diff() < 0).all()
    assert image.get_clim() == pytest.approx((0.0, 0.6))
    image = heat_map(MATRIX, ROWS, COLUMNS).axes[0].images[0]
    assert image.to_rgba(image.get_array())[1, 2].tolist() == [1.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("matrix", "options", "limits"),
    [
        ([[0.2, 0.4]], {}, (0.0, 0.4)),
        ([[-0.2, 0.4]], {}, (-0.2, 0.4)),
        ([[0.0, 0.0]], {}, (0.0, 1.0)),
        ([[NAN, NAN]], {}, (0.0, 1.0)),
        ([[0.2, 0.4]], {"low": 0.1, "high": 1.0}, (0.1, 1.0)),
        ([[0.2, 0.4]], {"low": 0.5}, (0.5, 1.5)),
    ],
)
def test_range_of_colours(matrix, options, limits):
    assert heat_map(matrix, ["a"], ["a", "b"], **options).axes[0].images[0].get_clim() == pytest.approx(limits)


def test_letters_stand_out_from_their_cell():
    texts = cells(heat_map([[0.0, 1.0, NAN]], ["a"], ["a", "b", "c"]))
    assert texts[1, 0].get_color() == "white"
    assert texts[0, 0].get_color() == texts[2, 0].get_color() != "white"


def test_the_unit_joins_the_title():
    assert heat_map(MATRIX, ROWS, COLUMNS, title="Transfer").get_suptitle() == "Transfer [%]"
    assert heat_map(MATRIX, ROWS, COLUMNS).get_suptitle() == "[%]"
    figure = heat_map(MATRIX, ROWS, COLUMNS, unit=PLAIN, title="Transfer")
    assert figure.get_suptitle() == "Transfer"
    assert cells(figure)[0, 0].get_text() == "0.900"


@pytest.mark.parametrize("n", [2, 16])
def test_column_names_do_not_overlap(n):
    names = [f"model number {i}" for i in range(n)]
    figure = heat_map(torch.rand(n, n), names, names)
    png(figure, dpi=50)  # lays the figure out
    boxes = [label.get_window_extent() for label in figure.axes[0].get_xticklabels()]
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))
    assert figure.get_figwidth() <= 15.0


@pytest.mark.parametrize(
    ("matrix", "rows", "columns", "options", "message"),
    [
        ([0.1, 0.2], ["a"], ["a"], {}, r"`matrix` to have shape \(R, C\), none 0, but got \(2,\)"),
        ([[math.inf]], ["a"], ["a"], {}, "`matrix` to be finite or NaN, but got an infinite"),
        ([[0.1]], ["a", "b"], ["a"], {}, r"`row_names` to be 1 names, but got \['a', 'b'\]"),
        ([[0.1, 0.2]], ["a"], ["a"], {}, "`column_names` to be 2 names"),
        ([[0.1, 0.2]], ["a"], "ab", {}, "`column_names` to be 2 names, but got 'ab'"),
        ([[0.1]], ["a"], ["a"], {"low": 0.5, "high": 0.5}, r"`low` to be below `high` = 0\.5, but got 0\.5"),
    ],
)
def test_bad_arguments_are_refused(matrix, rows, columns, options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        heat_map(matrix, rows, columns, **options)
