"""Pairs of samples of different classes within a distance: a coarse search in blocks, then exact distances."""

from collections.abc import Iterator

import torch
from torch import Tensor

_BLOCK = 512
"""Rows of a block of the coarse search."""
_ENTRIES = 1 << 22
"""Numbers that the exact distances hold at once."""
_COORDINATES = 64
"""The maximum norm is searched on so many coordinates, those of the greatest variance."""


def close_pairs(flat: Tensor, y: Tensor, limit: float, *, euclidean: bool) -> tuple[Tensor, Tensor]:
    """The pairs (P, 2) of rows i < j of different classes at distances of at most `limit`, and these, (P,) float64.

    The coarse search keeps every pair that its rounding may hide. Only these are measured, in float64 and by
    differences, so no pair is missed or invented by cancellation.

    Args:
        flat: samples, (N, D) float64.
        y: classes, (N,).
        limit: the largest distance.
        euclidean: the Euclidean norm, or else the maximum norm.
    """
    search = _euclidean if euclidean else _maximum
    pairs, distances = [], []
    for found in search(flat, y, limit):
        measured = _measured(flat, found, euclidean=euclidean)
        pairs.append(found[measured <= limit])
        distances.append(measured[measured <= limit])
    return torch.cat(pairs), torch.cat(distances)


def _maximum(flat: Tensor, y: Tensor, limit: float) -> Iterator[Tensor]:
    scale = float(flat.abs().amax()) or 1.0
    chosen = (flat / scale).var(0, correction=0).topk(min(_COORDINATES, flat.shape[1])).indices
    rough = (flat[:, chosen] / scale).float()
    reach = limit / scale * (1 + 1e-6) + 1e-6  # rounding of two numbers in [-1, 1] and of their difference: below 3e-7
    for start in range(0, len(flat), _BLOCK):
        distances = torch.cdist(rough[start : start + _BLOCK], rough[start:], p=torch.inf)
        yield _kept(distances <= reach, y, start)


def _euclidean(flat: Tensor, y: Tensor, limit: float) -> Iterator[Tensor]:
    centered = flat - flat.mean(0)
    scale = float(torch.linalg.vector_norm(centered, dim=1).amax()) or 1.0
    centered /= scale
    squares = centered.square().sum(1)
    # Each of the sums of D products is off by at most (D + 2) u, with u = 2^-53 and norms of at most 1.
    reach = (limit / scale) ** 2 * (1 + 1e-9) + 6 * (flat.shape[1] + 4) * 2.0**-53
    for start in range(0, len(flat), _BLOCK):
        block = slice(start, start + _BLOCK)
        distances = torch.addmm(squares[start:], centered[block], centered[start:].T, alpha=-2)
        yield _kept(distances.add_(squares[block, None]) <= reach, y, start)


def _kept(close: Tensor, y: Tensor, start: int) -> Tensor:
    """The pairs of different classes of a block whose rows and columns both begin at `start`, each pair once."""
    close &= y[start : start + len(close), None] != y[start:]
    return close.triu_(1).nonzero() + start


def _measured(flat: Tensor, pairs: Tensor, *, euclidean: bool) -> Tensor:
    order = 2 if euclidean else torch.inf
    parts = [flat.new_empty(0)]
    for part in pairs.split(max(1, _ENTRIES // flat.shape[1])):
        parts.append(torch.linalg.vector_norm(flat[part[:, 0]] - flat[part[:, 1]], ord=order, dim=1))
    return torch.cat(parts)
