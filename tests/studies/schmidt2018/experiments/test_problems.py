import pickle
import sys
from dataclasses import replace

import pytest
import torch

from lightning_robust_studies.schmidt2018.experiments.problems import Problem, digits, letters, problems, small_net
from lightning_robust_studies.schmidt2018.threshold import ThresholdFilters

BUILT_IN = problems("data")


def test_digits_are_those_of_scikit_learn_in_the_unit_interval():
    data = digits(100, 0)
    x, y = data.tensors("test")
    assert x.shape == (597, 1, 8, 8)
    assert (float(x.min()), float(x.max())) == (0.0, 1.0)
    assert torch.equal(torch.bincount(data.tensors("train")[1]), torch.full((10,), 10))
    assert len(data.tensors("val")[1]) == 200
    assert len(y) == 597


def test_test_images_of_digits_are_the_same_for_all_and_training_sets_are_nested():
    small, large, other = digits(60, 0), digits(200, 0), digits(60, 1)
    assert torch.equal(small.tensors("test")[0], other.tensors("test")[0])
    assert torch.equal(small.tensors("train")[0], large.tensors("train")[0][:60])
    assert not torch.equal(small.tensors("train")[0], other.tensors("train")[0])


def test_without_scikit_learn_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ModuleNotFoundError, match=r"lightning-robust\[digits\]"):
        digits(60, 0)


def test_letters_are_balanced():
    assert torch.equal(torch.bincount(letters(100, 3).tensors("train")[1]), torch.full((10,), 10))


@pytest.mark.parametrize(("channels", "side", "classes"), [(1, 8, 10), (3, 28, 4), (2, 32, 7), (1, 9, 2)])
def test_small_nets_fit_their_images(channels, side, classes):
    assert small_net(channels, side, classes)(torch.rand(2, channels, side, side)).shape == (2, classes)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"low": 1.0}, "`low`"), ({"models": {}}, "`models`"), ({"sizes": ()}, "`sizes`"), ({"steps": 0}, "`steps`")],
)
def test_wrong_problems_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(BUILT_IN["digits"], **change)


def test_the_folder_of_the_data_does_not_tell_works_apart():
    assert repr(problems("here")["mnist"].data) == repr(problems("there")["mnist"].data)


@pytest.mark.parametrize("name", BUILT_IN)
def test_problems_can_be_sent_to_other_processes(name):
    problem = pickle.loads(pickle.dumps(BUILT_IN[name]))
    assert isinstance(problem, Problem)
    assert list(problem.models) == list(BUILT_IN[name].models)


@pytest.mark.parametrize("name", BUILT_IN)
def test_grids_are_increasing_and_hold_the_clean_case(name):
    problem = BUILT_IN[name]
    for axis in (problem.sizes, problem.eps_train, problem.eps_test):
        assert list(axis) == sorted(set(axis))
    assert problem.eps_train[0] == problem.eps_test[0] == 0
    assert all(n % 10 == 0 for n in problem.sizes)


GRAY, COLOR = (1, 28, 28), (3, 32, 32)
SHAPES = {"fonts": GRAY, "digits": (1, 8, 8), "fashion": GRAY, "mnist": GRAY, "cifar10": COLOR, "svhn": COLOR}


@pytest.mark.parametrize(
    ("name", "model"), [(n, m) for n in BUILT_IN for m in BUILT_IN[n].models if not m.startswith("resnet-x")]
)
def test_models_take_the_images_of_their_problem_and_can_be_trained(name, model):
    module = BUILT_IN[name].models[model](0.1, 100)
    x = torch.rand(2, *SHAPES[name])
    assert module(x).shape == (2, 10)
    optimizers = module.configure_optimizers()
    optimizer = optimizers["optimizer"] if isinstance(optimizers, dict) else optimizers
    assert sum(p.numel() for group in optimizer.param_groups for p in group["params"]) == sum(
        p.numel() for p in module.parameters()
    )


@pytest.mark.parametrize(("eps_train", "eps"), [(0.0, 0.1), (0.2, 0.2)])
def test_threshold_filters_are_set_by_the_radius_of_training(eps_train, eps):
    module = BUILT_IN["digits"].models["cnn+threshold"](eps_train, 10)
    (filters,) = [part for part in module.modules() if isinstance(part, ThresholdFilters)]
    assert filters.eps == eps


RAREST = {
    "fashion": (6000, 60_000),
    "mnist": (5421, 60_000),
    "cifar10": (5000, 50_000),
    "svhn": (4659 + 34_456, 604_388),
}
"""How many training images the rarest class of a public data set has, and all classes."""


@pytest.mark.parametrize("name", RAREST)
def test_the_largest_size_can_be_balanced(name):
    problem, (rarest, images) = BUILT_IN[name], RAREST[name]
    held_out = {"fashion": 1000, "mnist": 5000}.get(name, 2500)
    assert problem.sizes[-1] / 10 <= rarest - held_out * rarest / images - (name != "fashion")
