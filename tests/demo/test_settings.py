import pytest

from lightning_robust.demo.settings import SCHEMES, Settings


def test_each_seed_has_its_four_models_and_more_seeds_keep_them():
    one, three = Settings(seed=4), Settings(seed=4, seeds=3)
    assert [(cell["seed"], cell["model"]) for cell in three.models()] == [
        (seed, model) for seed in (4, 5, 6) for model in SCHEMES
    ]
    assert three.models()[:4] == one.models()


def test_the_numbers_of_the_documentation_are_of_these_settings():
    steps = {"train_steps": 10, "test_steps": 40, "restarts": 3}
    data = {"train_size": 2500, "test_size": 2000, "epochs": 20, "average": 0.99}
    assert Settings().shared == {**data, "eps": 0.1, "eta": 0.3, **steps}


def test_a_model_depends_on_what_changes_its_numbers_alone():
    plain = Settings().models()
    assert Settings(out="elsewhere", workers=3, threads=2).models() == plain
    assert all(cell not in plain for cell in Settings(epochs=3).models())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        *(
            ({name: 0}, f"`{name}` to be an integer of at least 1, but got 0")
            for name in ("train_size", "test_size", "epochs", "train_steps", "test_steps", "restarts")
        ),
        ({"eps": -1}, "`eps` to be a number of at least 0, but got -1"),
        ({"eta": float("nan")}, "`eta` to be a number of at least 0, but got nan"),
        ({"average": 1}, "`average` to be a number"),
        ({"seed": -1}, "`seed` to be an integer of at least 0"),
        ({"seeds": 0}, "`seeds` to be an integer"),
        ({"threads": -1}, "`threads` to be an integer of at least 0, but got -1"),
        ({"workers": -1}, "`workers` to be an integer of at least 0, but got -1"),
    ],
)
def test_settings_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        Settings(**arguments)
