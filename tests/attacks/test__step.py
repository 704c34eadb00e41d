"""One step as a function without a state of its own: it is what the loop does in one turn."""

import pytest
import torch

from lightning_robust.attacks import DDN, L1, L2, PGD, Adam, AutoPGD, Box, Context, Linf, Square, Steepest
from lightning_robust.attacks._goal import Goal
from lightning_robust.attacks._step import Course, may_be_one, step
from lightning_robust.attacks._step_graphs import number, with_tensors
from lightning_robust.attacks.rules import Iterate
from tests.helpers import THREATS, batch, net, threat_of
from tests.outsider import Halving

CPU = torch.device("cpu")
STEPS = 4


def walk(attack, model, data, *, tensors):
    """The last perturbation, by `step` alone; its numbers as numbers or as tensors."""
    threat = with_tensors(attack.threat, CPU) if tensors else attack.threat
    as_given = (lambda value: number(value, CPU)) if tensors else (lambda value: value)
    context, rule = Context(data.code), attack.rule
    with attack._ready(model, data.x, data.y, context) as ready:
        chart, goal = ready.chart, Goal(attack.gain, ready, context)
        project = threat.projection(chart)
        course = Course(goal, threat.ball, chart, project, rule, as_given(STEPS))
        delta = chart.zero
        gain = delta.new_zeros(len(delta))
        state = rule.init(Iterate(delta, gain, None, threat.ball, chart, 1.0, 0, STEPS, None, project, None, None))
        for k, size in enumerate(attack.sizes()):
            delta, state = step(ready.model, chart.decode, course, delta, state, as_given(size), as_given(k))
    return delta


@pytest.mark.parametrize("rule", [Steepest(), Steepest(0.5), Adam(0.01)], ids=["steepest", "momentum", "adam"])
@pytest.mark.parametrize("name", THREATS)
def test_steps_one_after_the_other_are_the_loop(name, rule):
    ball, space = THREATS[name]
    model, data = net(dtype=torch.float64).eval(), batch(space, dtype=torch.float64)
    attack = PGD(threat_of(ball, space), STEPS, rule=rule, random_start=False)
    expected = attack.run(model, data.x, data.y, Context(data.code)).delta
    delta = walk(attack, model, data, tensors=False)
    assert not delta.requires_grad
    assert torch.equal(delta, expected)
    torch.testing.assert_close(walk(attack, model, data, tensors=True), expected, rtol=1e-12, atol=1e-12)


def test_a_gradient_that_is_no_number_is_zero_as_in_the_loop():
    data = batch(dtype=torch.float64)
    data.x[0, 0] = 0.5
    attack = PGD(L2(0.5), STEPS, random_start=False)

    def model(x):
        return (x - 0.5).abs().sqrt().flatten(1)[:, :5]

    expected = attack.run(model, data.x, data.y).delta
    assert not expected[0, 0, 0, :5].any()
    assert torch.equal(walk(attack, model, data, tensors=False), expected)


@pytest.mark.parametrize("ball", [Linf(0.1), L2(0.5), L1(2.0), Box([0.1], 2.0)])
def test_a_radius_as_a_tensor_is_the_same_radius(ball):
    x = torch.rand(5, 1)
    other = ball.on(CPU)
    assert isinstance(other.eps, torch.Tensor)
    assert other == ball
    assert not isinstance(ball.eps, torch.Tensor)
    assert torch.equal(other.project(x), ball.project(x))
    assert torch.equal(other.support(x, number(0.3, CPU)), ball.support(x, 0.3))
    assert torch.equal(other.support(x, number(1.0, CPU)), ball.support(x))
    each = type(ball).scaled(ball, torch.ones(5))
    assert each.on(CPU).eps is each.eps


def test_which_rules_may_be_one_function():
    class Ends(Steepest):
        def over(self, at, state):
            return at.gain > 0

    assert all(may_be_one(rule) for rule in (Steepest(), Steepest(0.9), Adam()))
    assert not any(may_be_one(rule) for rule in (Halving(), AutoPGD(), Square(), Ends()))


def test_what_a_graph_cannot_know_is_refused():
    class Draws(Steepest):
        def __call__(self, at, state):
            return at.delta + at.noise.uniform(tuple(at.delta.shape[1:])), state

    model, data = net(dtype=torch.float64).eval(), batch(dtype=torch.float64)
    for ball, rule in ((Linf(0.1), Draws()), (L2(0.5), DDN())):
        with pytest.raises(RuntimeError, match="neither success nor random numbers"):
            walk(PGD(ball, STEPS, rule=rule, random_start=False), model, data, tensors=False)
