import pytest

from lightning_robust_studies.schmidt2018.experiments.figures import figures_of
from lightning_robust_studies.schmidt2018.experiments.report import write_report
from tests.studies.schmidt2018.experiments.toy import GAPS, GRID, MASKING, toy


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.usefixtures("undrawn")
def test_the_page_states_claims_figures_and_settings(seeds, tmp_path):
    curves = toy(seeds, gaps=GAPS, masking=MASKING)
    path = write_report(curves, tmp_path, targets=(0.5, 0.7), settings={"seeds": seeds}, grids=[GRID])
    page = path.read_text()
    first = "1. The same accuracy takes more samples when it is to be robust."
    assert f'{first}</th><td class="verdict yes">holds</td>' in page.replace("\n", "")
    assert "not decided</td>" in page
    figures = sorted(path.stem for path in tmp_path.glob("*.png"))
    assert figures == ["accuracy", "gap_toy", "power_law", "radii_toy"]
    assert page.count("<img") == len(figures)
    assert "White-box PGD is too optimistic" in page
    assert "Schmidt" in page


@pytest.mark.usefixtures("undrawn")
def test_two_sizes_without_masking_are_reported_too(tmp_path):
    curves = toy(1, sizes=(100, 400))
    page = write_report(curves, tmp_path, targets=(0.5,), settings={}, grids=[GRID]).read_text()
    assert "Power laws" not in page
    assert "Can PGD be believed" not in page


def test_what_no_classifier_can_beat_is_a_line_across_the_figure():
    least = {
        "toy": [{"eps_test": eps, "value": eps / 2, "pairs": 1, "part": 2, "count": 20} for eps in (0.0, 0.1, 0.2)]
    }
    figure, text = figures_of(toy(1), least)["accuracy"]
    (line,) = [line for line in figure.axes[0].lines if "no classifier above" in line.get_label()]
    assert line.get_label() == "radius 0.1, no classifier above on 20 images"
    assert line.get_ydata().tolist() == [0.95] * 3
    assert line.get_linestyle() == "--"
    assert "Dashed" in text
    assert "Dashed" not in figures_of(toy(1))["accuracy"][1]
