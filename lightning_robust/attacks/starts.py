"""Starting points of an attack: functions `(ball, noise, zero) -> delta`."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lightning_robust._noise import Noise
from lightning_robust.attacks._tensors import column
from lightning_robust.attacks.ball import Ball, per_sample

Start = Callable[[Ball, Noise, Tensor], Any]
"""`(ball, noise, zero) -> delta`; why `Any`, see `GainFn`."""


def uniform(ball: Ball, noise: Noise, zero: Tensor) -> Tensor:
    """Uniform in the ball."""
    return ball.sample(noise, zero)


def norm_uniform(ball: Ball, noise: Noise, zero: Tensor) -> Tensor:
    """A normal direction scaled to a norm that is uniform in [0, eps], as Stutz et al. (CVPR 2019) start."""
    direction = noise.normal(tuple(zero.shape[1:]), 0).to(zero.dtype)
    limit = ball.limit(zero)
    if limit is not None:  # a coordinate of width zero does not move
        direction = direction * (torch.as_tensor(limit, device=zero.device) > 0)
    norm = ball.norm(direction)
    length = noise.uniform((1,), 1)[:, 0].to(zero.dtype) / torch.where(norm > 0, norm, torch.ones_like(norm))
    return ball.project(direction * column(length, direction) * per_sample(ball.radius, direction))


def on_sphere(ball: Ball, noise: Noise, zero: Tensor) -> Tensor:
    """Uniform in the ball, scaled to its surface, as Auto-PGD starts (Croce & Hein, ICML 2020).

    In the maximum norm: uniform in the cube, divided by the largest entry. In the Euclidean norm: a uniform direction.
    """
    point = ball.sample(noise, zero)
    norm = ball.norm(point)
    length = per_sample(ball.radius, zero) / column(torch.where(norm > 0, norm, torch.ones_like(norm)), zero)
    return ball.project(point * length)


def projected_normal(ball: Ball, noise: Noise, zero: Tensor) -> Tensor:
    """A standard normal point, projected onto the ball, as Auto-PGD starts in the L1 ball (Croce & Hein, ICML 2021)."""
    return ball.project(noise.normal(tuple(zero.shape[1:])).to(zero.dtype))
