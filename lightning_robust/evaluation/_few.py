"""Few samples of a batch, for questions to a model."""

from typing import Any

import torch
from torch import Tensor

from lightning_robust._nested import cut
from lightning_robust.attacks.attack import Context, rows_of
from lightning_robust.attacks.scope import ordinary, scope
from lightning_robust.attacks.threats import Threat

MOST = 64
"""Number of samples that are looked at, at most."""


def few_of(model: Any, x: Tensor, y: Any, threat: Threat, context: Context) -> tuple[Any, Tensor, Any, Threat, Context]:
    """All of them for the first samples of the batch, 64 at most; for all of them, where the model itself says that it
    wants `whole_batches`.
    """
    n = len(x)
    if n <= MOST or getattr(model, "whole_batches", False):
        return model, x, y, threat, context
    few = torch.arange(MOST, device=x.device)
    part = Threat(threat.ball.take(few), threat.space)
    return rows_of(model, few), x[few], cut(y, n, few), part, context.take(few, n)


def reach_of_the_bounds(x: Tensor, y: Any, threat: Threat, context: Context) -> float | None:
    """The factor by which the ball covers the bounds of the space around all samples; None where it has none."""
    with scope(None, x, seed=context.key, also=(threat.space,)), torch.no_grad():
        chart = threat.space.chart(ordinary(x), ordinary(y), ordinary(context.code))
        if chart.lower is None or chart.upper is None:
            return None
        farthest = threat.ball.norm(torch.maximum(chart.upper, -chart.lower).expand_as(chart.zero)).double()
        factor = (farthest / torch.as_tensor(threat.ball.radius, dtype=torch.float64, device=x.device)).max()
    return float(factor) if bool(factor.isfinite()) and factor > 0 else None
