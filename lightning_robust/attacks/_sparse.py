"""Steps and projections that leave most coordinates alone."""

import torch
from torch import Tensor

from lightning_robust.attacks._tensors import column
from lightning_robust.attacks.balls import L1, Ball, per_sample
from lightning_robust.attacks.spaces import Chart


def project_within(delta: Tensor, ball: Ball, chart: Chart) -> Tensor:
    r"""The nearest perturbation in the L1 ball and the bounds at once; in other balls, in the ball, then in the bounds.

    The nearest point is :math:`\mathrm{sign}(\delta_i)\,\min\{(|\delta_i| - \tau)_+, r_i\}`, where :math:`r_i` is the
    room of the coordinate up to its bound and :math:`\tau \ge 0` the least threshold for which the norm is at most
    :math:`\epsilon` (Croce & Hein, ICML 2021, prop. 2.1). The norm is piecewise linear in :math:`\tau`: it is computed
    at all its corners, and :math:`\tau` lies between two.
    """
    if not isinstance(ball, L1) or (chart.lower is None and chart.upper is None):
        return chart.clip(ball.project(delta))
    size = delta.flatten(1).abs()
    room = chart.room(torch.zeros_like(delta), delta).flatten(1)
    budget = torch.as_tensor(per_sample(ball.eps, size), dtype=size.dtype, device=size.device)
    # From above, a coordinate enters at tau = size, and is full at tau = size - room.
    corners, order = torch.cat([size, (size - room).clamp_min(0)], 1).sort(dim=1, descending=True)
    slope = torch.where(order < size.shape[1], 1, -1).cumsum(1)
    gaps = corners - torch.cat([corners[:, 1:], torch.zeros_like(corners[:, :1])], 1)
    norm = (slope * gaps).cumsum(1)  # at the lower end of each gap
    last = (norm <= budget).sum(1, keepdim=True).clamp(max=norm.shape[1] - 1)
    excess = (norm.gather(1, last) - budget).clamp_min(0) / slope.gather(1, last).clamp_min(1)
    tau = corners.gather(1, last) - gaps.gather(1, last) + excess
    nearest = torch.minimum((size - tau).clamp_min(0), room)
    # A point of the set stays as it is, without a trace of rounding.
    inside = (torch.minimum(size, room).sum(1, keepdim=True) <= budget * (1 + 1e-6)).expand_as(size)
    nearest = torch.where(inside, torch.minimum(size, room), nearest)
    return torch.copysign(nearest, delta.flatten(1)).reshape(delta.shape)


def sparse_step(grad: Tensor, ball: Ball, share: Tensor) -> Tensor:
    """The step of the norm of the ball that moves the coordinates of the largest gradients, all by the same amount.

    Args:
        grad: (N, ...) the gradient.
        ball: The ball.
        share: (N,) which share of the coordinates moves.
    """
    height = grad.flatten(1).abs()
    n = height.shape[1]
    place = ((1 - share) * n).clamp(0, n - 1).long()
    least = height.sort(dim=1).values.gather(1, place[:, None])
    sign = (grad.flatten(1).sign() * (height >= least)).reshape(grad.shape)
    norm = ball.norm(sign)
    return sign * (per_sample(ball.radius, sign) / column(torch.where(norm > 0, norm, torch.ones_like(norm)), sign))
