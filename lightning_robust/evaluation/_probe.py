"""What a few questions to a model tell: the measurements behind the indicators, on few samples."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from lightning_robust.attacks._tensors import column, dims, wide
from lightning_robust.attacks.attack import Context, rows_of
from lightning_robust.attacks.balls import Linf
from lightning_robust.attacks.binary import binary_correct
from lightning_robust.attacks.expectation import Expectation
from lightning_robust.attacks.pixel_space import PixelSpace
from lightning_robust.attacks.scope import modules_in
from lightning_robust.attacks.threats import Threat
from lightning_robust.evaluation._engine import out_of_memory
from lightning_robust.evaluation._few import few_of
from lightning_robust.evaluation._indicator import KINDS
from lightning_robust.evaluation._measured import ENOUGH, TINY, Measured, wants_finer
from lightning_robust.evaluation._questions import Questions, apart, questions
from lightning_robust.evaluation._tally import are_probabilities

_SIZES = (0.03125, 0.125, 0.5, 1.0)
_DRAWS = 3
_REPEATS = 4

_NOTHING = Threat(Linf(0.0), PixelSpace(-math.inf, math.inf))
"""In place of a perturbation set that is not known."""


def measure(
    model: Any, x: Tensor, y: Any, threat: Threat | None, gain: Any, context: Context, *, pooled: bool = False
) -> Measured:
    """The measurements of `indicators.probe`, whose arguments these are.

    `pooled`: of one of several batches, whose measurements are put together; then this one by itself does not decide
    what is measured.
    """
    model, x, y, known, context = few_of(model, x, y, _NOTHING if threat is None else threat, context)
    with questions(model, x, y, known, _height if threat is None else gain, context) as asked:
        facts, gaps = _answers(asked)
        each, one = _kinds_of_outputs(asked, context), None
        random = _differ(asked, gaps["random"], "random")
        if any(isinstance(module, Expectation) for module in modules_in(model)):
            each |= _of_the_draws(asked, model)
        elif asked.whole or not random:
            found, one = _of_the_batch(asked), (x[0].clone(), asked.clean[0].clone())
            facts |= {"joined"} if len(x) > 1 and _differ(asked, found.get("company", math.inf), "company") else set()
            gaps |= found
        if threat is not None:
            each |= _of_the_gradient(asked, pooled=pooled or len(x) < ENOUGH)
        return Measured(len(x), each, gaps, asked.scale, frozenset(facts), one)


def _differ(asked: Questions, gap: float, name: str) -> bool:
    """Is a difference of outputs beyond the threshold of an indicator?"""
    return gap / max(asked.scale, TINY) > KINDS[name].threshold


def _height(logits: Tensor, y: Any) -> Tensor:
    """Something to ask a gradient of."""
    return wide(logits).flatten(1).sum(1) if logits.ndim > 1 else wide(logits)


@torch.no_grad()
def _answers(asked: Questions) -> tuple[set[str], dict[str, float]]:
    """The same question twice and in other words: how far the answers are apart, and what is seen on the way."""
    model, x, zero, clean = asked.batch.model, asked.batch.x, asked.batch.chart.zero, asked.clean
    with _backward_passes() as passes:
        gaps = {"random": max(apart(model(x.clone()), clean) for _ in range(_REPEATS))}
    if x.is_floating_point() and (asked.whole or not _differ(asked, gaps["random"], "random")):
        moved = apart(asked.gradient(zero)[0], asked.output(zero))
        # Torch may go another way without gradients.
        gaps["grad_mode"] = moved if moved > 8 * asked.eps() * max(asked.scale, TINY) else 0.0
    return {"optimizing"} if passes else set(), gaps


def _kinds_of_outputs(asked: Questions, context: Context) -> dict[str, Tensor]:
    """What kind of numbers the answers are."""
    clean, yes_no = asked.clean, context.correct is binary_correct
    told = context.correct is None or yes_no
    return {
        "broken_logits": ~clean.reshape(len(clean), -1).isfinite().all(1),
        "probabilities": are_probabilities(clean, yes_no) if told else clean.new_zeros(len(clean), dtype=torch.bool),
    }


@torch.no_grad()
def _of_the_batch(asked: Questions) -> dict[str, float]:
    """Does the answer depend on the input, and on nothing but the input?"""
    batch, clean, n = asked.batch, asked.clean, len(asked.clean)
    model, x = batch.model, batch.x
    if n < 2 and not asked.whole:  # else as many forwards as for other batches
        return {}
    every, half = torch.arange(n, device=x.device), (n + 1) // 2
    # Of a batch that must stay whole the first half comes twice.
    rolled, some = every.roll(1), every % half if asked.whole else every[:half]
    try:
        part, moved = (rows_of(model, rows)(x[rows].clone()) for rows in (some, rolled))
    except Exception as error:  # whatever a batch raises that cannot be cut, or is no longer what the model takes
        if out_of_memory(error):
            raise
        return {}
    if n < 2:  # no company to take away, and nothing to tell apart: see `Measured` for the samples of other batches
        return {}
    company = max(apart(moved, clean[rolled]), apart(part, clean[some]))
    gaps = {"company": company, "constant": apart(moved, clean)}
    if not bool((x[rolled] != x).any()):
        del gaps["constant"]
    return gaps


@torch.no_grad()
def _of_the_draws(asked: Questions, model: Any) -> dict[str, Tensor]:
    """Would other draws give another verdict?"""
    means = [module for module in modules_in(model) if isinstance(module, Expectation)]
    verdict = asked.goal.fooled(asked.clean)
    for module in means:
        module.seed += 1
    try:
        other = asked.goal.fooled(asked.batch.model(asked.batch.x.clone()))
    finally:
        for module in means:
            module.seed -= 1
    return {"few_draws": verdict != other}


def _of_the_gradient(asked: Questions, *, pooled: bool) -> dict[str, Tensor]:
    """Is there a gradient, is it the same each time, and does the gain rise along it?"""
    chart, ball, project = asked.batch.chart, asked.threat.ball, asked.project
    with torch.no_grad():
        here = project(chart.clip(ball.sample(asked.noise.fold(0), chart.zero) / 2))
    grads = [asked.gradient(here)[1] for _ in range(3)]
    broken = torch.stack([1 - g.isfinite().double().flatten(1).mean(1) for g in grads]).amax(0)
    zero = torch.stack([(g == 0).flatten(1).all(1) for g in grads]).any(0)
    silent = asked.silent(here)
    grads = [g.nan_to_num(0.0, 0.0, 0.0) for g in grads]
    moves = torch.stack([1 - _cosine(grads[0], g) for g in grads[1:]]).amax(0)
    each = {"zero_gradient": zero, "broken_gradient": broken, "gradient_moves": moves}
    if silent is not None:
        each["silent_classes"] = silent & ~zero
    return each | _along(asked, here, grads[-1], pooled=pooled)


@torch.no_grad()
def _along(asked: Questions, here: Tensor, grad: Tensor, *, pooled: bool) -> dict[str, Tensor]:
    r"""The rise along the gradient against the rise that it promises, in units of random moves.

    .. math:: \frac{G(+s) - G(-s)}{\langle g, s_+ - s_-\rangle} \cdot
              \sqrt{\frac{\sum_u \langle g, u_+ - u_-\rangle^2}{\sum_u (G(+u) - G(-u))^2}}

    The first factor is the rise along the steepest step s by that which the gradient g promises, the second the
    promise for random moves u of the same size by what they really do. 1 for a linear gain and its own gradient, also
    times a constant; 0 in the median for a gradient at random, -1 for a flipped one, a cosine for a foreign one.
    Differences of both sides: what is curved cancels. Of several sizes, since rounding hides small moves, and bends
    hide large ones. Samples whose gain is lost in rounding whatever the move, as cross entropy is where a model is
    sure, tell nothing.
    """
    chart, ball, project = asked.batch.chart, asked.threat.ball, asked.project

    def sides(direction: Tensor, size: float) -> tuple[Tensor, Tensor]:
        """The rise (N,) between the two ends of a move, and what the gradient promises of it."""
        ends = []
        for way in (direction, -direction):
            room = chart.room(here, way) if ball.wants_room else None
            ends.append(project(here + ball.support(way, size, room)))
        promised = (wide(grad).double() * (ends[0] - ends[1])).sum(dims(grad))
        return asked.gain(ends[0]) - asked.gain(ends[1]), promised

    def measured(size: float) -> tuple[Tensor, Tensor]:
        """The value (N,) at a size, NaN where it is lost in rounding, and the rises (N, draws) of random moves."""
        rise, promised = sides(grad, size)
        random = [sides(_random(asked, k), size) for k in range(_DRAWS)]
        moves = torch.stack([move for move, _ in random], 1)
        real = moves.square().sum(1).sqrt()
        hoped = torch.stack([promise for _, promise in random], 1).square().sum(1).sqrt()
        value = torch.where((rise == 0) | (hoped == 0), 0.0, (rise * hoped) / (promised * real)).nan_to_num(0.0)
        told = (promised == 0) | (torch.maximum(rise.abs(), real) > asked.rounding())
        return torch.where(told, value, math.nan), moves

    values, moves = zip(*map(measured, _SIZES), strict=True)
    jump = (moves[0] - moves[1] * (_SIZES[0] / _SIZES[1])).square().mean(1).sqrt() / 2
    each = {
        "rise": torch.stack(values, 1),
        "clear": moves[0].square().sum(1).sqrt() > asked.rounding(),  # else the smallest random moves are rounding, too
        "cosine": _cosine(moves[0], moves[1]),
        "unstable": (jump / asked.gain(here).abs().clamp(min=1e-300)).clamp(max=1),
    }
    if asked.whole or pooled or wants_finer(each):
        value, rises = measured(_SIZES[0] / 8)
        each |= {"finer": value, "finer_cosine": _cosine(rises, moves[0])}
    return each


def _random(asked: Questions, k: int) -> Tensor:
    """A random direction of each sample."""
    return asked.noise.normal(tuple(asked.batch.chart.zero.shape[1:]), 1, k).to(asked.batch.chart.zero.dtype)


def _cosine(one: Tensor, other: Tensor) -> Tensor:
    """(N,); 1 where both are zero, 0 where one is."""
    units = []
    for v in (one, other):
        top = v.abs().amax(dims(v), keepdim=True)
        v = wide(v / torch.where(top > 0, top, torch.ones_like(top))).double()
        norm = torch.linalg.vector_norm(v.flatten(1), dim=1)
        units.append(v / column(norm.clamp(min=1e-30), v))
    both = (one == 0).flatten(1).all(1) & (other == 0).flatten(1).all(1)
    return torch.where(both, 1.0, (units[0] * units[1]).sum(dims(one)))


@contextmanager
def _backward_passes() -> Iterator[list[int]]:
    """A list that grows when something inside, asked without a gradient, computes one."""
    passes: list[int] = []

    def unpack(tensor: Tensor) -> Tensor:
        passes.append(1)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor, unpack):
        yield passes
