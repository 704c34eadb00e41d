import math

import numpy as np
import pandas as pd
import pytest
import torch

from lightning_robust.plots import PERCENT
from lightning_robust_studies.stutz2019.plots import (
    LinearFit,
    embedding,
    heat_map,
    histogram_panel,
    linear_fit,
    loss_surface,
    regression_scatter,
)
from lightning_robust_studies.stutz2019.plots.looks import area, look

RNG = np.random.default_rng(3)


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_slope_and_intercept_solve_the_normal_equations():
    x, y = RNG.standard_normal((2, 40))
    fit = linear_fit(x.tolist(), torch.from_numpy(y))
    assert (fit.slope, fit.intercept) == pytest.approx(tuple(np.polyfit(x, y, 1)))
    assert fit.r == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert fit.n == 40


def test_p_is_that_of_all_permutations():
    x, y = [0.0, 1.0, 2.0, 3.5, 5.0, 7.0], [0.3, 0.1, 0.8, 0.5, 1.4, 0.9]
    draws = RNG.permuted(np.tile(y, (20_000, 1)), axis=1)
    centered = np.array(x) - np.mean(x)
    as_extreme = np.abs(draws @ centered) >= abs(np.dot(y, centered)) - 1e-12
    assert linear_fit(x, y).p == pytest.approx(as_extreme.mean(), abs=0.02)


def test_p_is_students_t():
    fit = linear_fit([1.0, 2.0, 3.0], [1.0, 3.0, 2.0])  # one degree of freedom, where Student's t is Cauchy's law
    assert fit.r == pytest.approx(0.5)
    assert fit.p == pytest.approx(1 - 2 * math.atan(0.5 / math.sqrt(1 - 0.25)) / math.pi)


def test_the_interval_of_r_covers_the_correlation():
    x, noise = np.random.default_rng(3).standard_normal((2, 1000, 12))
    intervals = [linear_fit(a, b).interval for a, b in zip(x, 0.8 * x + 0.6 * noise, strict=True)]
    assert np.mean([low <= 0.8 <= high for low, high in intervals]) == pytest.approx(0.95, abs=0.02)


def test_three_points_say_nothing_of_r():
    assert linear_fit([0.0, 1.0, 2.0], [0.0, 1.0, 3.0]).interval == (-1.0, 1.0)
    assert linear_fit([0.0, 1.0, 2.0], [0.0, 1.0, 2.0]).interval == (-1.0, 1.0)


def test_fits_in_words():
    line = linear_fit(torch.arange(5), [3.0 - 2.0 * i for i in range(5)])
    assert (line.slope, line.intercept) == pytest.approx((-2.0, 3.0))
    assert line.text() == "r = -1.000 [-1.000, -1.000], p < 0.001, n = 5"
    flat = linear_fit([0.0, 1.0, 2.0], [0.5, 0.5, 0.5])
    assert (flat.slope, flat.intercept) == (0.0, 0.5)
    assert all(math.isnan(value) for value in (flat.r, flat.p, *flat.interval))
    assert flat.text() == "r and p n/a (all heights equal), n = 3"
    zero = LinearFit(0.0, 0.0, r=-0.0001, interval=(-0.664, 0.664), p=0.9, n=9)
    assert zero.text() == "r = 0.000 [-0.664, 0.664], p = 0.900, n = 9"
    assert linear_fit([0.0, 1.0], [0.0, 1.0]) is None
    assert linear_fit([0.3, 0.3, 0.3], [0.0, 1.0, 2.0]) is None


def test_each_panel_has_its_own_line_through_all_its_groups():
    x = RNG.uniform(0.05, 0.3, 32)
    rows = pd.DataFrame({"error": x, "success": 0.2 + 2 * x + 0.1 * RNG.standard_normal(32)})
    rows = rows.assign(scheme=["ab"[i % 2] for i in range(32)], threat=["on"] * 12 + ["off"] * 18 + ["few"] * 2)
    figure = regression_scatter(rows, "error", "success", group="scheme", panel="threat")
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["on", "off", "few"]
    for axes, threat in zip(figure.axes[:2], ("on", "off"), strict=True):
        panel = rows[rows["threat"] == threat]
        fit = linear_fit(panel["error"], panel["success"])
        ends = np.array([panel["error"].min(), panel["error"].max()])
        np.testing.assert_allclose(axes.lines[0].get_xydata(), np.stack([ends, fit.slope * ends + fit.intercept], 1))
        assert axes.texts[0].get_text() == fit.text()
        for dots in axes.collections:
            members = panel[panel["scheme"] == dots.get_label()]
            np.testing.assert_allclose(dots.get_offsets(), members[["error", "success"]])
    assert not figure.axes[2].lines
    assert figure.axes[2].texts[0].get_text() == "no line: n = 2"
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()
    assert legend(figure) == ["a", "b"]


def test_49_groups_are_told_apart_and_more_points_are_smaller():
    assert len({tuple(look(i).values()) for i in range(49)}) == 49
    assert [area(n) for n in (1, 10_000)] == [42.0, 8.0]
    assert area(200) > area(400)


def test_each_value_of_a_matrix_stands_in_its_cell_in_ink_that_can_be_read():
    matrix = pd.DataFrame([[0.9, 0.2, 0.05], [0.25, 0.0, np.nan]], ["a", "b"], ["c", "d", "e"])
    axes = heat_map(matrix, title="Transfer", xlabel="shown to", ylabel="made on").axes[0]
    texts = {text.get_position(): text.get_text() for text in axes.texts}
    assert texts == {(0, 0): "90.0", (1, 0): "20.0", (2, 0): "5.0", (0, 1): "25.0", (1, 1): "0.0", (2, 1): "n/a"}
    assert axes.get_ylim()[0] > axes.get_ylim()[1]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["c", "d", "e"]
    ink = {text.get_position(): text.get_color() for text in axes.texts}
    assert ink[0, 0] == "white" != ink[1, 1] == ink[2, 1]
    image = axes.images[0]
    assert image.get_clim() == (0.0, 0.9)
    brightness = image.to_rgba(np.linspace(0.0, 0.9, 20)[None])[0, :, :3].sum(1)
    assert (np.diff(brightness) < 0).all()


def test_a_matrix_without_a_value_is_drawn():
    axes = heat_map(pd.DataFrame([[np.nan]])).axes[0]
    assert [text.get_text() for text in axes.texts] == ["n/a"]


def test_heights_are_shares_over_bins_that_groups_have_in_common():
    values = {"off": (2.0 + RNG.standard_normal(301)).tolist(), "on": RNG.random(100).tolist()}
    figure = histogram_panel(values, unit=PERCENT, bins=25, xlabel="distance")
    axes = figure.axes[0]
    edges = np.linspace(min(map(min, values.values())), max(map(max, values.values())), 26)
    for patch, numbers, line, text in zip(axes.patches, values.values(), axes.lines, legend(figure), strict=True):
        heights, _ = np.histogram(numbers, edges)
        drawn = {round(float(x), 9): y for x, y in patch.get_xy()[:-1]}  # the outline: each edge twice
        assert sorted(drawn) == pytest.approx(edges[: len(drawn)])
        assert patch.get_xy()[:, 1].max() == pytest.approx(heights.max() / len(numbers))
        assert line.get_xdata() == pytest.approx([np.median(numbers)] * 2)
        assert f"(median {PERCENT.text(np.median(numbers))})" in text
    assert axes.get_xlabel() == "distance"


@pytest.mark.parametrize("constant", [0.0, 0.25, -3e8])
def test_values_that_are_all_alike_fall_into_one_bin(constant):
    patch = histogram_panel({"on": [constant] * 5}, unit=PERCENT, bins=11).axes[0].patches[0]
    assert patch.get_xy()[:, 1].max() == pytest.approx(1.0)


AXIS = torch.linspace(-1.0, 1.0, 21)


def test_the_surface_parts_at_zero_and_marks_stand_at_their_points():
    tilted = 2.0 * AXIS[:, None] + 3.0 * AXIS - 0.7
    figure = loss_surface(tilted, AXIS, {"clean": (0.0, 0.0), "attack": (1.0, 0.5)}, label="gain", xlabel="z1")
    axes = figure.axes[0]
    bands, line = axes.collections[:2]
    vertices = line.get_paths()[0].vertices
    np.testing.assert_allclose(2.0 * vertices[:, 0] + 3.0 * vertices[:, 1], 0.7, atol=1e-6)
    below, at, above = (np.array(bands.cmap(bands.norm(value))[:3]) for value in (-4.0, 0.0, 4.0))
    np.testing.assert_allclose(at, [1.0, 1.0, 1.0], atol=0.05)
    assert below[2] > below[0]
    assert above[0] > above[2]
    marks = {mark.get_label(): mark for mark in axes.lines[:2]}
    assert marks["attack"].get_xydata().tolist() == [[1.0, 0.5]]
    assert marks["clean"].get_marker() != marks["attack"].get_marker()
    assert legend(figure) == ["clean", "attack", "gain = 0"]
    assert axes.get_aspect() == 1.0


@pytest.mark.parametrize("height", [0.0, 2.0])
def test_a_surface_that_does_not_cross_zero_says_so(height):
    figure = loss_surface(torch.full((21, 21), height), AXIS, {}, label="gain")
    assert legend(figure) == ["gain = 0 (not crossed here)"]


def test_points_of_a_plane_are_those_of_their_group_and_later_groups_lie_on_top():
    points = {"data": torch.rand(10, 2), "off": torch.rand(1, 2), "on": torch.rand(3, 2)}
    figure = embedding(points, xlabel="first")
    axes = figure.axes[0]
    for dots, (name, group) in zip(axes.collections, points.items(), strict=True):
        assert dots.get_label() == name
        np.testing.assert_allclose(dots.get_offsets(), group)
    assert legend(figure) == list(points)
    assert axes.get_aspect() == 1.0
