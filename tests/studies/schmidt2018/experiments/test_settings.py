from dataclasses import replace

import pytest

from lightning_robust._command import SettingsError
from lightning_robust_studies.schmidt2018.experiments.problems import problems
from lightning_robust_studies.schmidt2018.experiments.settings import SampleComplexitySettings


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"targets": (0.5, 1.0)}, r"`targets\[1\]`"),
        ({"targets": ()}, "`targets`"),
        ({"sizes": (0, 100)}, r"`sizes\[0\]` to be an integer of at least 1, but got 0"),
        ({"seeds": 0}, "`seeds` to be an integer of at least 1"),
        ({"masked_images": -1}, "`masked_images` to be an integer of at least 0"),
        ({"seeds": 2.5}, "`seeds` to be an integer"),
        ({"launcher": "threads"}, "`launcher`"),
        ({"attacks": "all"}, "`attacks`"),
        ({"largest_seeds": 4}, "`largest_seeds` to be an integer of at least 0 and at most 3, but got 4"),
        ({"steps_per_image": -0.1}, "`steps_per_image` to be"),
        ({"verdict_images": -1}, "`verdict_images` to be"),
        ({"bound_images": 0.5}, "`bound_images` to be"),
    ],
)
def test_wrong_settings_are_refused(change, message):
    with pytest.raises((TypeError, ValueError), match=message):
        SampleComplexitySettings(**change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"eps_test": (0.1,)}, "`eps_test` to hold 0"),
        ({"eps_test": (0.0,)}, "and a positive radius"),
        ({"eps_train": (0.0, 1.5)}, r"`eps_train\[1\]` to be .*1"),
        ({"eps_train": (-0.1,)}, r"`eps_train\[0\]` to be"),
    ],
)
def test_radii_that_are_none_of_the_images_are_refused(change, message):
    with pytest.raises(SettingsError, match=message):
        SampleComplexitySettings(**change).of("digits", problems()["digits"])


def test_radii_are_in_the_units_of_the_images():
    problem = replace(problems()["digits"], high=255.0)
    assert SampleComplexitySettings(eps_train=(0, 8), eps_test=(0, 8)).of("digits", problem).eps_train == (0, 8)


def test_an_axis_that_is_not_given_is_the_problems():
    problem = problems()["digits"]
    grid = SampleComplexitySettings().of("digits", problem)
    assert (grid.sizes, grid.eps_train, grid.models) == (problem.sizes, problem.eps_train, tuple(problem.models))
    assert (grid.steps, grid.train_steps) == (problem.steps, problem.train_steps)
    own = SampleComplexitySettings(sizes=(200, 60), eps_train=(0.3, 0), models=("cnn",), steps=7, train_steps=2)
    grid = own.of("digits", problem)
    assert (grid.sizes, grid.eps_train, grid.models) == ((60, 200), (0, 0.3), ("cnn",))
    assert (grid.steps, grid.train_steps) == (7, 2)


def test_an_unknown_model_is_refused():
    with pytest.raises(SettingsError, match="`models` to be"):
        SampleComplexitySettings(models=("cn",)).of("digits", problems()["digits"])


def test_steps_that_are_given_are_those_of_all_sizes_unless_images_are_given_steps_too():
    problem = problems()["fashion"]
    grids = [
        SampleComplexitySettings(**given).of("fashion", problem)
        for given in ({}, {"steps": 7}, {"steps": 7, "steps_per_image": 0.5})
    ]
    assert [(grid.steps, grid.steps_per_image) for grid in grids] == [(1000, 0.1), (7, 0.0), (7, 0.5)]
