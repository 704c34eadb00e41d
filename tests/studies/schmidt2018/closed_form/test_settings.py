import pytest
import yaml

from lightning_robust_studies.schmidt2018.closed_form.settings import PRESETS, TheorySettings


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_settings(name):
    changed = yaml.safe_load(PRESETS[name].read_text("utf-8"))
    assert TheorySettings(**changed).target == 0.01
    assert (changed == {}) == (name == "quick")


def test_lists_are_sorted_and_without_doubles():
    assert TheorySettings(dimensions=[1024, 256, 256], samples=[4, 1]).dimensions == (256, 1024)
    assert TheorySettings(samples=[4, 1]).samples == (1, 4)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"dimensions": ()}, "`dimensions` to hold at least one integer, but got none"),
        ({"dimensions": (256,)}, r"`dimensions` to be two numbers or more, but got \(256,\)"),
        ({"dimensions": (1, 256)}, r"`dimensions\[0\]` to be an integer of at least 2, but got 1"),
        ({"radii": (0.5, 1.0)}, r"`radii\[1\]` to be a number in \(0, 1\), but got 1.0"),
        ({"radii": (float("nan"),)}, r"`radii\[0\]` to be a number in \(0, 1\), but got nan"),
        ({"eps": 0.0}, r"`eps` to be a number in \(0, 1\), but got 0.0"),
        ({"sigma_scale": -1.0}, "`sigma_scale` to be a number greater than 0, but got -1.0"),
        ({"sigma_scale": 1e-6}, "`sigma_scale` to be so large that more than 1e-07 samples are needed"),
        ({"target": 0.5}, r"`target` to be a number in \(0, 0.5\), but got 0.5"),
        ({"sigma_scale": 2.0}, "`target` to be above 0.159, the least error at d = 256 and eps = 0.5 however many"),
        ({"repeats": 1}, "`repeats` to be an integer of at least 2, but got 1"),
        ({"draws": 1}, "`draws` to be an integer of at least 2, but got 1"),
        ({"samples": (1.5,)}, r"`samples\[0\]` to be an integer of at least 1, but got 1.5"),
        ({"d": 65536, "samples": (1, 8)}, r"`d` to be such that d\^2 times the largest of `samples` is at most 1e\+10"),
        ({"tau_scale": 2.0}, r"`tau_scale` to be a number in \(0, 2\), but got 2.0"),
        ({"tau_ratio": 2.0}, r"`tau_ratio` to be a number in \(0, 2\), but got 2.0"),
        ({"self_training_eps": 0.5}, r"`self_training_eps` to be a number in \(0, 0.5\), but got 0.5"),
        ({"labels": 0}, "`labels` to be an integer of at least 1, but got 0"),
        ({"seed": -1}, "`seed` to be an integer of at least 0, but got -1"),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(given, message):
    with pytest.raises((TypeError, ValueError), match=f"Expected argument {message}"):
        TheorySettings(**given)
