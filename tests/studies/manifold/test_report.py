import re

import pytest

from lightning_robust.studies.manifold.claims import claims
from lightning_robust.studies.manifold.report import write_report
from lightning_robust.studies.manifold.tables import Tables
from tests.studies.manifold.found import DISTANCES, EXAMPLES, TRANSFER, models_of


def test_the_page_states_the_claims_and_all_figures(tmp_path):
    tables = Tables(
        models_of(), [{"manifold": "class", "metric": "rec_mse", "value": 0.0123}], TRANSFER, DISTANCES, EXAMPLES
    )
    page = write_report(tables, tmp_path, settings={"eps": 0.1}).read_text()
    figures = sorted(path.stem for path in tmp_path.glob("*.png"))
    assert figures == ["angles", "distances", "error", "regression", "success", "transfer_off", "transfer_on"]
    assert page.count("<img") == 7
    plain = re.sub(r"&nbsp;", " ", page)
    for claim in claims(tables.models, tables.distances):
        assert f"{claim.title} {claim.verdict.capitalize()}." in plain
    assert "0.0123" in page
    assert "2.50 [2.49, 2.51]" in plain
    assert "http" not in page.replace("http-equiv", "")


@pytest.mark.parametrize("models", [models_of(sizes=(500,), schemes=("normal",), seeds=(0,)), models_of(sizes=(500,))])
def test_a_study_of_little_is_reported_too(models, tmp_path):
    page = write_report(Tables(models), tmp_path, settings={}).read_text()
    assert "Not measured" in page
    assert sorted(path.stem for path in tmp_path.glob("*.png")) == ["error", "regression", "success"]
