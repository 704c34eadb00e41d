"""Does anything withstand a perturbation of any size, and does the gain jump on the way?"""

from typing import Any

import torch
from torch import Tensor

from lightning_robust.attacks import PGD
from lightning_robust.attacks.attack import Context
from lightning_robust.attacks.pixel_space import PixelSpace
from lightning_robust.attacks.threats import Threat
from lightning_robust.evaluation._engine import out_of_memory
from lightning_robust.evaluation._few import few_of, reach_of_the_bounds
from lightning_robust.evaluation._jumps import jumps
from lightning_robust.evaluation._measured import Measured
from lightning_robust.evaluation._one_class import shown_to
from lightning_robust.evaluation._questions import gives_gradient


def at_any_size(
    model: Any, x: Tensor, y: Any, threat: Threat, gain: Any, context: Context, *, steps: int = 20
) -> Measured:
    """The measurements of `indicators.unbounded`, whose arguments these are. Its samples are none of its own: they are
    those of the other questions.
    """
    model, x, y, threat, context = few_of(model, x, y, threat, context)
    factor = reach_of_the_bounds(x, y, threat, context)
    if factor is None:
        return Measured()
    start = bool(getattr(gain, "flat", False))
    attack = PGD(threat.scaled(factor), steps=steps, gain=gain, random_start=start, keep="best")
    try:
        outcome = attack.run(model, x, y, context)
    except RuntimeError as error:
        if out_of_memory(error) or gives_gradient(model, x, y, threat, gain, context):
            raise
        return Measured()
    if outcome.first is None or outcome.fooled is None or outcome.delta is None:
        return Measured()
    right = outcome.first.amin(0) != 0
    each = {"gain_jumps": jumps(model, x, y, threat, gain, context, outcome.delta)}  # processes go together
    if isinstance(threat.space, PixelSpace):  # where maps or codes have a range, all of it may leave a model right
        # Where the gain got what it asks for, the attack works, and `gain_won` tells of a verdict that asks for more.
        won = torch.zeros_like(right) if outcome.signs is None else outcome.signs.won
        each |= {"right": right, "withstood": right & ~outcome.fooled.any(0) & ~won}
        each |= shown_to(model, x, y, threat, gain, context, outcome.delta)
    return Measured(each=each)
