import pytest

from lightning_robust.plots import Estimate
from lightning_robust_studies.schmidt2018.closed_form.report import (
    bernoulli_lines,
    need_lines,
    slope_lines,
    statement_lines,
    trap_lines,
    write_report,
)
from lightning_robust_studies.schmidt2018.closed_form.settings import TheorySettings
from lightning_robust_studies.schmidt2018.closed_form.statements import STATEMENTS
from lightning_robust_studies.schmidt2018.closed_form.study import QUESTIONS

SETTINGS = TheorySettings(
    dimensions=(256, 1024), radii=(0.25, 0.5), repeats=2, d=64, samples=(1, 2), draws=4, self_training_d=256
)


@pytest.fixture(scope="module")
def rows():
    return [row for question in QUESTIONS for row in question(SETTINGS)]


def test_tables_have_a_line_for_each_radius_and_dimension(rows):
    slopes = slope_lines(rows, SETTINGS)
    assert [line["eps"] for line in slopes] == [0.25, 0.5]
    assert all(isinstance(line["robust, 50 %"], Estimate) for line in slopes)
    assert all(line["50 %, large d"] == pytest.approx(0.5) for line in slopes)
    assert [line["d"] for line in need_lines(rows, SETTINGS)] == [256, 1024]
    assert [line["d"] for line in bernoulli_lines(rows, SETTINGS)] == [256, 1024]
    assert [line["d"] for line in trap_lines(rows, SETTINGS)] == ["2^8", "2^16", "2^24", "2^32", "2^48", "2^64"]


def test_the_table_of_statements_says_all_three_settings():
    lines = statement_lines(SETTINGS)
    assert [line["statement"] for line in lines] == [each.name for each in STATEMENTS]
    assert all(set(line) >= {"the study's setting", "little noise", "much noise"} for line in lines)


def test_the_page_says_the_settings_and_the_numbers_of_draws(rows, tmp_path):
    page = write_report(rows, tmp_path, SETTINGS, 1.25).read_text("utf-8")
    assert "over 2 sweeps" in page
    assert "or 4 training sets" in page
    assert "<dt>seed</dt><dd>0</dd>" in page
    assert "<dt>seconds</dt><dd>1.2</dd>" in page
    assert "Claim" not in page.partition("</h1>")[2].partition("<h2>")[0]
    for line in statement_lines(SETTINGS):
        assert line["statement"] in page
