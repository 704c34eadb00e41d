import numpy as np
import pytest

from lightning_robust_studies.schmidt2018.closed_form.figures import FIGURES


def lines(axes):
    return {line.get_label(): line.get_xydata() for line in axes.lines if not line.get_label().startswith("_")}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_have_lines_labels_and_a_caption(rows, tiny, name):
    figure, caption = FIGURES[name](rows, tiny)
    assert all(lines(axes) for axes in figure.axes)
    assert figure.axes[0].get_ylabel()
    assert figure.axes[0].get_xlabel()
    assert caption.endswith(".")


def test_the_gap_is_drawn_on_logarithmic_axes_a_panel_for_each_radius(rows, tiny):
    figure, _ = FIGURES["gap"](rows, tiny)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["eps = 0.25", "eps = 0.5"]
    assert {(axes.get_xscale(), axes.get_yscale()) for axes in figure.axes} == {("log", "log")}
    needed = rows.query("metric == 'samples' and curve == 'n_half' and eps == 0.5")
    np.testing.assert_array_equal(lines(figure.axes[1])["robust, 50 %"], needed[["d", "value"]].to_numpy(float))


def test_closed_forms_and_bounds_are_dashed_and_measured_curves_are_not(rows, tiny):
    for name in FIGURES:
        figure, _ = FIGURES[name](rows, tiny)
        for line in figure.axes[0].lines:
            if not line.get_label().startswith("_"):
                words = ("large d", "bound", "Theorem", "many samples", "known", "no linear", "least for any")
                exact = any(word in line.get_label() for word in words)
                if name != "bernoulli_radius" and line.get_label() != "linear, no attack":
                    assert (line.get_linestyle() == "--") == exact, line.get_label()


def test_two_labels_are_said_in_the_plural(rows, tiny):
    figure, caption = FIGURES["self_training"](rows, tiny)
    assert "2 labels only, attacked" in lines(figure.axes[0])
    assert "with 2 labels" in caption
