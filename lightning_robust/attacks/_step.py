r"""One step of the ascent: the gradient of a gain with respect to a perturbation, and the whole step as one function.

`step` is what `Ascent` does in one turn of its loop where nobody looks at what is in between, without a state of its
own, so that one graph can hold it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lightning_robust.attacks._goal import Goal
from lightning_robust.attacks._joined import Decode
from lightning_robust.attacks._tensors import column
from lightning_robust.attacks.ball import Ball
from lightning_robust.attacks.rules import Iterate, Rule
from lightning_robust.attacks.spaces import Chart


def _needs_scaling(logits: Tensor) -> bool:
    half = (torch.float16, torch.bfloat16)
    device = logits.device.type
    return logits.dtype in half or (torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) in half)


def _gradient(logits: Tensor, delta: Tensor, slope: Tensor) -> Tensor | None:
    """The gradient with respect to `delta` of <slope, logits>."""
    return torch.autograd.grad(logits, delta, slope, allow_unused=True)[0]


def _scaled_gradient(logits: Tensor, delta: Tensor, slope: Tensor) -> Tensor | None:
    """The same, sent through the network as a multiple of `slope` and scaled back."""
    slope = slope.float()
    # The exponent bits of a float32 are the largest power of two below it; kept away from zero and infinity.
    top = slope.reshape(len(slope), -1).abs().amax(1)
    power = (top.view(torch.int32) & 0x7F800000).clamp_(1 << 24, 252 << 23).view(torch.float32)
    weights = (slope / column(power, slope)).to(logits.dtype)
    grad = _gradient(logits, delta, weights)
    return None if grad is None else grad * column(power.to(grad.dtype), grad)


def gain_and_gradient(
    gain: Callable[[Tensor], Tensor],
    logits: Tensor,
    delta: Tensor,
    closed: Callable[[Tensor], tuple[Tensor, Tensor] | None] | None = None,
) -> tuple[Tensor, Tensor]:
    r"""The gain of each sample (N,) and its gradient with respect to `delta`, computed with respect to nothing else.

    In half precision small gradients vanish: for a well-fitted network in float16 all of them, and the attack does
    nothing. There the chain rule is cut at the logits z: :math:`\partial L/\partial z` in float32 is scaled per sample
    by a power of two to a largest entry in [1, 2), sent through the network, and scaled back. The result does not
    depend on the batch or on a gradient scaler.

    Args:
        gain: `logits -> (N,)`.
        logits: The output of the model.
        delta: What it depends on.
        closed: `logits -> (gain, slope)` where the slope, the gradient of the gain with respect to the logits, is known
            in closed form; else None. There the chain rule begins with it.
    """
    if not logits.requires_grad:
        raise RuntimeError(
            "Expected the model's output to depend on its input differentiably, but it carries no gradient. "
            "Does `forward` run under torch.no_grad, detach, return predicted classes instead of logits, or read "
            "another field of the batch than `input` names?"
        )
    half, known = _needs_scaling(logits), None if closed is None else closed(logits)
    if half and known is None:
        z = logits.detach().float().requires_grad_()
        value = gain(z)
        known = value, torch.autograd.grad(value.sum(), z)[0]
    grad: Tensor | None
    if known is None:
        value = gain(logits)
        (grad,) = torch.autograd.grad(value.sum(), delta, allow_unused=True)
    else:
        value, slope = known
        through = _scaled_gradient if half else _gradient
        grad = through(logits, delta, slope)
    if grad is None:
        raise RuntimeError(
            "Expected the model's output to depend on its input, but no gradient arrives at the perturbation."
        )
    return value.detach(), grad


@dataclass(frozen=True, eq=False)
class Course:
    """What all steps of a run have in common.

    Args:
        goal: What is raised.
        ball: How far a perturbation may go.
        chart: The space as it is around the batch.
        project: `delta -> delta`, the nearest perturbation in the ball and the bounds.
        rule: How a gradient becomes a step.
        steps: The number of steps; a number, or a tensor of no dimensions, as the two numbers of `step`.
    """

    goal: Goal
    ball: Ball
    chart: Chart
    project: Callable[[Tensor], Tensor]
    rule: Rule
    steps: Any


def may_be_one(rule: Rule) -> bool:
    """May a step of the rule be one function? It is to climb along gradients, and to keep nothing beside its state."""
    return rule.order == 1 and not rule.keeps_best and type(rule).over is Rule.over


def _not_here() -> Any:
    raise RuntimeError("A step that is one function knows neither success nor random numbers.")


def step(
    module: nn.Module, decode: Decode, course: Course, delta: Tensor, state: Any, size: Any, number: Any
) -> tuple[Tensor, Any]:
    """The next perturbation, and the next state of the rule.

    Args:
        module: The network.
        decode: The map of the space before it.
        course: What all steps have in common. The rule is of order one, and asks for neither the best point, success
            nor random numbers.
        delta: (N, ...) the present perturbation.
        state: Of the rule.
        size: Of this step; a number, or a tensor of no dimensions, for which a graph need not be made anew.
        number: Of this step, likewise.
    """
    goal, chart, ball, project = course.goal, course.chart, course.ball, course.project
    delta = delta.detach().requires_grad_()
    gain, grad = gain_and_gradient(goal.gain, module(decode(delta)), delta, goal.slope)
    with torch.no_grad():
        grad, delta = grad.nan_to_num().contiguous(), delta.detach()
        at = Iterate(delta, gain, grad, ball, chart, size, number, course.steps, None, project, _not_here, _not_here)
        moved, state = course.rule(at, state)
        return project(moved), state
