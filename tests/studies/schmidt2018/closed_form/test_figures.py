import numpy as np
import pytest

from lightning_robust_studies.schmidt2018.closed_form.claims import select
from lightning_robust_studies.schmidt2018.closed_form.figures import FIGURES
from lightning_robust_studies.schmidt2018.closed_form.settings import TheorySettings
from lightning_robust_studies.schmidt2018.closed_form.study import QUESTIONS

SETTINGS = TheorySettings(
    dimensions=(256, 1024), radii=(0.25, 0.5), repeats=2, d=64, samples=(1, 2), draws=4, self_training_d=256, labels=2
)


@pytest.fixture(scope="module")
def rows():
    return [row for question in QUESTIONS for row in question(SETTINGS)]


def lines(axes):
    return {line.get_label(): line.get_xydata() for line in axes.lines if not line.get_label().startswith("_")}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_have_lines_labels_and_a_caption(rows, name):
    figure, caption = FIGURES[name](rows, SETTINGS)
    assert all(lines(axes) for axes in figure.axes)
    assert figure.axes[0].get_ylabel()
    assert figure.axes[0].get_xlabel()
    assert caption.endswith(".")


def test_the_gap_is_drawn_on_logarithmic_axes_a_panel_for_each_radius(rows):
    figure, _ = FIGURES["gap"](rows, SETTINGS)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["eps = 0.25", "eps = 0.5"]
    assert {(axes.get_xscale(), axes.get_yscale()) for axes in figure.axes} == {("log", "log")}
    found = select(rows, question="gap", metric="samples", curve="n_half", eps=0.5)
    np.testing.assert_array_equal(lines(figure.axes[1])["robust, 50 %"], [(row["d"], row["value"]) for row in found])


def test_closed_forms_and_bounds_are_dashed_and_measured_curves_are_not(rows):
    for name in FIGURES:
        figure, _ = FIGURES[name](rows, SETTINGS)
        for line in figure.axes[0].lines:
            if not line.get_label().startswith("_"):
                words = ("large d", "bound", "Theorem", "many samples", "known", "no linear", "least for any")
                exact = any(word in line.get_label() for word in words)
                if name != "bernoulli_radius" and line.get_label() != "linear, no attack":
                    assert (line.get_linestyle() == "--") == exact, line.get_label()


def test_two_labels_are_said_in_the_plural(rows):
    figure, caption = FIGURES["self_training"](rows, SETTINGS)
    assert "2 labels only, attacked" in lines(figure.axes[0])
    assert "with 2 labels" in caption
