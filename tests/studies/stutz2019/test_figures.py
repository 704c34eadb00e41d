import pytest

from lightning_robust_studies.stutz2019.figures import figures_of, transfer_matrix
from lightning_robust_studies.stutz2019.tables import Tables
from tests.studies.stutz2019.results import TRANSFER, models_of


def test_the_matrix_is_that_of_the_largest_size():
    figure = transfer_matrix(TRANSFER, "on")
    assert [text.get_text() for text in figure.axes[0].texts] == ["61.0", "37.0", "23.0", "11.0"]


def test_sizes_stand_at_their_numbers():
    figure = figures_of(Tables(models_of()))["error"][0]
    line = figure.axes[0].lines[0]
    assert line.get_xdata().tolist() == [500, 2500]
    expected = [0.3 * 100 / n**0.5 / 10 + 0.005 + 0.05 for n in (500, 2500)]
    assert line.get_ydata().tolist() == pytest.approx(expected)
