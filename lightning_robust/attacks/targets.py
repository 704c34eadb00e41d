"""Which wrong classes, or yes/no labels, are the nearest: the order in which targeted attacks try them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lightning_robust import _checks
from lightning_robust.attacks._joined import joined
from lightning_robust.attacks._tensors import dims, wide
from lightning_robust.attacks.anchored import hard
from lightning_robust.attacks.attack import Model, check_inputs
from lightning_robust.attacks.ball import Ball
from lightning_robust.attacks.binary import label_margins
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
    return _nearest(model, x, y, threat, logits, count, among, code, _class_margins, true=1)


def nearest_labels(
    model: Model,
    x: Tensor,
    y: Any,
    threat: Threat | Ball,
    logits: Tensor | None = None,
    count: int = 9,
    *,
    among: int = 100,
    code: Any = None,
) -> Tensor:
    r"""The yes/no labels of each sample, the nearest to being got wrong first, as `nearest_classes` orders classes.

    A linear model is at the boundary of label l at the distance :math:`(2 y_l - 1) z_l / \|\nabla_\delta z_l\|_*`. The
    order of the logits is another one where labels have logits of different scales. One forward pass, and a backward
    pass for each of the labels.

    Args:
        model: (N, ...) -> logits (N, L) or (N,), run in evaluation mode; an `nn.Module`, or a function.
        x: (N, ...) clean inputs.
        y: As many labels, 0 or 1.
        threat: The perturbation set: a `Threat`, or a ball, which means pixels in [0, 1].
        logits: The clean logits, where they are known. One label then needs no pass at all.
        count: The number of labels wanted.
        among: With more labels than this, only those whose logits are the least right are looked at, but at least
            `count`.
        code: Known latent codes, for spaces that take them.

    Returns:
        (N, T) int64 with T = min(count, L), what `Context.targets` wants for `targeted_binary`. Where a distance is no
        finite number the label comes last, in the order of the logits.

    Raises:
        ValueError, TypeError: for an output that is not (N, L) or (N,), and for labels of another shape.

    Example:
        >>> from lightning_robust.attacks import Linf
        >>> model = lambda x: x * torch.tensor([0.01, 10.0]) + torch.tensor([0.002, 0.5])  # in Linf(0.1) it can move
        >>> nearest_labels(model, torch.full((1, 2), 0.5), torch.tensor([[1, 1]]), Linf(0.1))  # by 0.001 and by 1
        tensor([[1, 0]])
    """
    return _nearest(model, x, y, threat, logits, count, among, code, label_margins, true=0)


def _class_margins(logits: Tensor, y: Any) -> Tensor:
    """(N, K) how far each class is above the true one; minus infinity for that one."""
    labels = hard(logits, y)
    return without(logits - logits.gather(1, labels[:, None]), labels, -torch.inf)


def _nearest(
    model: Model,
    x: Tensor,
    y: Any,
    threat: Threat | Ball,
    logits: Tensor | None,
    count: int,
    among: int,
    code: Any,
    margins: Callable[[Tensor, Any], Tensor],
    true: int,
) -> Tensor:
    """(N, T) which of the margins (N, M), without `true` that are never wanted, are nearest to being positive."""
    threat, count, among = as_threat(threat), _checks.count("count", count), _checks.count("among", among)
    _checks.function("model", model, "(N, ...) -> logits")
    check_inputs(x)
    with scope(model, x, also=(threat.space,)) as ready:
        x, y, code = ordinary(x), ordinary(y), ordinary(code)
        clean = None if logits is None else margins(wide(logits).nan_to_num(), y)
        if clean is not None and clean.shape[1] - true == 1:
            return clean.argmax(1, keepdim=True)
        chart = threat.space.chart(x, y, code)
        with torch.enable_grad():
            delta = chart.zero.clone().requires_grad_()
            output = joined(ready, chart.decode)(delta)
            check_output(output, len(x))
            rising = margins(wide(output), y)
        clean = margins(wide(output.detach()).nan_to_num(), y) if clean is None else clean
        places = clean.topk(min(max(count, among), clean.shape[1] - true), dim=1).indices
        distance = torch.full_like(places, torch.inf, dtype=clean.dtype)
        for i, place in enumerate(places.split(1, dim=1)):
            if not rising.requires_grad:
                break
            one = torch.zeros_like(rising).scatter_(1, place, 1.0)
            (grad,) = torch.autograd.grad(rising, delta, one, retain_graph=True, allow_unused=True)
            if grad is not None:
                distance[:, i] = -clean.gather(1, place)[:, 0] / _reach(grad, threat.ball, chart)
        distance = torch.where(distance.isfinite(), distance, torch.inf)
        order = distance.sort(dim=1, stable=True).indices[:, :count]
        return places.gather(1, order)
