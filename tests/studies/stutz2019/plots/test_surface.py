import numpy as np
import pytest
import torch

from lightning_robust.plots import PERCENT
from lightning_robust_studies.stutz2019.plots import loss_surface

X, Y = torch.linspace(-1.0, 1.0, 21), torch.linspace(0.0, 1.0, 11)
TILTED = 2.0 * X[:, None] + 3.0 * Y[None, :]


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def filled(figure):
    return figure.axes[0].collections[0]


def test_bands_hold_the_points_whose_values_they_name():
    bands = filled(loss_surface(TILTED, X, Y))
    for a in range(1, 20):  # within, not on the border
        for b in range(1, 10):
            value = TILTED[a, b].item()
            holding = [k for k, path in enumerate(bands.get_paths()) if path.contains_point((X[a].item(), Y[b].item()))]
            assert holding
            assert all(bands.levels[k] - 1e-5 <= value <= bands.levels[k + 1] + 1e-5 for k in holding)


def test_the_level_line_is_where_a_plane_has_the_level():
    axes = loss_surface(TILTED, X, Y, level=0.7).axes[0]
    line = axes.collections[1]
    assert list(line.levels) == [0.7]
    vertices = line.get_paths()[0].vertices
    np.testing.assert_allclose(2.0 * vertices[:, 0] + 3.0 * vertices[:, 1], 0.7, atol=1e-6)


def test_colours_run_from_white_to_blue_or_part_at_the_level():
    def colour(bands, value):
        return np.array(bands.cmap(bands.norm(value))[:3])

    plain = filled(loss_surface(TILTED, X, Y))
    np.testing.assert_allclose(colour(plain, -2.0), [1.0, 1.0, 1.0])
    assert colour(plain, 5.0)[2] > colour(plain, 5.0)[0]
    parted = filled(loss_surface(TILTED, X, Y, level=1.0))
    np.testing.assert_allclose(colour(parted, 1.0), [1.0, 1.0, 1.0], atol=0.02)
    assert colour(parted, -2.0)[2] > colour(parted, -2.0)[0]
    assert colour(parted, 4.0)[0] > colour(parted, 4.0)[2]
    assert parted.norm.vmax - 1.0 == pytest.approx(1.0 - parted.norm.vmin)


def test_marks_stand_at_their_points_with_markers_of_their_own():
    figure = loss_surface(TILTED, X, Y, marks={"clean": (0.0, 0.0), "attack": (1.0, 0.5)}, level=0.0)
    marks = {line.get_label(): line for line in figure.axes[0].lines[:2]}
    assert marks["clean"].get_xydata().tolist() == [[0.0, 0.0]]
    assert marks["attack"].get_xydata().tolist() == [[1.0, 0.5]]
    assert marks["clean"].get_marker() != marks["attack"].get_marker()
    assert legend(figure) == ["clean", "attack", "gain = 0"]


def test_both_directions_have_one_scale_and_the_bar_its_unit():
    figure = loss_surface(TILTED, X, Y, unit=PERCENT, label="success", title="Title", xlabel="z1", ylabel="z2")
    figure.draw_without_rendering()
    axes = figure.axes[0]
    assert axes.get_aspect() == 1.0
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title(loc="left")) == ("z1", "z2", "Title")
    assert (*axes.get_xlim(), *axes.get_ylim()) == pytest.approx((-1.0, 1.0, 0.0, 1.0))
    (bar,) = axes.child_axes
    assert bar.get_ylabel() == "success"
    assert bar.yaxis.get_major_formatter()(0.5, 0) == "50 %"
    assert not figure.legends


@pytest.mark.parametrize("level", [None, 0.0, 2.0])
def test_a_flat_surface_is_one_band(level):
    figure = loss_surface(torch.full((3, 4), 2.0), [0, 1, 2], [0, 1, 2, 3], level=level)
    bands = filled(figure)
    assert sum(len(path.vertices) > 0 for path in bands.get_paths()) == 1


@pytest.mark.parametrize("level", [-100.0, 5.0, 100.0])
def test_a_level_that_no_value_crosses_has_no_line_and_the_legend_says_so(level):
    figure = loss_surface(TILTED, X, Y, level=level)
    assert len(figure.axes[0].collections) == 1
    assert legend(figure) == [f"gain = {level:g} (not crossed here)"]


@pytest.mark.parametrize(
    ("values", "x", "options", "message"),
    [
        (TILTED.T, X, {}, r"`values` to have shape \(21, 11\) as `x` and `y` say, but got \(11, 21\)"),
        (TILTED[0], X, {}, r"`values` to have shape \(A, B\)"),
        (TILTED / 0.0, X, {}, "`values` to be finite"),
        (TILTED, X.flip(0), {}, "`x` to be at least two increasing positions"),
        (TILTED[:1], X[:1], {}, "`x` to be at least two increasing positions, but got"),
        (TILTED, X, {"marks": {"far": (0.0, 1.1)}}, r"`marks\['far'\]` to lie in \[0, 1\] .* but got \(0\.0, 1\.1\)"),
        (TILTED, X, {"marks": {"far": (0.0, float("nan"))}}, r"`marks\['far'\]` to be finite"),
    ],
)
def test_bad_arguments_are_refused(values, x, options, message):
    with pytest.raises(ValueError, match=message):
        loss_surface(values, x, Y, **options)
