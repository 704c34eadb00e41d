"""Three samples of three classes whose balls have a common point."""

from typing import Any

import numpy as np

from lightning_robust._optional import optional

_CHUNK = 1 << 14
"""Pairs that are looked at together."""
MOST = 2_000_000
"""Triples that a linear program is made of at most."""


def triples(pairs: Any, distances: Any, n: int, limit: float, *, euclidean: bool) -> Any:
    """The triples i < j < k, as numbers of their pairs (T, 3): ij, ik, jk.

    Boxes that meet pairwise have a common point (Helly), so for the maximum norm these are the triangles of the graph.
    Three Euclidean balls have one where the smallest ball around their centers is no larger than they are.

    Args:
        pairs: pairs i < j of samples of different classes whose balls meet, (P, 2), sorted.
        distances: those of the pairs, (P,).
        n: number of samples.
        limit: the diameter of a ball.
        euclidean: the Euclidean norm, or else the maximum norm.

    Raises:
        ValueError: there are more than `MOST`.
    """
    sparse = optional("scipy.sparse", "report")
    graph = sparse.csr_matrix((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), (n, n))
    keys = pairs[:, 0] * n + pairs[:, 1]
    found, number = [np.empty((0, 3), np.int64)], 0
    for start in range(0, len(pairs), _CHUNK):
        i, j = pairs[start : start + _CHUNK].T
        common = graph[i].multiply(graph[j]).tocoo()
        first, k = common.row.astype(np.int64), common.col.astype(np.int64)
        sides = np.stack([first + start, *(np.searchsorted(keys, one[first] * n + k) for one in (i, j))], 1)
        if euclidean:
            sides = sides[diameter(distances[sides]) <= limit]
        found.append(sides)
        number += len(sides)
        if number > MOST:
            raise ValueError(
                f"Expected argument `order` to be 2 where samples conflict this often: there are more than {MOST:,} "
                "triples. Or take fewer samples or a smaller radius."
            )
    return np.concatenate(found)


def diameter(sides: Any) -> Any:
    r"""The diameter of the smallest ball around the corners of triangles with sides a >= b >= c.

    It is a where :math:`a^2 \ge b^2 + c^2`, else that of the circle through the corners, :math:`abc / (2 F)` with the
    area F by Kahan's form of Heron's formula, which does not cancel.

    Args:
        sides: (T, 3) in any order.

    Example:
        >>> diameter(np.array([[3.0, 4.0, 5.0], [2.0, 2.0, 3.9]]))
        array([5. , 3.9])
    """
    c, b, a = np.sort(sides, 1).T
    product = (a + (b + c)) * (c - (a - b)) * (c + (a - b)) * (a + (b - c))  # 16 F^2
    with np.errstate(divide="ignore", invalid="ignore"):
        circle = 2 * a * b * c / np.sqrt(product)
    return np.where(a * a >= b * b + c * c, a, circle)
