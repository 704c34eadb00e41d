import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from lightning_robust.plots import PLAIN, Estimate, curve_panel, radius_curve

RNG = np.random.default_rng(1)
CURVES = {name: RNG.uniform(0.3, 0.6, 5) for name in ("normal", "robust")}
N = (500, 1000, 2500, 10000, 20000)


def rows(**more):
    return [
        {"N": n, "error": y, "low": y - 0.05, "high": y + 0.1, "model": name, **more}
        for name, curve in CURVES.items()
        for n, y in zip(N, curve, strict=True)
    ]


def lines(axes):
    return {line.get_label(): line.get_xydata() for line in axes.lines}


def test_lines_are_the_input_whatever_the_order_of_rows():
    shuffled = [rows()[i] for i in RNG.permutation(len(rows()))]
    for table in (rows(), shuffled):
        drawn = lines(curve_panel(table, "N", "error", group="model").axes[0])
        assert set(drawn) == set(CURVES)
        for name, curve in CURVES.items():
            np.testing.assert_allclose(drawn[name], np.stack([N, curve], 1))


def test_bands_reach_from_low_to_high_in_the_color_of_their_line():
    axes = curve_panel(rows(), "N", "error", low="low", high="high", group="model").axes[0]
    for line, band in zip(axes.lines, axes.collections, strict=True):
        curve = CURVES[line.get_label()]
        corners = {(x, round(y, 9)) for x, y in band.get_paths()[0].vertices}
        for n, y in zip(N, curve, strict=True):
            assert (n, round(y - 0.05, 9)) in corners
            assert (n, round(y + 0.1, 9)) in corners
        assert tuple(band.get_facecolor()[0][:3]) == to_rgb(line.get_color())


def test_no_band_without_ends():
    assert len(curve_panel(rows(), "N", "error", group="model").axes[0].collections) == 0


def test_panels_share_axes_and_colors():
    table = rows(threat="pixels") + [row for row in rows(threat="manifold") if row["model"] == "robust"]
    figure = curve_panel(table, "N", "error", group="model", panel="threat", title="Title", ylabel="error")
    left, right = figure.axes
    assert [axes.get_title(loc="left") for axes in (left, right)] == ["pixels", "manifold"]
    assert figure.get_suptitle() == "Title"
    assert left.get_ylim() == right.get_ylim()
    color = {line.get_label(): line.get_color() for line in left.lines}
    assert [(line.get_label(), line.get_color()) for line in right.lines] == [("robust", color["robust"])]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(CURVES)


def test_log_axis_has_its_ticks_at_the_values():
    figure = curve_panel(rows(), "N", "error", group="model", xscale="log", xlabel="images")
    figure.draw_without_rendering()
    axes = figure.axes[0]
    assert axes.get_xscale() == "log"
    assert tuple(axes.get_xticks()) == N
    assert [label.get_text() for label in axes.get_xticklabels()] == ["500", "1,000", "2,500", "10,000", "20,000"]
    assert axes.get_xlabel() == "images"


def test_epochs_have_whole_ticks_and_the_unit_is_used():
    table = [{"epoch": e, "loss": 1.0 / (1 + e)} for e in range(3)]
    axes = curve_panel(table, "epoch", "loss", unit=PLAIN).axes[0]
    assert all(tick == round(tick) for tick in axes.get_xticks())
    assert axes.yaxis.get_major_formatter()(0.5, 0) == "0.5"
    assert axes.get_xlabel() == "epoch"
    assert curve_panel(table, "epoch", "loss").axes[0].yaxis.get_major_formatter()(0.5, 0) == "50 %"


def test_nan_interrupts_the_line():
    table = [{"epoch": e, "acc": float("nan") if e == 2 else 0.5} for e in range(5)]
    for rows_of_line in (table, pd.DataFrame(table)):
        y = curve_panel(rows_of_line, "epoch", "acc").axes[0].lines[0].get_ydata()
        assert np.isnan(y).tolist() == [False, False, True, False, False]


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        ([], {}, "at least one row"),
        ([{"N": 1}], {}, r"row 0 lacks \['error'\]"),
        (rows(), {"low": "low"}, "given together"),
        (rows(), {"group": "absent"}, "lacks"),
        (rows(), {}, "got two at 500"),
        (rows(), {"group": "model", "xscale": "cubic"}, "`xscale` to be one of .*, but got 'cubic'"),
        ([{"N": 0, "error": 0.5}], {"xscale": "log"}, "positive and finite on a logarithmic axis, but got 0.0"),
        ([{"N": float("nan"), "error": 0.5}], {}, "to be finite, but got nan"),
    ],
)
def test_bad_arguments_are_refused(table, options, message):
    with pytest.raises(ValueError, match=message):
        curve_panel(table, "N", "error", **options)


def test_dashed_groups_have_the_color_they_are_given_and_no_markers():
    table = rows() + [{**row, "model": f"{row['model']}, bound"} for row in rows()]
    dashed = {"normal, bound": "normal", "robust, bound": "robust, bound"}
    axes = curve_panel(table, "N", "error", group="model", dashed=dashed).axes[0]
    drawn = {line.get_label(): line for line in axes.lines}
    assert [drawn[name].get_linestyle() for name in ("normal", "normal, bound", "robust, bound")] == ["-", "--", "--"]
    assert drawn["normal, bound"].get_marker() in ("", "None")
    assert drawn["normal"].get_marker() == "o"
    assert drawn["normal, bound"].get_color() == drawn["normal"].get_color()
    assert len({drawn[name].get_color() for name in ("normal", "robust", "robust, bound")}) == 3


def test_a_logarithmic_y_axis_with_its_ends_and_what_is_not_positive_left_out():
    table = [{"N": n, "error": y} for n, y in zip(N, (1.0, 0.1, 0.01, 0.0, -0.1), strict=True)]
    figure = curve_panel(table, "N", "error", yscale="log", ylim=(1e-3, 2.0))
    figure.draw_without_rendering()
    axes = figure.axes[0]
    assert axes.get_yscale() == "log"
    assert axes.get_ylim() == (1e-3, 2.0)
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert {"100 %", "10 %", "1 %", "0.1 %"} <= set(labels)


def test_ticks_stand_where_they_are_asked_for_and_marks_where_they_belong():
    figure = curve_panel(rows(), "N", "error", group="model", xscale="log", xticks=(500, 20000), marks={"enough": 2000})
    figure.draw_without_rendering()
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["500", "20,000"]
    assert [text.get_text() for text in axes.texts] == ["enough"]
    mark = next(line for line in axes.lines if line.get_label().startswith("_"))
    assert set(mark.get_xdata()) == {2000}
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(CURVES)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"yscale": "cubic"}, "`yscale` to be one of .*, but got 'cubic'"),
        ({"ylim": (1.0, 1.0)}, r"`ylim` to be a pair of numbers .*, but got \(1.0, 1.0\)"),
        ({"ylim": (0.0, 1.0), "yscale": "log"}, "`ylim` to be positive on a logarithmic axis"),
        ({"dashed": {"absent": "normal"}}, r"`dashed` to name groups among \('normal', 'robust'\), but got 'absent'"),
        ({"dashed": {"normal": "absent"}}, r"`dashed` to name groups among \('normal', 'robust'\), but got 'absent'"),
        ({"marks": {"here": 0.0}, "xscale": "log"}, "argument `marks` to be positive and finite on a logarithmic"),
        ({"xticks": (1, float("inf"))}, r"argument `xticks\[1\]` to be a number and finite, but got inf"),
    ],
)
def test_bad_drawing_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        curve_panel(rows(), "N", "error", group="model", **options)


# ---- over the radius


def accuracies(**more):
    return [
        Estimate(0.9 - radius * slope, 0.85 - radius * slope, 0.95 - radius * slope, 500).row(
            model=model, radius=radius, **more
        )
        for model, slope in (("normal", 3.0), ("robust", 1.0))
        for radius in (0.0, 0.1, 0.2)
    ]


def test_robust_accuracy_over_the_radius_has_a_line_and_a_band_for_each_model():
    for rows_of_models in (accuracies(), pd.DataFrame(accuracies())):
        axes = radius_curve(rows_of_models, title="T").axes[0]
        assert (axes.get_ylim(), axes.get_title(loc="left"), len(axes.collections)) == ((0.0, 1.0), "T", 2)
        drawn = lines(axes)
        np.testing.assert_allclose(drawn["normal"], [(0.0, 0.9), (0.1, 0.6), (0.2, 0.3)])
        np.testing.assert_allclose(drawn["robust"], [(0.0, 0.9), (0.1, 0.8), (0.2, 0.7)])
    figure = radius_curve(accuracies(threat="pixels") + accuracies(threat="manifold"), panel="threat")
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["pixels", "manifold"]
