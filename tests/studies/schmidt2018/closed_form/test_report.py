import pytest

from lightning_robust.plots import Estimate
from lightning_robust_studies.schmidt2018.closed_form.report import (
    bernoulli_table,
    far_slope_table,
    need_table,
    slope_table,
    write_report,
)
from lightning_robust_studies.schmidt2018.closed_form.statements import statement_table


def test_tables_have_a_line_for_each_radius_and_dimension(rows, tiny):
    slopes = slope_table(rows, tiny)
    assert slopes["eps"].tolist() == [0.25, 0.5]
    assert all(isinstance(each, Estimate) for each in slopes["robust, 50 %"])
    assert slopes["50 %, large d"].tolist() == pytest.approx([0.5, 0.5])
    assert need_table(rows, tiny)["d"].tolist() == [256, 1024]
    assert bernoulli_table(rows, tiny)["d"].tolist() == [256, 1024]
    assert far_slope_table(rows)["d"].tolist() == ["2^8", "2^16", "2^24", "2^32", "2^48", "2^64"]


@pytest.mark.usefixtures("undrawn")
def test_the_page_says_the_settings_and_the_numbers_of_draws(rows, tiny, tmp_path):
    page = write_report(rows, tmp_path, tiny, 1.25).read_text("utf-8")
    assert "over 2 sweeps" in page
    assert "or 4 training sets" in page
    assert "<dt>seed</dt><dd>0</dd>" in page
    assert "<dt>seconds</dt><dd>1.2</dd>" in page
    assert "Claim" not in page.partition("</h1>")[2].partition("<h2>")[0]
    for name in statement_table(tiny)["statement"]:
        assert name in page
