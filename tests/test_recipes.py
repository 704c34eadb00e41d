"""Every recipe trains as it is; its parts are those of its paper."""

import inspect
import warnings
from functools import partial

import jsonargparse
import pytest
import torch

from lightning_robust import AffineSpace, LatentSpace, Linf, Threat, WarmUp, recipes
from lightning_robust._lightning import pl
from lightning_robust._noise import Noise
from lightning_robust.attacks import L2, PGD, RandomPerturbation, cross_entropy, divergence
from lightning_robust.callbacks import AdversarialTraining
from lightning_robust.datamodules import Fonts
from lightning_robust.manifolds import FontsManifold
from lightning_robust.models import RobustClassifier, standard_net
from lightning_robust.objectives import (
    adversarial_loss,
    awp as awp_objective,
    mart as mart_objective,
    trades as trades_objective,
)

BALL = Linf(0.1)
ARGUMENTS = {
    "madry": {"threat": BALL, "steps": 2},
    "trades": {"threat": BALL, "steps": 2},
    "mart": {"threat": BALL, "steps": 2},
    "awp": {"recipe": recipes.trades(BALL, steps=1)},
    "fgsm_rs": {"threat": BALL},
    "half_adversarial": {"threat": BALL, "steps": 2},
    "on_manifold": {"manifold": FontsManifold(), "steps": 2, "code": 2},
    "adversarial_transformations": {"steps": 2},
    "random_transformations": {},
}


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_every_recipe_trains(name):
    recipe = recipes.RECIPES[name](**ARGUMENTS[name])
    module = RobustClassifier(standard_net())
    before = [p.clone() for p in module.parameters()]
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    trainer = pl.Trainer(
        max_epochs=1, limit_train_batches=2, limit_val_batches=0, callbacks=recipe, enable_model_summary=False, **quiet
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*belongs to an attack that raises another gain.*")
        trainer.fit(module, datamodule=Fonts(train_size=20, test_size=10, batch_size=10))
    after = list(module.parameters())
    assert all(p.isfinite().all() for p in after)
    assert any((p != q).any() for p, q in zip(before, after, strict=True))


def test_all_recipes_are_listed():
    functions = [f for f in vars(recipes).values() if inspect.isfunction(f) and not f.__name__.startswith("_")]
    made_here = {f.__name__ for f in functions if f.__module__ == recipes.__name__}
    assert made_here == set(recipes.RECIPES) == set(ARGUMENTS) == set(recipes.__all__) - {"RECIPES", "Recipe"}
    assert all(inspect.signature(f).return_annotation is recipes.Recipe for f in recipes.RECIPES.values())
    assert all("20" in inspect.getdoc(f) or "augmentation" in inspect.getdoc(f) for f in recipes.RECIPES.values())


def test_the_parts_are_those_of_the_papers():
    pgd = partial(PGD, threat=BALL, steps=2, rel_step_size=1.25)
    start = recipes.NearbyStart()
    maps = AffineSpace()
    expected = {
        "madry": (pgd(), None, 1.0),
        "trades": (
            pgd(gain=divergence, random_start=start),
            trades_objective(6.0),
            1.0,
        ),
        "mart": (
            pgd(gain=cross_entropy, random_start=start),
            mart_objective(5.0),
            1.0,
        ),
        "fgsm_rs": (PGD(BALL, steps=1, rel_step_size=1.25), None, 1.0),
        "half_adversarial": (pgd(), None, 0.5),
        "adversarial_transformations": (pgd(threat=Threat(Linf(0.3), maps)), None, 0.5),
        "random_transformations": (RandomPerturbation(Threat(Linf(0.3), maps)), None, 0.5),
    }
    for name, (attack, objective, fraction) in expected.items():
        (callback,) = recipes.RECIPES[name](**ARGUMENTS[name])
        assert (repr(callback.attack), callback.objective, callback.fraction) == (repr(attack), objective, fraction)
    (callback,) = recipes.on_manifold(**ARGUMENTS["on_manifold"])
    assert isinstance(callback.attack.threat.space, LatentSpace)
    assert callback.attack.threat.ball == Linf(0.3)
    assert (callback.fraction, callback.reader.code) == (0.5, 2)


def test_weight_perturbation_goes_around_any_recipe():
    (callback,) = recipes.awp(recipes.mart(BALL, beta=6), gamma=0.01)
    assert callback.objective == awp_objective(mart_objective(6.0), 0.01)
    plain = recipes.madry(BALL, target="labels")
    (callback,) = recipes.awp(plain, gamma=0.01)
    assert callback.objective == awp_objective(adversarial_loss, 0.01)
    assert (callback.attack, callback.reader) == (plain[0].attack, plain[0].reader)
    assert plain[0].objective is None  # the recipe that was given is as it was
    assert not [name for name in ("_clock", "_told") if getattr(callback, name) is getattr(plain[0], name)]
    other = pl.Callback()
    assert recipes.awp([other, *plain])[0] is other


def test_weight_perturbation_refuses_what_it_cannot_wrap():
    with pytest.raises(ValueError, match=r"`recipe` to attack every sample.*fraction of 0.5"):
        recipes.awp(recipes.half_adversarial(BALL))
    for wrong in ([], [pl.Callback()], recipes.madry(BALL) + recipes.madry(BALL)):
        with pytest.raises(ValueError, match=r"`recipe` to hold one AdversarialTraining"):
            recipes.awp(wrong)
    with pytest.raises(TypeError, match=r"`recipe`"):
        recipes.awp(recipes.madry)


def test_options_are_those_of_the_callback():
    (callback,) = recipes.trades(BALL, input="image", target="label", schedule=WarmUp(epochs=3))
    assert isinstance(callback, AdversarialTraining)
    assert (callback.reader.input, callback.reader.target, callback.schedule) == ("image", "label", WarmUp(epochs=3))
    assert recipes.half_adversarial(BALL, fraction=0.25)[0].fraction == 0.25
    with pytest.raises(TypeError, match="no_such"):
        recipes.madry(BALL, no_such=1)


@pytest.mark.parametrize("ball", [Linf(0.1), L2(0.5), Linf(0.0005)])
def test_a_nearby_start_is_near_and_in_the_ball(ball):
    zero = torch.zeros(64, 1, 8, 8)
    delta = recipes.NearbyStart()(ball, Noise.of(torch.rand(64, 1, 8, 8), 0), zero)
    assert bool((ball.norm(delta) <= ball.radius * (1 + 1e-6)).all())
    if ball == Linf(0.1):
        assert delta.std().item() == pytest.approx(0.001, rel=0.05)
        assert abs(delta.mean().item()) < 1e-4


BALL_CONFIG = {"class_path": "Linf", "init_args": {"eps": 0.1}}
CONFIGS = {
    "awp": {"recipe": {"class_path": "lightning_robust.recipes.trades", "init_args": {"threat": BALL_CONFIG}}},
    "on_manifold": {"manifold": {"class_path": "lightning_robust.manifolds.FontsManifold"}, "code": 2},
    "adversarial_transformations": {"eta": 0.2, "input": "image"},
    "random_transformations": {"eta": 0.2, "fraction": 0.25, "input": "image"},
}


@pytest.mark.parametrize("name", recipes.RECIPES)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_configuration_names_every_recipe_with_options_of_the_callback(name):
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--recipe", type=recipes.Recipe)
    init_args = CONFIGS.get(name, {"threat": BALL_CONFIG, "input": "image"})
    config = parser.parse_object({"recipe": {"class_path": f"lightning_robust.recipes.{name}", "init_args": init_args}})
    (callback,) = parser.instantiate_classes(config).recipe
    assert isinstance(callback, AdversarialTraining)
    assert callback.reader.input == init_args.get("input", 0)


def test_a_forgotten_star_is_told():
    with pytest.raises(AttributeError, match=r"takes a star: callbacks=\[\*recipes"):
        recipes.madry(BALL).on_fit_start()  # as a Trainer calls what it takes for a callback
