"""Does the gain jump where the verdict changes? A bisection between clean inputs and perturbed ones."""

from typing import Any

import torch
from torch import Tensor

from lightning_robust.attacks._tensors import column, wide
from lightning_robust.attacks.attack import Context
from lightning_robust.attacks.threats import Threat
from lightning_robust.evaluation._questions import questions

_HALVINGS = 12
"""Of the segment: what is steep, such as a softmax, is resolved at this size, and what jumps is not."""


def jumps(model: Any, x: Tensor, y: Any, threat: Threat, gain: Any, context: Context, delta: Tensor) -> Tensor:
    r"""The share of the way of the gain that it makes at one point, (M,) for the M samples that `delta` breaks.

    On the segment from zero to `delta`, halving finds two points a and b, close together, right at a and wrong at b.
    The share is the jump between these by the whole way,

    .. math:: \frac{|G(b) - G(a)|}{|G(a) - G(0)| + |G(b) - G(a)| + |G(\delta) - G(b)|}

    Zero for continuous outputs, whatever their scale: the highest of them changes only where two meet. A jump that is
    no more than rounding counts as none.

    Args:
        model: x (N, ...) -> output.
        x: (N, ...) clean inputs.
        y: Labels.
        threat: Its space is that of `delta`.
        gain: What is followed.
        context: What "right" means, and known codes.
        delta: (N, ...) perturbations.
    """
    with questions(model, x, y, threat, gain, context) as asked, torch.no_grad():

        def at(share: Tensor) -> tuple[Tensor, Tensor]:
            logits = asked.output((wide(delta) * column(share, delta)).to(delta))
            return asked.goal.fooled(logits), asked.goal.gain(logits)

        low = wide(delta).new_zeros(len(delta))
        high = torch.ones_like(low)
        (wrong, start), (broken, end) = at(low), at(high)
        before, after = start, end
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            fooled, value = at(middle)
            low, high = torch.where(fooled, low, middle), torch.where(fooled, middle, high)
            before, after = torch.where(fooled, before, value), torch.where(fooled, value, after)
        own = 8 * torch.finfo(end.dtype).eps * torch.maximum(start.abs(), end.abs())
        rounding = torch.maximum(asked.rounding(), own.double())
        start, before, after, end = (value.double() for value in (start, before, after, end))
        jump = (after - before).abs()
        way = (before - start).abs() + jump + (end - after).abs()
        jump = torch.where(jump > rounding, jump, 0.0)
        return (jump / way)[broken & ~wrong & way.isfinite() & (way > 0)]
