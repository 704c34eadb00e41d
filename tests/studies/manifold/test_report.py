import re

import pytest
import torch

from lightning_robust.studies.manifold.claims import claims
from lightning_robust.studies.manifold.report import Tables, write_report


def _row(value, **names):
    return {**names, "value": value, "low": max(0.0, value - 0.01), "high": value + 0.01, "count": 100}


def _models(sizes=(500, 2500), schemes=("normal", "on-true"), seeds=(0, 1)):
    return [
        _row(value * 100 / n**0.5 / 10 + 0.01 * seed + 0.05 * (scheme == "normal"), **cell, metric=metric)
        for n in sizes
        for scheme in schemes
        for seed in seeds
        for cell in ({"n": n, "scheme": scheme, "seed": seed},)
        for metric, value in (
            ("test error", 0.3),
            ("off-manifold success", 0.4),
            ("off-manifold success, worst attempt", 0.45),
            ("on-manifold success", 0.6),
            ("on-manifold success, worst attempt", 0.7),
        )
    ]


TRANSFER = [
    _row(rate, n=n, source=source, threat=threat, target=target, metric="transfer")
    for n, factor in ((500, 0.5), (2500, 1.0))
    for threat in ("off", "on")
    for source, target, rate in (
        ("normal", "normal", 0.61 * factor),
        ("normal", "on-true", 0.37 * factor),
        ("on-true", "normal", 0.23 * factor),
        ("on-true", "on-true", 0.11 * factor),
    )
]
DISTANCES = [
    _row(value + 0.001 * seed, n=2500, scheme="normal", seed=seed, threat=threat, manifold=manifold, metric=metric)
    for threat, scale in (("off", 1.0), ("on", 0.02))
    for manifold in ("true", "tangent")
    for metric, value in (("distance", 2.5 * scale), ("angle", 84.0 * scale))
    for seed in (0, 1)
]
EXAMPLES = {
    f"{threat} {manifold} {metric}": torch.tensor([1.0, 2.0, torch.nan])
    for threat in ("off", "on")
    for manifold in ("true", "tangent")
    for metric in ("distance", "angle")
}


def test_the_page_states_the_claims_and_all_figures(tmp_path):
    tables = Tables(
        _models(), [{"manifold": "class", "metric": "rec_mse", "value": 0.0123}], TRANSFER, DISTANCES, EXAMPLES
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


def test_the_matrix_is_that_of_the_largest_size(tmp_path):
    from lightning_robust.studies.manifold import report as manifold_report

    figure = manifold_report._matrix(TRANSFER, "on")
    assert [text.get_text() for text in figure.axes[0].texts] == ["61.0", "37.0", "23.0", "11.0"]


@pytest.mark.parametrize("models", [_models(sizes=(500,), schemes=("normal",), seeds=(0,)), _models(sizes=(500,))])
def test_a_study_of_little_is_reported_too(models, tmp_path):
    page = write_report(Tables(models), tmp_path, settings={}).read_text()
    assert "Not measured" in page
    assert sorted(path.stem for path in tmp_path.glob("*.png")) == ["error", "regression", "success"]


def test_sizes_stand_at_their_numbers(tmp_path):
    from lightning_robust.studies.manifold import report as manifold_report

    figure = manifold_report._figures(Tables(_models()))["error"][0]
    line = figure.axes[0].lines[0]
    assert line.get_xdata().tolist() == [500, 2500]
    expected = [0.3 * 100 / n**0.5 / 10 + 0.005 + 0.05 for n in (500, 2500)]
    assert line.get_ydata().tolist() == pytest.approx(expected)
