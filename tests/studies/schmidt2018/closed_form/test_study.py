import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from lightning_robust._command import SettingsError
from lightning_robust_studies.schmidt2018.closed_form.command import main
from lightning_robust_studies.schmidt2018.closed_form.settings import TheorySettings
from lightning_robust_studies.schmidt2018.closed_form.study import run_theory

TINY = TheorySettings(
    dimensions=(256, 1024, 4096),
    radii=(0.25, 0.5),
    repeats=3,
    d=256,
    samples=(1, 2, 4),
    draws=24,
    self_training_d=4096,
)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The rows of a tiny study, its folder, and the CPU seconds that it took."""
    out, began = tmp_path_factory.mktemp("theory"), time.process_time()
    rows = run_theory(replace(TINY, out=str(out)))
    return rows, out, time.process_time() - began


def needs(rows, curve, eps):
    needed = rows[(rows["metric"] == "samples") & (rows["curve"] == curve) & (rows["eps"] == eps)]
    return needed["d"].to_numpy(float), needed["value"].to_numpy()


def exponent(rows, curve, eps):
    return np.polyfit(*np.log(needs(rows, curve, eps)), 1)[0]


def test_a_tiny_study_is_fast(study):
    assert study[2] < 30


def test_robust_learning_takes_samples_like_the_square_root_of_d(study):
    for eps in TINY.radii:
        assert exponent(study[0], "n_half", eps) == pytest.approx(0.5, abs=0.02)
        assert exponent(study[0], "n_half_large_d", eps) == pytest.approx(0.5, abs=1e-6)


def test_standard_learning_takes_as_many_samples_in_every_dimension(study):
    d, n = needs(study[0], "n_standard", 0.5)
    assert n.max() / n.min() < 1.4
    assert -0.1 < exponent(study[0], "n_standard", 0.5) <= 0.05
    assert (d == TINY.dimensions).all()


def test_more_perturbation_takes_more_samples_and_all_take_more_than_the_lower_bound(study):
    for low, high in (("n_half", "n_robust"), ("corollary_23", "n_half")):
        for eps in TINY.radii:
            assert (needs(study[0], low, eps)[1] < needs(study[0], high, eps)[1]).all()
    assert (needs(study[0], "n_half", 0.25)[1] < needs(study[0], "n_half", 0.5)[1]).all()


def test_no_learner_is_below_bayes_and_bayes_is_not_below_theorem_11(study):
    excess = study[0].query("metric == 'excess over bayes'")
    assert set(excess["curve"]) > {"mean", "logistic", "adversarial logistic", "Bayes"}
    assert (excess["value"] + 1.5 * (excess["high"] - excess["value"]) >= 0).all()
    prior = study[0].query("question == 'error' and model == 'Gaussian, theta ~ N(0, I)'")
    least, bayes, mean = (
        prior["value"][prior["curve"] == name].to_numpy() for name in ("theorem_11", "bayes", "mean, attacked")
    )
    assert (least <= bayes + 1e-12).all()
    assert (bayes <= mean + 1e-12).all()
    assert least[0] == pytest.approx(0.5, abs=1e-3)


def test_the_files_hold_the_rows(study):
    rows, out, _ = study
    names = {"gap", "error", "learners", "bernoulli_samples", "bernoulli_radius", "self_training"}
    assert {path.stem for path in out.glob("*.png")} == names
    for name in names:
        assert (out / f"{name}.png").stat().st_size > 5000
    read = pd.read_csv(out / "results.csv", float_precision="round_trip")  # else pandas 2.2 loses the last digit
    assert read["value"].tolist() == rows["value"].tolist()
    assert read["curve"].tolist() == rows["curve"].tolist()
    page = (out / "report.html").read_text("utf-8")
    assert page.count("<img") == len(names), "report.py places each figure by its name"
    assert "Theorem 21" in page


def test_intervals_hold_their_value_and_closed_forms_are_without_one(study):
    rows = study[0]
    assert ((rows["low"] <= rows["value"]) & (rows["value"] <= rows["high"])).all()
    exact = rows[rows["draws"] == 0]
    assert (exact["low"] == exact["high"]).all()
    errors = rows.query("metric == 'error'")
    assert ((errors["low"] >= 0) & (errors["high"] <= 1)).all()
    assert set(rows["draws"]) == {0, TINY.repeats, TINY.draws, 16}


@pytest.mark.usefixtures("undrawn")
def test_the_command_tells_the_claims(tmp_path, capsys):
    options = ["--dimensions", "256", "1024", "--radii", "0.5", "--repeats", "2", "--d", "64", "--samples", "1", "2"]
    main([*options, "--draws", "4", "--self_training_d", "256", "--out", str(tmp_path)])
    said = capsys.readouterr().out
    assert [f"\n{i}." in f"\n{said}" for i in range(1, 7)] == [True] * 5 + [False]
    assert "[0." in said
    assert str(tmp_path) in said.replace("\n", "")


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_computed(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "lightning_robust_studies.schmidt2018.closed_form.study.compute", lambda options: pytest.fail("computed")
    )
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="`out` to be a folder"):
        run_theory(replace(TINY, out=str(tmp_path / "file")))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--radii", "1.5"], "argument `radii[0]` to be a number in (0, 1), but got 1.5"),
        (["--dimensions", "256"], "argument `dimensions` to be two numbers or more"),
    ],
)
def test_the_command_says_what_is_wrong(words, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
