"""Which wrong classes are the nearest: the order in which targeted attacks try them."""

from typing import Any

import torch
from torch import Tensor

from lightning_robust import _checks
from lightning_robust.attacks._joined import joined
from lightning_robust.attacks._tensors import dims, wide
from lightning_robust.attacks.anchored import hard
from lightning_robust.attacks.attack import Model, check_inputs
from lightning_robust.attacks.ball import Ball
from lightning_robust.attacks.gains import without
from lightning_robust.attacks.labels import check_output
from lightning_robust.attacks.scope import ordinary, scope
from lightning_robust.attacks.spaces import Chart
from lightning_robust.attacks.threats import Threat, as_threat


def _reach(grad: Tensor, ball: Ball, chart: Chart) -> Tensor:
    """(N,) by how much a linear function of this gradient rises within the ball and the bounds."""
    grad = wide(grad).nan_to_num(0.0, 0.0, 0.0)
    furthest = chart.clip(ball.support(grad, room=chart.room(chart.zero, grad)))
    return (grad * furthest).sum(dims(grad))


def nearest_classes(
    model: Model,
    x: Tensor,
    y: Any,
    threat: Threat | Ball,
    logits: Tensor | None = None,
    count: int = 9,
    *,
    among: int = 20,
    code: Any = None,
) -> Tensor:
    r"""The wrong classes of each sample, the nearest first, by the model's linearization around the clean input.

    A linear model is at the boundary to class k at the distance :math:`(z_y - z_k) / \|\nabla_\delta (z_k - z_y)\|_*`,
    with the dual norm of the ball, :math:`\|g\|_* = \max_{v \in B} \langle g, v \rangle`. The order of these distances
    is MALT's (Melamed et al., "MALT Powers Up Adversarial Attacks", NeurIPS 2024, algorithm 1, who divide by the
    Euclidean norm in any ball). The order of the logits is another one where the classes have gradients of different
    sizes. One forward pass, and a backward pass for each of the classes.

    Deviation: v stays in the bounds of the space, too. A class that the pixel range keeps out of reach comes later.

    Args:
        model: (N, ...) -> logits (N, K), run in evaluation mode; an `nn.Module`, or a function.
        x: (N, ...) clean inputs.
        y: Class labels; of probabilities the most likely class counts as the true one.
        threat: The perturbation set: a `Threat`, or a ball, which means pixels in [0, 1].
        logits: (N, K) the clean logits, where they are known. Two classes then need no pass at all.
        count: The number of classes wanted.
        among: With more wrong classes than this, only those of the highest logits are looked at, but at least `count`.
        code: Known latent codes, for spaces that take them.

    Returns:
        (N, T) int64 with T = min(count, K - 1), what `Context.targets` wants. Where a distance is no finite number (the
        gradient is zero, NaN, or there is none) the class comes last, in the order of the logits.

    Raises:
        ValueError, TypeError: for an output that is not (N, K), and for labels that are no class labels.

    Example:
        >>> from lightning_robust.attacks import Linf
        >>> weight = torch.tensor([[0.0, 0.0], [0.5, 0.0], [4.0, 4.0]])
        >>> model = lambda x: x @ weight.T + torch.tensor([9.0, 8.0, 0.0])  # class 2 is far in logits, and near in x
        >>> nearest_classes(model, torch.full((1, 2), 0.5), torch.tensor([0]), Linf(0.1))
        tensor([[2, 1]])
    """
    threat, count, among = as_threat(threat), _checks.count("count", count), _checks.count("among", among)
    _checks.function("model", model, "(N, ...) -> logits (N, K)")
    check_inputs(x)
    with scope(model, x, also=(threat.space,)) as ready:
        x, y, code = ordinary(x), ordinary(y), ordinary(code)
        if logits is not None and logits.ndim == 2 and logits.shape[1] == 2:
            return 1 - hard(wide(logits), y)[:, None]
        chart = threat.space.chart(x, y, code)
        with torch.enable_grad():
            delta = chart.zero.clone().requires_grad_()
            output = joined(ready, chart.decode)(delta)
        check_output(output, len(x))
        clean = wide(output.detach() if logits is None else logits).nan_to_num()
        labels = hard(clean, y)
        rest = without(clean, labels, -torch.inf)
        classes = rest.topk(min(max(count, among), clean.shape[1] - 1), dim=1).indices
        distance = torch.full_like(classes, torch.inf, dtype=clean.dtype)
        for i, k in enumerate(classes.split(1, dim=1)):
            if not output.requires_grad:
                break
            weights = torch.zeros_like(output).scatter_(1, labels[:, None], -1.0).scatter_(1, k, 1.0)
            (grad,) = torch.autograd.grad(output, delta, weights, retain_graph=True, allow_unused=True)
            if grad is not None:
                gap = clean.gather(1, labels[:, None]) - clean.gather(1, k)
                distance[:, i] = gap[:, 0] / _reach(grad, threat.ball, chart)
        distance = torch.where(distance.isfinite(), distance, torch.inf)
        order = distance.sort(dim=1, stable=True).indices[:, :count]
        return classes.gather(1, order)
