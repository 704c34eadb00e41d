"""What a few questions to a model tell: the measurements behind the indicators, on few samples."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from lightning_robust._noise import Noise
from lightning_robust.attacks._goal import Goal
from lightning_robust.attacks._step import gain_and_gradient
from lightning_robust.attacks._tensors import column, dims, wide
from lightning_robust.attacks.attack import Context, rows_of
from lightning_robust.attacks.balls import Linf
from lightning_robust.attacks.expectation import Expectation
from lightning_robust.attacks.gains import without
from lightning_robust.attacks.labels import are_class_labels, class_labels
from lightning_robust.attacks.pixel_space import PixelSpace
from lightning_robust.attacks.scope import modules_in, ordinary, scope
from lightning_robust.attacks.threats import Batch, Threat
from lightning_robust.evaluation._engine import out_of_memory
from lightning_robust.evaluation._few import few_of
from lightning_robust.evaluation._indicator import KINDS

_SIZES = (0.03125, 0.125, 0.5, 1.0)
_DRAWS = 3
_REPEATS = 4

_STRAIGHT = 0.98
"""Below it, the rise along the gradient is measured at a smaller size too."""

_SMOOTH = 0.99
"""Where random moves of one direction and two sizes have this cosine, the model is smooth."""

_NOTHING = Threat(Linf(0.0), PixelSpace(-math.inf, math.inf))
"""In place of a perturbation set that is not known."""


class Questions:
    """A model, a gain and a space on few samples, inside `scope`.

    Args:
        batch: The model, the inputs, the labels and the chart.
        goal: What the attacker wants.
        threat: The perturbation set.
        key: Of the random moves.

    Attributes:
        whole: Must every forward have the samples of the batch, and their number depend on no answer? See `few_of`.
    """

    def __init__(self, batch: Batch, goal: Goal, threat: Threat, key: int) -> None:
        self.batch, self.goal, self.threat = batch, goal, threat
        self.whole = False
        self.noise = Noise.of(batch.x, key)
        self.project = threat.projection(batch.chart)
        with torch.no_grad():
            self.clean = batch.model(batch.x.clone())  # a forward may write to its input
        self.goal.check(self.clean)

    def output(self, delta: Tensor) -> Tensor:
        """The model's output at a perturbation."""
        return self.batch.model(self.batch.chart.decode(delta))

    @torch.no_grad()
    def gain(self, delta: Tensor) -> Tensor:
        """The gain (N,) at a perturbation."""
        return self.goal.gain(self.output(delta)).double()

    def gradient(self, delta: Tensor, of: Callable[[Tensor], Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """The output and the gradient of the gain, or of another function of the logits, as they come; zeros where
        there is none.
        """
        logits, grad = self.known_gradient(delta, of)
        return logits, torch.zeros_like(delta) if grad is None else grad

    def known_gradient(
        self, delta: Tensor, of: Callable[[Tensor], Tensor] | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """The same; None where no gradient arrives, or the model refuses to be asked for one."""
        at, logits = delta.clone().requires_grad_(), None
        try:
            with torch.enable_grad():
                logits = self.output(at)
                return logits.detach(), gain_and_gradient(of or self.goal.gain, logits, at)[1].detach()
        except RuntimeError as error:
            if out_of_memory(error):
                raise
        with torch.no_grad():
            return self.output(delta) if logits is None else logits.detach(), None

    def silent(self, delta: Tensor) -> Tensor | None:
        """(N,) bool: have the two highest logits of wrong classes no gradient? None: there are no two."""
        y, clean = self.batch.y, self.clean
        if not are_class_labels(clean, y) or clean.shape[1] < 3:
            return None
        labels = class_labels(clean, y)
        labels = labels if labels.ndim == 1 else labels.argmax(1)
        if not bool(((labels >= 0) & (labels < clean.shape[1])).all()):
            return None
        factors = wide(clean).new_tensor([1.0, 0.7])  # gradients of opposite classes do not cancel

        def highest(logits: Tensor) -> Tensor:
            return without(wide(logits), labels, -torch.inf).topk(2, dim=1).values.mul(factors).sum(1)

        return (self.gradient(delta, highest)[1] == 0).flatten(1).all(1)

    def difference(self, one: Tensor, other: Tensor) -> float:
        """The largest difference of two outputs, in standard deviations of the clean output, or the size of one."""
        # In float64: the squares of logits of 1e20 are no float32.
        one, other, scale = (
            wide(v).double().nan_to_num(nan=1e30, posinf=2e30, neginf=-2e30) for v in (one, other, self.clean)
        )
        spread = scale.std(unbiased=False) if scale.numel() > 1 else scale.abs().max()
        return float((one - other).abs().max() / spread.clamp(min=1e-100))

    def eps(self) -> float:
        """The relative rounding of the output, or of what autocast computes it in."""
        device, kinds = self.clean.device.type, [self.clean.dtype] * self.clean.is_floating_point()
        kinds += [torch.get_autocast_dtype(device)] * torch.is_autocast_enabled(device)
        return max((torch.finfo(kind).eps for kind in kinds), default=0.0)

    def rounding(self) -> Tensor:
        """(N,) differences of two gains that are no more than this may be of the rounding of the output alone."""
        clean = wide(self.clean).reshape(len(self.clean), -1).double()
        eps = torch.finfo(self.clean.dtype).eps if self.clean.is_floating_point() else 0.0
        return 8 * eps * clean.nan_to_num(0.0, 0.0, 0.0).abs().amax(1)


def measure(
    model: Any,
    x: Tensor,
    y: Any,
    threat: Threat | None,
    gain: Any,
    context: Context,
    probabilities: Callable[[Tensor], Tensor],
) -> dict[str, float]:
    """The values of the indicators of `indicators.probe`, by name; those that were not measured are left out."""
    model, x, y, known, context = few_of(model, x, y, _NOTHING if threat is None else threat, context)
    with questions(model, x, y, known, _height if threat is None else gain, context) as asked:
        values = _answers(asked, probabilities)
        random, joined = values["random"] > KINDS["random"].threshold, False
        if any(isinstance(module, Expectation) for module in modules_in(model)):
            values |= _of_the_draws(asked, model)
        elif asked.whole or not random:
            found = _of_the_batch(asked)
            joined = len(x) > 1 and not found.get("company", math.inf) <= KINDS["company"].threshold
            values |= {} if random else found
        if threat is not None:
            of_each = _of_the_gradient(asked)
            # Where samples act on one another, none rises as the gradient of all gains together promises.
            for name in ("foreign_gradient", "gradient_rise") if joined else ():
                of_each.pop(name, None)
            values |= of_each
    if random:  # which says the same in other words
        values.pop("grad_mode", None)
    return values


def _height(logits: Tensor, y: Any) -> Tensor:
    """Something to ask a gradient of."""
    return wide(logits).flatten(1).sum(1) if logits.ndim > 1 else wide(logits)


def gives_gradient(model: Any, x: Tensor, y: Any, threat: Threat, gain: Any, context: Context) -> bool:
    """Does a gradient arrive at the perturbation, be it zero?"""
    with questions(model, x, y, threat, gain, context) as asked:
        return asked.known_gradient(asked.batch.chart.zero)[1] is not None


@contextmanager
def questions(model: Any, x: Tensor, y: Any, threat: Threat, gain: Any, context: Context) -> Iterator[Questions]:
    """To ask, within `scope`."""
    with scope(model, x, seed=context.key, also=(threat.space, gain)) as ready:
        x, y, code = ordinary(x), ordinary(y), ordinary(context.code)
        batch = Batch(ready, x, y, threat.space.chart(x, y, code))
        asked = Questions(batch, Goal(gain, batch, context), threat, context.key)
        asked.whole = bool(getattr(model, "whole_batches", False))
        yield asked


@torch.no_grad()
def _answers(asked: Questions, probabilities: Callable[[Tensor], Tensor]) -> dict[str, float]:
    """The same question twice and in other words, and what kind of numbers the answers are."""
    model, x, zero, clean = asked.batch.model, asked.batch.x, asked.batch.chart.zero, asked.clean
    with _backward_passes() as passes:
        random = max(asked.difference(model(x.clone()), clean) for _ in range(_REPEATS))
    values = {}
    if x.is_floating_point() and (asked.whole or random <= KINDS["random"].threshold):
        moved = asked.difference(asked.gradient(zero)[0], asked.output(zero))
        values["grad_mode"] = moved if moved > 8 * asked.eps() else 0.0  # torch may go another way without gradients
    finite = clean.reshape(len(clean), -1).isfinite().all(1)
    return values | {
        "random": random,
        "optimizing": float(bool(passes)),
        "broken_logits": float((~finite).double().mean()),
        "probabilities": float(probabilities(clean).double().mean()),
    }


@torch.no_grad()
def _of_the_batch(asked: Questions) -> dict[str, float]:
    """Does the answer depend on the input, and on nothing but the input?"""
    batch, clean, n = asked.batch, asked.clean, len(asked.clean)
    model, x = batch.model, batch.x
    if n < 2:
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
    company = max(asked.difference(moved, clean[rolled]), asked.difference(part, clean[some]))
    values = {"company": company, "constant": asked.difference(moved, clean)}
    if not bool((x[rolled] != x).any()):
        del values["constant"]
    return values


@torch.no_grad()
def _of_the_draws(asked: Questions, model: Any) -> dict[str, float]:
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
    return {"few_draws": float((verdict != other).double().mean())}


def _of_the_gradient(asked: Questions) -> dict[str, float]:
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
    values = {
        "zero_gradient": float(zero.double().mean()),
        "broken_gradient": float(broken.mean()),
        "gradient_moves": float(moves.median()),
    }
    if silent is not None:
        values["silent_classes"] = float((silent & ~zero).double().mean())
    return values | _along(asked, here, grads[-1])


@torch.no_grad()
def _along(asked: Questions, here: Tensor, grad: Tensor) -> dict[str, float]:
    r"""The rise along the gradient against the rise that it promises, in units of random moves.

    .. math:: \frac{G(+s) - G(-s)}{\langle g, s_+ - s_-\rangle} \cdot
              \sqrt{\frac{\sum_u \langle g, u_+ - u_-\rangle^2}{\sum_u (G(+u) - G(-u))^2}}

    The first factor is the rise along the steepest step s by that which the gradient g promises, the second the
    promise for random moves u of the same size by what they really do. 1 for a linear gain and its own gradient, also
    times a constant; 0 in the median for a gradient at random, -1 for a flipped one, a cosine for a foreign one.
    Differences of both sides: what is curved cancels. The median over the samples, at the size at which it is highest:
    rounding hides small moves, and bends hide large ones. Samples whose gain is lost in rounding whatever the move, as
    cross entropy is where a model is sure, tell nothing.
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

    found: dict[str, float] = {}
    values: dict[float, float] = {}
    moves: list[Tensor] = []

    def measured(size: float) -> tuple[float, Tensor]:
        """The value at a size, and the rises (N, draws) of random moves."""
        rise, promised = sides(grad, size)
        random = [sides(_random(asked, k), size) for k in range(_DRAWS)]
        moves = torch.stack([move for move, _ in random], 1)
        real = moves.square().sum(1).sqrt()
        hoped = torch.stack([promise for _, promise in random], 1).square().sum(1).sqrt()
        value = torch.where((rise == 0) | (hoped == 0), 0.0, (rise * hoped) / (promised * real)).nan_to_num(0.0)
        told = (promised == 0) | (torch.maximum(rise.abs(), real) > asked.rounding())
        return float(value[told].median()) if bool(told.any()) else math.nan, moves

    for size in _SIZES:
        values[size], rises = measured(size)
        moves.append(rises)
    clear = moves[0].square().sum(1).sqrt() > asked.rounding()  # else the smallest random moves are rounding, too
    # One or two samples may lie at bends.
    smooth = 2 * int(clear.sum()) > max(len(clear), 4) and _cosine(moves[0], moves[1]).median() > _SMOOTH
    straight = not values[_SIZES[0]] < _STRAIGHT
    # Bends, or another function? A bend goes away at a smaller size.
    finer = measured(_SIZES[0] / 8) if asked.whole or (values[_SIZES[0]] and smooth and not straight) else None
    if values[_SIZES[0]] and smooth:  # NaN stays NaN: it is not known
        found["foreign_gradient"] = values[_SIZES[0]]
        if finer is not None and not straight:
            value, rises = finer
            if _cosine(rises, moves[0]).median() > _SMOOTH:  # not lost in rounding
                found["foreign_gradient"] = max(values[_SIZES[0]], value)  # in this order: not a NaN
    jump = (moves[0] - moves[1] * (_SIZES[0] / _SIZES[1])).square().mean(1).sqrt() / 2
    found["unstable"] = float((jump / asked.gain(here).abs().clamp(min=1e-300)).clamp(max=1).median())
    return found | {"gradient_rise": max((v for v in values.values() if not math.isnan(v)), default=math.nan)}


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
