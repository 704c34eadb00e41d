"""Starting points of an attack: functions `(ball, noise, zero) -> delta`."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lightning_robust._noise import Noise
from lightning_robust.attacks._tensors import column
from lightning_robust.attacks.ball import Ball, per_sample

__all__ = ["norm_uniform", "on_sphere", "patches", "projected_normal", "uniform"]

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


def patches(ball: Ball, noise: Noise, zero: Tensor) -> Tensor:
    """On the surface of the ball, one random sign in each square patch; the side is drawn for each sample.

    The side of a patch of an image (C, H, W) has a uniform logarithm between 1 and the shorter of H and W. For other
    shapes each coordinate has a sign of its own. Independent noise nearly cancels in the first layers of a network, so
    that restarts from it end where the one from the clean input does; these starts are far away for the network, too.
    Measured on the three of 500 images that withstand targeted Auto-PGD and fall to Square (two small networks, trained
    adversarially): 20 steps of `margin` from here succeed in 53, 45 and 12 % of the restarts, from uniform starts in
    17, 9 and 0 %.
    """
    shape = tuple(zero.shape[1:])
    point = (noise.uniform(shape, 0).to(zero.dtype) < 0.5).to(zero.dtype) * 2 - 1
    if len(shape) == 3:
        side = (noise.uniform((1,), 1)[:, 0] * math.log(min(shape[1:]))).exp()
        down, across = ((torch.arange(size, device=zero.device) / side[:, None]).long() for size in shape[1:])
        point = point.gather(2, down[:, None, :, None].expand_as(point))
        point = point.gather(3, across[:, None, None, :].expand_as(point))
    limit = ball.limit(zero)
    if limit is not None:  # a coordinate of width zero does not move
        point = point * (torch.as_tensor(limit, device=zero.device) > 0)
    norm = ball.norm(point)
    length = per_sample(ball.radius, zero) / column(torch.where(norm > 0, norm, torch.ones_like(norm)), zero)
    return ball.project(point * length)
