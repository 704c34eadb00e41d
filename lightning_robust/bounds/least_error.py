"""The least robust error of any classifier on a sample."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_robust import _checks
from lightning_robust._optional import optional
from lightning_robust.attacks import L2
from lightning_robust.attacks.ball import Ball
from lightning_robust.bounds._triples import triples
from lightning_robust.bounds.conflicts import Conflicts, conflicts

__all__ = ["Bound", "least_error", "least_errors"]


@dataclass(frozen=True)
class Bound:
    """A robust error that no classifier goes below on a sample, and what it comes from.

    Args:
        value: the error, a share of the samples.
        radius: that of the ball.
        n: number of samples.
        pairs: number of pairs of samples of different classes whose balls meet.
        samples: number of samples that are part of a pair.
        triples: number of triples that were used.

    Example:
        >>> print(Bound(0.25, radius=0.1, n=8, pairs=2, samples=4))
        least error 25.0 % at radius 0.1: 2 conflicts among 8 samples
    """

    value: float
    radius: float
    n: int
    pairs: int
    samples: int
    triples: int = 0

    def __str__(self) -> str:
        return (
            f"least error {100 * self.value:.1f} % at radius {self.radius:g}: "
            f"{self.pairs:,} conflict{'s' * (self.pairs != 1)} among {self.n:,} samples"
        )


def least_error(x: Tensor, y: Tensor, ball: Ball, *, order: int = 2) -> Bound:
    r"""A robust error that no classifier goes below on these samples, whatever it was trained on.

    Let q_i be the chance that a classifier is right on all of the ball around sample i. Where the balls of several
    samples of different classes have a common point, the classifier says one class there, so their q sum to 1 at most.
    The error is at least

    .. math:: 1 - \frac{1}{N} \max_q \sum_i q_i, \qquad q_i \in [0, 1], \qquad \sum_{i \in e} q_i \le 1 \;\; \forall e,

    with all sets e of up to `order` such samples. With order 2 the edges are the pairs of `conflicts`, and the maximum
    is computed without a linear program: it is N less half a maximum matching of the double cover of their graph, which
    has every sample twice. Order 3 adds the triples, and solves the linear program.

    With two classes the value is exact with order 2 (Koenig: the number of pairs of a maximum matching, over N), for
    classifiers that draw at random and for those that do not. With three classes it is exact with order 3 for those
    that may draw. In all other cases it is a lower bound of the least error, which rises with the order.

    It is a statement on these N samples, not on the distribution that they come from. Their number matters: of more
    samples more conflict. On average over samples it is at most the least error on the distribution.

    Args:
        x: samples, floating, (N, ...); images that lie in a box need no other care, see `conflicts`.
        y: classes, integers, (N,).
        ball: `Linf` or `L2` of one radius, in the units of x.
        order: 2, or 3 for triples too.

    Raises:
        TypeError: as `conflicts`.
        ValueError: as `conflicts`, or there are too many triples.
        ModuleNotFoundError: without the extra `report`.

    Example:
        Three samples of three classes that conflict pairwise: a classifier may be right on one of them. By the pairs
        alone it might be right on each with chance 1/2.

        >>> import torch
        >>> from lightning_robust import Linf
        >>> x, y = torch.tensor([[0.0], [0.1], [0.2]]), torch.tensor([0, 1, 2])
        >>> [round(least_error(x, y, Linf(0.1), order=order).value, 4) for order in (2, 3)]
        [0.5, 0.6667]

    References:
        A. N. Bhagoji, D. Cullina, P. Mittal, Lower bounds on adversarial robustness from optimal transport, NeurIPS
        2019: two classes. S. Dai, W. Ding, A. N. Bhagoji, D. Cullina, B. Y. Zhao, H. Zheng, P. Mittal, Characterizing
        the optimal 0-1 loss for multi-class classification with a test-time attacker, NeurIPS 2023: the program, and
        its truncation.
    """
    _checks.count("order", order, 2, 3)
    return _bound(conflicts(x, y, ball), order)


def least_errors(x: Tensor, y: Tensor, balls: Sequence[Ball], *, order: int = 2) -> list[Bound]:
    """`least_error` for several balls of one norm, such as `[Linf(eps) for eps in (0.0, 0.1)]`; distances are shared.

    Args:
        x: samples, floating, (N, ...).
        y: classes, integers, (N,).
        balls: `Linf` or `L2`, all of the same norm, of one radius each.
        order: as for `least_error`.

    Returns:
        A bound for each ball.

    Example:
        >>> import torch
        >>> from lightning_robust import L2
        >>> x, y = torch.tensor([[0.0], [1.0], [4.0]]), torch.tensor([0, 1, 0])
        >>> [round(bound.value, 2) for bound in least_errors(x, y, [L2(0.4), L2(0.5)])]
        [0.0, 0.33]
    """
    _checks.count("order", order, 2, 3)
    balls = _checks.sequence("balls", balls, "a sequence of balls")
    if not balls:
        raise ValueError("Expected argument `balls` to hold at least one ball, but got none.")
    for ball in balls:
        _checks.instance("balls", ball, Ball, "a sequence of balls")
    found = conflicts(x, y, max(balls, key=lambda ball: float(torch.as_tensor(ball.radius).max())))
    return [_bound(found.within(ball), order) for ball in balls]


def _bound(found: Conflicts, order: int) -> Bound:
    n, samples = len(found.labels), found.samples.numpy()
    ends = np.searchsorted(samples, found.pairs.numpy())  # samples without a conflict take no part
    lost, used = _matched(ends, len(samples)) / 2, 0
    if order > 2 and len(found.labels.unique()) > 2:
        euclidean = isinstance(found.ball, L2)
        of_three = triples(ends, found.distances.numpy(), len(samples), found.limit, euclidean=euclidean)
        used = len(of_three)
        if used:
            lost = max(lost, len(samples) - _most_right(ends, of_three, len(samples)))
    radius = float(found.ball.radius)
    return Bound(lost / n, radius=radius, n=n, pairs=len(ends), samples=len(samples), triples=used)


def _matched(pairs: Any, n: int) -> int:
    """The size of a maximum matching of the double cover: i on the left and j on the right, and the other way round."""
    sparse, graphs = (optional(f"scipy.sparse{name}", "report") for name in ("", ".csgraph"))
    rows, columns = np.concatenate([pairs, pairs[:, ::-1]]).T
    cover = sparse.csr_matrix((np.ones(len(rows), np.int8), (rows, columns)), (n, n))
    return int((graphs.maximum_bipartite_matching(cover, perm_type="column") >= 0).sum())


def _most_right(pairs: Any, of_three: Any, n: int) -> float:
    """The maximum of sum q with sums over triples, and over pairs that are part of none, of at most 1.

    Args:
        pairs: (P, 2) samples.
        of_three: (T, 3) numbers of pairs: ij, ik, jk.
        n: number of samples.
    """
    sparse, optimize = (optional(f"scipy.{name}", "report") for name in ("sparse", "optimize"))
    rest = np.setdiff1d(np.arange(len(pairs)), of_three)
    members = np.concatenate([pairs[of_three[:, 0]], pairs[of_three[:, 1], 1:]], 1)
    rows = np.concatenate([np.repeat(np.arange(len(rest)), 2), len(rest) + np.repeat(np.arange(len(members)), 3)])
    columns = np.concatenate([pairs[rest].ravel(), members.ravel()])
    sums = sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), (len(rest) + len(members), n))
    solved = optimize.linprog(-np.ones(n), sums, np.ones(sums.shape[0]), bounds=(0, 1), method="highs")
    if solved.status != 0:
        raise RuntimeError(f"The linear program was not solved: {solved.message}")
    return -float(solved.fun)
