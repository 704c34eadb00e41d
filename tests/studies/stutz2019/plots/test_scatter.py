import math

import numpy as np
import pytest
import torch

from lightning_robust.plots import PLAIN
from lightning_robust_studies.stutz2019.plots import LinearFit, linear_fit, regression_scatter

RNG = np.random.default_rng(3)
NAN = float("nan")


def rows(n=12, **more):
    return [
        {"error": e, "success": 0.2 + 2 * e + 0.1 * RNG.standard_normal(), "scheme": "ab"[i % 2], **more}
        for i, e in enumerate(RNG.uniform(0.05, 0.3, n))
    ]


def columns(table):
    return [row["error"] for row in table], [row["success"] for row in table]


def test_slope_and_intercept_solve_the_normal_equations():
    x, y = RNG.standard_normal((2, 40))
    fit = linear_fit(x.tolist(), torch.from_numpy(y))
    slope, intercept = np.polyfit(x, y, 1)
    assert (fit.slope, fit.intercept) == pytest.approx((slope, intercept))
    assert fit.r == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert fit.n == 40
    assert fit.at(2.5) == pytest.approx(slope * 2.5 + intercept)


def test_p_is_that_of_all_permutations():
    x, y = [0.0, 1.0, 2.0, 3.5, 5.0, 7.0], [0.3, 0.1, 0.8, 0.5, 1.4, 0.9]
    draws = RNG.permuted(np.tile(y, (20_000, 1)), axis=1)
    centred = np.array(x) - np.mean(x)
    as_extreme = np.abs(draws @ centred) >= abs(np.dot(y, centred)) - 1e-12
    assert linear_fit(x, y).p == pytest.approx(as_extreme.mean(), abs=0.02)


def test_p_is_students_t():
    x, y = [1.0, 2.0, 3.0], [1.0, 3.0, 2.0]  # r = 1/2; one degree of freedom, where Student's t is Cauchy's law
    fit = linear_fit(x, y)
    assert fit.r == pytest.approx(0.5)
    t = 0.5 / math.sqrt(1 - 0.25)
    assert fit.p == pytest.approx(1 - 2 * math.atan(t) / math.pi)


def test_a_perfect_line():
    fit = linear_fit(torch.arange(5), [3.0 - 2.0 * i for i in range(5)])
    assert (fit.slope, fit.intercept, fit.r) == pytest.approx((-2.0, 3.0, -1.0))
    assert fit.text() == "r = -1.000 [-1.000, -1.000], p < 0.001, n = 5"


def test_equal_heights_have_no_correlation():
    fit = linear_fit([0.0, 1.0, 2.0], [0.5, 0.5, 0.5])
    assert (fit.slope, fit.intercept, fit.n) == (0.0, 0.5, 3)
    assert math.isnan(fit.r)
    assert math.isnan(fit.p)
    assert all(math.isnan(end) for end in fit.interval)
    assert fit.text() == "r and p n/a (all heights equal), n = 3"


def test_no_minus_zero_is_written():
    assert (
        LinearFit(0.0, 0.0, r=-0.0001, interval=(-0.664, 0.664), p=0.9, n=9).text()
        == "r = 0.000 [-0.664, 0.664], p = 0.900, n = 9"
    )


def test_the_interval_of_r_covers_the_correlation():
    x, noise = np.random.default_rng(3).standard_normal((2, 1000, 12))
    intervals = [linear_fit(a, b).interval for a, b in zip(x, 0.8 * x + 0.6 * noise, strict=True)]
    assert np.mean([low <= 0.8 <= high for low, high in intervals]) == pytest.approx(0.95, abs=0.02)


def test_three_points_say_nothing_of_r():
    assert linear_fit([0.0, 1.0, 2.0], [0.0, 1.0, 3.0]).interval == (-1.0, 1.0)
    assert linear_fit([0.0, 1.0, 2.0], [0.0, 1.0, 2.0]).interval == (-1.0, 1.0)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ([0.0, 1.0], [0.0, 1.0], "`x` to have at least 3 points, but got 2"),
        ([0.0, 1.0, 2.0], [0.0, 1.0], "`x` and `y` to have one length, but got 3 and 2"),
        ([0.0, 1.0, NAN], [0.0, 1.0, 2.0], "`x` to be finite, but got nan"),
        ([0.0, 1.0, 2.0], [0.0, math.inf, 2.0], "`y` to be finite, but got inf"),
        ([0.3, 0.3, 0.3], [0.0, 1.0, 2.0], r"`x` to hold at least two values, but got only 0\.3"),
        ([[0.0], [1.0], [2.0]], [0.0, 1.0, 2.0], r"`x` to have shape \(n,\)"),
    ],
)
def test_no_line_through_bad_points(x, y, message):
    with pytest.raises(ValueError, match=message):
        linear_fit(x, y)


def test_points_are_the_rows_of_their_group():
    table = rows()
    axes = regression_scatter(table, "error", "success", group="scheme").axes[0]
    assert [dots.get_label() for dots in axes.collections] == ["a", "b"]
    for dots in axes.collections:
        expected = [(r["error"], r["success"]) for r in table if r["scheme"] == dots.get_label()]
        np.testing.assert_allclose(dots.get_offsets(), expected)


def test_each_panel_has_its_own_line_through_all_its_groups():
    on, off = rows(threat="on"), rows(20, threat="off")
    table = [row for pair in zip(on, off, strict=False) for row in pair] + off[12:]
    figure = regression_scatter(table, "error", "success", group="scheme", panel="threat", title="T", ylabel="success")
    assert figure.get_suptitle() == "T"
    for axes, members in zip(figure.axes, (on, off), strict=True):
        x, y = columns(members)
        fit = linear_fit(x, y)
        ends = [min(x), max(x)]
        (line,) = axes.lines
        np.testing.assert_allclose(line.get_xydata(), [(end, fit.at(end)) for end in ends])
        assert axes.texts[0].get_text() == fit.text()
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["on", "off"]
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"]


@pytest.mark.parametrize(
    ("table", "text"),
    [
        (rows(2), "no line: n = 2"),
        ([{"error": 0.1, "success": s} for s in (0.1, 0.2, 0.3)], "no line: one position, n = 3"),
    ],
)
def test_a_panel_without_a_line_says_so(table, text):
    axes = regression_scatter(table, "error", "success").axes[0]
    assert not axes.lines
    assert axes.texts[0].get_text() == text
    assert sum(len(dots.get_offsets()) for dots in axes.collections) == len(table)


def test_without_groups_there_is_no_legend_and_labels_are_the_columns():
    figure = regression_scatter(rows(), "error", "success", yunit=PLAIN)
    axes = figure.axes[0]
    assert not figure.legends
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("error", "success")
    assert axes.xaxis.get_major_formatter()(0.5, 0) == "50 %"
    assert axes.yaxis.get_major_formatter()(0.5, 0) == "0.5"


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        ([], {}, "at least one row"),
        ([{"error": 0.1}], {}, r"row 0 lacks \['success'\]"),
        (rows(3), {"panel": "threat"}, "lacks"),
        (
            [{"error": 0.1, "success": 0.1}, {"error": NAN, "success": 0.1}],
            {},
            "`error` to be finite, but got nan in row 1",
        ),
        ([{"error": 0.1, "success": math.inf}], {}, "`success` to be finite, but got inf in row 0"),
    ],
)
def test_bad_arguments_are_refused(table, options, message):
    with pytest.raises(ValueError, match=message):
        regression_scatter(table, "error", "success", **options)
