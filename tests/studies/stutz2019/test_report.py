from dataclasses import replace
from html import unescape
from re import escape, findall

import pandas as pd
import pytest

from lightning_robust_studies.claims import summary
from lightning_robust_studies.stutz2019.claims import claims
from lightning_robust_studies.stutz2019.reading import warnings
from lightning_robust_studies.stutz2019.report import write_report
from lightning_robust_studies.stutz2019.settings import ManifoldSettings
from lightning_robust_studies.stutz2019.tables import Tables
from tests.studies.stutz2019.results import DISTANCES, EXAMPLES, TRANSFER, leaks_of, models_of

SETTINGS = ManifoldSettings(schemes=("normal", "on-true"))
MANIFOLDS = pd.DataFrame([{"manifold": "class", "metric": "rec_mse", "value": 0.0123}])


@pytest.mark.usefixtures("undrawn")
def test_the_page_states_the_claims_and_all_figures(tmp_path):
    leaks = leaks_of({"class": 1.0}, scheme="normal")
    tables = Tables(models_of(), leaks, MANIFOLDS, TRANSFER, DISTANCES, EXAMPLES)
    page = write_report(tables, tmp_path, SETTINGS).read_text()
    figures = sorted(path.stem for path in tmp_path.glob("*.png"))
    assert figures == [
        *("angles", "distances", "error", "leak_class", "regression", "success", "transfer_off", "transfer_on")
    ]
    assert page.count("<img") == 8
    plain = unescape(page).replace("\N{NO-BREAK SPACE}", " ")
    assert f"<p>{warnings(leaks)[0]}</p>" in plain
    for claim in claims(tables.models, tables.distances, leaks):
        row = rf'<th scope="row">{escape(claim.title)}</th><td class="verdict \w+">(.*?)</td>'
        assert findall(row, plain) == [claim.verdict.value]
        assert claim.text.partition(" Criterion: ")[0] in plain
    assert summary(claims(tables.models, tables.distances, leaks)) in plain
    captions = findall(r"<caption><span.*?>(.*?)</span></caption>", plain)
    assert any("Success along learned manifolds" in caption for caption in captions)
    assert max(map(len, captions)) < 180  # a caption is as wide as its table, which may be wider than the page
    assert "VAE-GANs" in plain
    assert "- GANs" not in plain
    assert "0.0123" in page
    assert "2.50 [2.49, 2.51]" in plain
    assert "http" not in page.replace("http-equiv", "")


@pytest.mark.parametrize("models", [models_of(sizes=(500,), schemes=("normal",), seeds=(0,)), models_of(sizes=(500,))])
@pytest.mark.usefixtures("undrawn")
def test_a_study_of_little_is_reported_too(models, tmp_path):
    page = write_report(Tables(models), tmp_path, SETTINGS).read_text()
    assert "Not measured: regular adversarial examples leave the manifold" in page
    assert '<td class="verdict open">not measured</td>' in page
    assert sorted(path.stem for path in tmp_path.glob("*.png")) == ["error", "regression", "success"]


@pytest.mark.usefixtures("undrawn")
def test_what_the_data_cannot_have_is_said(tmp_path):
    page = write_report(Tables(models_of()), tmp_path, replace(SETTINGS, data="mnist")).read_text()
    assert "<p>Left out: on-true, since the true manifold of mnist is not known.</p>" in page
    assert "Left out" not in write_report(Tables(models_of()), tmp_path, SETTINGS).read_text()


@pytest.mark.usefixtures("undrawn")
def test_the_manifold_that_stands_in_for_the_true_one_is_named(tmp_path):
    sentence = (
        "<p>The true manifold is not known. In claim 1, transfer and distances on-manifold examples are those along "
    )
    page = write_report(Tables(models_of()), tmp_path, replace(SETTINGS, data="mnist", along=("pca", "class")))
    assert f"{sentence}on-pca.</p>" in page.read_text()
    assert sentence not in write_report(Tables(models_of()), tmp_path, SETTINGS).read_text()
