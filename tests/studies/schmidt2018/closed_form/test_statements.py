import re

import pytest

from lightning_robust_studies.schmidt2018 import theory
from lightning_robust_studies.schmidt2018.closed_form.statements import STATEMENTS, Setting, applies, settings_of

STUDY = Setting(d=1024, n=16, scale=0.5, eps=0.5, target=0.01, tau_scale=0.8, tau_ratio=1.0)


def statement(name):
    return next(each for each in STATEMENTS if each.name == name)


def test_every_theorem_and_corollary_of_the_package_is_there():
    functions = [re.fullmatch(r"(theorem|corollary)_(\d+)", name) for name in theory.__all__]
    named = {f"{found[1].capitalize()} {found[2]}" for found in functions if found}
    assert len(named) >= 15
    assert named == {each.name for each in STATEMENTS if "Carmon" not in each.name}


@pytest.mark.parametrize("each", STATEMENTS, ids=lambda each: each.name)
def test_each_applies_at_one_of_the_settings(each):
    found = {name: applies(each, setting) for name, setting in settings_of(STUDY).items()}
    assert any(yes and "nothing" not in text for yes, text in found.values()), found
    assert all(yes or text.startswith("refuses: ") for yes, text in found.values())


def test_upper_bounds_want_little_noise_and_lower_bounds_much():
    settings = settings_of(STUDY)
    for name in ("Theorem 4", "Theorem 5", "Theorem 8", "Theorem 21", "Corollary 22"):
        verdicts = [applies(statement(name), setting)[0] for setting in settings.values()]
        assert verdicts == [False, True, False], name
    for name in ("Theorem 6", "Theorem 9", "Corollary 23", "Theorem 31"):
        verdicts = [applies(statement(name), setting)[0] for setting in settings.values()]
        assert verdicts == [False, False, True], name


def test_a_refusal_names_the_condition_and_the_value():
    sigma = 0.5 * 1024**0.25
    yes, text = applies(statement("Theorem 4"), STUDY)
    assert not yes
    assert text == (
        f"refuses: sigma must be at most d^(1/4) / (5 sqrt(log(1 / beta))) = "
        f"{theory.corollary_19_sigma(1024, 0.01):.4g}, but got {sigma:.4g}"
    )


def test_what_a_statement_says_is_what_its_function_gives():
    setting = settings_of(STUDY)["little noise"]
    found = theory.theorem_27(setting.d, setting.tau)
    assert applies(statement("Theorem 27"), setting)[1].startswith(f"error at most {found.error:.3g}, ")
    assert f"{1 - found.probability:.2g}" in applies(statement("Theorem 27"), setting)[1]
    much = settings_of(STUDY)["much noise"]
    bound = float(theory.theorem_11(much.n, much.d, much.sigma, much.eps))
    assert applies(statement("Theorem 11"), much) == (True, f"error at least {bound:.3g}")


def test_other_errors_than_refusals_are_not_swallowed():
    with pytest.raises(TypeError):
        applies(statement("Theorem 11"), Setting(**{**vars(STUDY), "eps": "wide"}))
