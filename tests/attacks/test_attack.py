import functools
import random

import numpy as np
import pytest
import torch
from torch import nn

from lightning_robust import standard
from lightning_robust.attacks import PGD, Attack, Context, Foreign, Linf, Outcome, as_attack
from lightning_robust.attacks.attack import check_finite, check_inputs
from tests.helpers import batch, foreign, net, unchanged


def test_as_attack_takes_an_attack_as_it_is_and_wraps_functions():
    attack = PGD(Linf(0.1))
    assert as_attack(attack) is attack
    assert isinstance(as_attack(foreign), Foreign)


@pytest.mark.parametrize(
    ("wrong", "advice"),
    [
        ("pgd", "but got 'pgd'"),
        (Linf(0.1), r"Linf is a ball: did you mean PGD\(Linf\(...\)\)"),
        ([PGD(Linf(0.1))], r"Did you mean worst_of\(\*attacks\)"),
        (standard(Linf(0.1)), r"a plan, which judges: train on one attack"),
        (PGD, r"PGD is a class: did you mean PGD\(...\)"),
    ],
)
def test_what_is_no_attack_is_refused_with_the_remedy(wrong, advice):
    with pytest.raises(TypeError, match=rf"Expected argument `attack` to be an attack, a callable .*{advice}"):
        as_attack(wrong)


def test_a_class_is_no_model():
    with pytest.raises(TypeError, match="`model` to be a module or a function, but got the class Linear"):
        PGD(Linf(0.1))(nn.Linear, torch.rand(2, 3), torch.tensor([0, 1]))


def test_a_function_is_given_the_arguments_that_it_takes():
    x, y, _ = batch()
    seen = {}

    def plain_function(model, x, y):
        return x

    def wants_key(model, x, y, *, key):
        seen["key"] = key
        return x

    def wants_both(model, x, y, code=None, key=0):
        seen["both"] = code, key
        return x

    as_attack(plain_function)(net(), x, y, key=3)
    as_attack(wants_key)(net(), x, y, key=4)
    as_attack(functools.partial(wants_both))(net(), x, y, code="c", key=5)
    assert seen == {"key": 4, "both": ("c", 5)}


def test_a_function_draws_other_numbers_for_another_batch_and_the_same_again():
    attack = as_attack(lambda model, x, y: x + torch.rand_like(x))
    x, y = torch.rand(4, 3), torch.zeros(4, dtype=torch.long)
    first, again, other = (attack.run(None, z, y, Context(key=3)).x_adv - z for z in (x, x, x.flip(0) / 2))
    assert torch.equal(first, again)
    assert (first - other).abs().mean() > 0.1


def switches_the_mode(model, x, y):
    model.train()
    return x


def runs_the_model_in_training_mode(model, x, y):
    model.train()
    model(x)
    return x


def clears_the_gradients(model, x, y):
    model.zero_grad()
    return x


def zeroes_the_gradients_in_place(model, x, y):
    model.zero_grad(set_to_none=False)
    return x


def unfreezes_the_model_and_calls_backward(model, x, y):
    for p in model.parameters():
        p.requires_grad_(True)
    nn.functional.cross_entropy(model(x), y).backward()
    return x


def marks_its_input(model, x, y):
    x.requires_grad = True
    nn.functional.cross_entropy(model(x), y).backward()
    return (x + 0.1 * x.grad.sign()).clamp(0, 1)


def writes_to_its_input(model, x, y):
    return x.mul_(0.5)


def returns_another_type(model, x, y):
    return (x + model(x).sum() * 0).double()


GUESTS = [
    switches_the_mode,
    runs_the_model_in_training_mode,
    clears_the_gradients,
    zeroes_the_gradients_in_place,
    unfreezes_the_model_and_calls_backward,
    marks_its_input,
    writes_to_its_input,
    returns_another_type,
]


class TestGuest:
    """A function from elsewhere runs in `scope`: what it does to the model and the generators does not last."""

    def attack(self, function, model=None):
        model, (x, y, _) = model or net(), batch()
        kept = x.clone()
        with unchanged(model):
            x_adv = as_attack(function)(model, x, y)
        assert torch.equal(x, kept)
        assert not x.requires_grad
        assert x.grad is None
        return x_adv

    @pytest.mark.parametrize("guest", GUESTS)
    def test_that(self, guest):
        x_adv = self.attack(guest)
        assert not x_adv.requires_grad
        assert x_adv.dtype == torch.float32
        assert guest is not writes_to_its_input or x_adv.max() <= 0.5

    @pytest.mark.parametrize(
        "draw", [torch.rand, np.random.rand, lambda n: random.random()], ids=["torch", "numpy", "python"]
    )
    def test_that_draws_random_numbers(self, draw):
        seen = []

        def guest(model, x, y):
            seen.append(torch.as_tensor(draw(1)).clone())
            return x

        self.attack(guest)
        self.attack(guest)
        x, y, _ = batch()
        as_attack(guest)(net(), x, y, key=1)
        assert seen[0] == seen[1], "the same key draws the same"
        assert seen[0] != seen[2], "another key draws others"

    def test_that_raises(self):
        def guest(model, x, y):
            model.train()
            torch.rand(3)
            raise KeyError("on purpose")

        model, (x, y, _) = net(), batch()
        with unchanged(model), pytest.raises(KeyError):
            as_attack(guest)(model, x, y)

    @pytest.mark.parametrize(
        "wrong", [lambda x: x[:1], lambda x: None, lambda x: (x, x)], ids=["short", "None", "pair"]
    )
    def test_that_returns_something_else(self, wrong):
        x, y, _ = batch()
        with pytest.raises(ValueError, match=r"to return inputs of shape \(6, 3, 6, 6\), but got"):
            as_attack(lambda model, x, y: wrong(x))(net(), x, y)

    def test_that_is_called_under_inference_mode(self):
        model = net()
        with torch.inference_mode():
            assert not self.attack(foreign, model).requires_grad


def test_a_new_attack_is_one_method():
    class Brighter(Attack):
        def run(self, model, x, y, context):
            return Outcome((x + 0.1).clamp(max=1))

    x, y, _ = batch()
    attack = Brighter()
    assert torch.equal(attack(net(), x, y), (x + 0.1).clamp(max=1))
    assert attack.thorough() is attack
    with pytest.raises(TypeError, match="radius of Brighter cannot be scaled"):
        attack.scaled(0.5)
    with pytest.raises(TypeError, match=r"inputs to be a float tensor, but got torch.uint8. Convert with"):
        attack(net(), x.byte(), y)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (torch.zeros(3, 4, dtype=torch.long), TypeError, "float tensor, but got torch.int64. Integers, such as token"),
        (torch.zeros(3, 4, dtype=torch.complex64), TypeError, "float tensor, but got torch.complex64"),
        (torch.zeros(3, 4).to_sparse(), TypeError, r"a dense tensor, .* x.to_dense\(\)"),
        (torch.zeros(3), ValueError, r"shape \(N, ...\), but got shape \(3,\)"),
        (torch.zeros(3, 0), ValueError, r"got shape \(3, 0\)"),
        ([1, 2], TypeError, "float tensor, but got list"),
    ],
    ids=["int", "complex", "sparse", "one dimension", "no pixels", "list"],
)
def test_inputs_that_cannot_be_meant_are_refused(x, error, message):
    with pytest.raises(error, match=message):
        check_inputs(x)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_inputs_that_are_not_finite_are_refused(bad):
    check_inputs(torch.rand(3, 4).bfloat16())
    with pytest.raises(ValueError, match="finite, but 1 values are NaN or infinite"):
        check_finite(torch.tensor([[0.5, bad]]))
