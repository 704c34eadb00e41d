import pytest

from lightning_robust_studies.schmidt2018.closed_form.settings import TheorySettings
from lightning_robust_studies.schmidt2018.closed_form.statements import applies, notes, points_of, statement_table
from lightning_robust_studies.schmidt2018.theory import STATEMENTS

POINTS = points_of(TheorySettings())
SHOWN = [name for name in STATEMENTS if not name.startswith(("Lemma", "Fact"))]


@pytest.mark.parametrize("name", SHOWN)
def test_each_applies_at_one_of_the_points(name):
    results = {at: applies(STATEMENTS[name], point) for at, point in POINTS.items()}
    assert any(yes and "nothing" not in text for yes, text in results.values()), results
    assert all(yes or text.startswith("refuses: ") for yes, text in results.values())


def test_upper_bounds_want_little_noise_and_lower_bounds_much():
    for name in ("Theorem 4", "Theorem 5", "Theorem 8", "Theorem 21", "Corollary 22"):
        assert [applies(STATEMENTS[name], point)[0] for point in POINTS.values()] == [False, True, False], name
    for name in ("Theorem 6", "Theorem 9", "Corollary 23", "Theorem 31"):
        assert [applies(STATEMENTS[name], point)[0] for point in POINTS.values()] == [False, False, True], name


def test_a_refusal_names_the_condition_and_the_value():
    yes, text = applies(STATEMENTS["Theorem 4"], POINTS["the study's setting"])
    sigma, most = 0.5 * 1024**0.25, STATEMENTS["Theorem 4"].limit("sigma", d=1024)
    assert not yes
    assert text == f"refuses: sigma must be at most d^(1/4) / (5 sqrt(log(1 / beta))) = {most:.4g}, but got {sigma:.4g}"


def test_what_a_statement_says_is_its_value():
    point = POINTS["little noise"]
    guarantee = STATEMENTS["Theorem 27"](d=point.d, tau=1.25 * point.d**-0.25)
    assert applies(STATEMENTS["Theorem 27"], point) == (True, str(guarantee))
    bound = STATEMENTS["Theorem 11"](n=1, d=2**16, sigma=64.0, eps=0.5)
    assert applies(STATEMENTS["Theorem 11"], POINTS["much noise"]) == (True, f"error at least {bound:.3g}")


def test_the_table_has_a_line_for_each_theorem_and_corollary():
    table = statement_table(TheorySettings()).set_index("statement")
    assert list(table.index) == SHOWN
    assert {"the study's setting", "little noise", "much noise"} < set(table.columns)
    assert table.loc["Corollary 22", "where"].startswith("eps <= 1/4, sigma <= d^(1/4) / 32, n >= 64 eps^2 sqrt(d)")
    assert table.loc["Theorem 4", "where"] == "sigma <= d^(1/4) / (5 sqrt(log(1 / beta))), beta = 0.01"
    assert table.loc["Theorem 11", "where"] == "always"
    assert set(table.index[table["checked by machine"] == "Lean"]) == {
        *("Theorem 10", "Theorem 21", "Corollary 22", "Corollary 23")
    }


def test_the_slips_of_the_paper_are_noted():
    slips = {"Fact 12": "t < 0", "Lemma 15": "mu = 0", "Lemma 16": "n < 1/4", "Theorem 11": "sum"}
    slips["Theorem 31"] = "eps < 0"
    for name, word in slips.items():
        assert any(note.startswith(f"{name}: ") and word in note for note in notes())


def test_other_errors_than_refusals_are_not_swallowed():
    class Wide(type(POINTS["much noise"])):
        def values(self, model):
            return {**super().values(model), "eps": "wide"}

    with pytest.raises(TypeError):
        applies(STATEMENTS["Theorem 11"], Wide(**vars(POINTS["much noise"])))
