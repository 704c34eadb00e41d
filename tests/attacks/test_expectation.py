"""The mean of a random model: the closed form of its value and of its gradient, one answer to one question."""

import math
import random

import numpy as np
import pytest
import torch

from lightning_robust.attacks import PGD, Linf, expectation, margin
from tests.helpers import unchanged

X = torch.tensor([[0.5, 0.1, 0.2], [0.0, 0.7, 0.1]])


def noisy(x):
    return x + 0.2 * torch.randn_like(x)


def shaken(x):
    """Random numbers of numpy and Python, as in libraries of image transformations."""
    return x * (1 + np.random.rand()) + random.random()  # noqa: NPY002


def test_the_mean_of_logits_is_that_of_the_model():
    mean = expectation(noisy, 4000, average="logits")(X)
    assert (mean - X).abs().max() < 0.02


def test_the_mean_of_probabilities_is_a_mixture():
    model = expectation(noisy, 50, seed=3)
    outputs = [model._draw(X, k).softmax(1) for k in range(50)]
    assert torch.allclose(model(X).exp(), torch.stack(outputs).mean(0), atol=1e-6)


def test_it_answers_alike_and_leaves_the_streams_alone():
    for function in (noisy, shaken):
        model = expectation(function, 3)
        with unchanged():
            first = model(X)
        torch.rand(5), np.random.rand(), random.random()  # noqa: NPY002
        assert torch.equal(model(X), first)
        assert not torch.equal(expectation(function, 3, seed=1)(X), first)


def test_the_gradient_is_the_expected_one():
    # E[f] of f(x) = <w, x> under noise of the input: the mean of the gradients is w
    weight = torch.tensor([1.0, -2.0, 0.5])
    x = X.clone().requires_grad_()
    expectation(lambda x: noisy(x) * weight, 5, average="logits")(x).sum().backward()
    assert torch.allclose(x.grad, weight.expand_as(x))


def test_an_attack_raises_the_mean():
    x, y = torch.full((1, 2), 0.5), torch.tensor([0])

    def model(x):
        return (x - 0.5) * torch.tensor([-1.0, 1.0]) + 0.01 * torch.randn_like(x)

    x_adv = PGD(Linf(0.2), steps=5, gain=margin)(expectation(model, 8), x, y)
    assert torch.allclose(x_adv, torch.tensor([[0.7, 0.7]]), atol=1e-4)


def test_half_precision_stays():
    assert expectation(lambda x: noisy(x).half(), 2)(X).dtype == torch.float16


def test_rows_of_a_model_that_reads_its_batch():
    class Reads:
        shift = torch.tensor([[1.0], [2.0]])

        def __call__(self, x):
            return x + self.shift

        def rows(self, rows):
            part = Reads()
            part.shift = self.shift[rows]
            return part

    part = expectation(Reads(), 2, average="logits").rows(slice(1, 2))
    assert torch.allclose(part(X[1:]), X[1:] + 2)


def test_errors():
    with pytest.raises(ValueError, match="average='logits'"):
        expectation(lambda x: x[:, :1])(X)
    with pytest.raises(ValueError, match="`average`"):
        expectation(noisy, average="softmax")
    with pytest.raises(TypeError, match="`model`"):
        expectation(3)
    assert math.isclose(float(expectation(lambda x: x, 7)(X).exp().sum()), len(X), rel_tol=1e-5)
