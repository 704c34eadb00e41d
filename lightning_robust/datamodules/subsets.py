"""Choosing rows of labeled data: nested class-balanced subsets, and a held-out part.

Pure functions of the labels and a seed. A sample's place in line is a hash of (seed, its index), so nothing depends
on the global generators, and neither does the choice among the samples of one class depend on the other classes.
"""

import torch
from torch import Tensor

from lightning_robust import _checks
from lightning_robust._checks import count, instance
from lightning_robust._counter import permutation

_SUBSET, _SPLIT = 1, 2  # one seed, two independent choices


def balanced_subset(labels: Tensor, size: int, seed: int = 0, *, name: str = "size") -> Tensor:
    """Choose `size` rows at random, the same number from each class.

    The subsets are nested: for one seed, a smaller subset is the beginning of each larger one.

    Args:
        labels: integers of shape (N,). The K classes are the values that occur.
        size: number of rows, a multiple of K.
        seed: of the choice.
        name: what errors call `size`.

    Returns:
        The rows, int64 of shape (size,), class after class in turn.

    Raises:
        ValueError: if `size` is no positive multiple of K, or a class has fewer than `size` / K rows.

    Example:
        >>> labels = torch.tensor([0, 0, 0, 0, 1, 1, 1])
        >>> rows = balanced_subset(labels, size=4, seed=0)
        >>> labels[rows]
        tensor([0, 1, 0, 1])
        >>> torch.equal(rows[:2], balanced_subset(labels, size=2, seed=0))
        True
    """
    groups = _groups(labels, seed, _SUBSET)
    classes = len(groups)
    size = count(name, size)
    if size % classes:
        raise ValueError(
            f"Expected argument `{name}` to be a positive multiple of the number of classes, {classes}, but got {size}."
        )
    rarest = min(groups, key=lambda label: len(groups[label]))
    if size > classes * len(groups[rarest]):
        raise ValueError(
            f"Expected argument `{name}` to be at most {classes * len(groups[rarest])} = {classes} x "
            f"{len(groups[rarest])}, since class {rarest} has only {len(groups[rarest])} samples, but got {size}."
        )
    return torch.stack([rows[: size // classes] for rows in groups.values()], dim=1).flatten()


def stratified_split(labels: Tensor, size: int, seed: int = 0, *, name: str = "size") -> tuple[Tensor, Tensor]:
    """Hold out `size` rows at random, from each class in proportion to its share.

    A class of share p gives p * size rows, rounded so that the numbers sum to `size`.

    Args:
        labels: integers of shape (N,).
        size: number of rows that are held out, less than N.
        seed: of the choice.
        name: what errors call `size`.

    Returns:
        The rows that remain and the rows held out, both ascending, int64 of shapes (N - size,) and (size,).

    Raises:
        ValueError: if `size` is negative, or not less than the number of labels.

    Example:
        >>> labels = torch.tensor([0, 1] * 4)
        >>> rest, held_out = stratified_split(labels, size=2, seed=0)
        >>> labels[held_out].sort().values
        tensor([0, 1])
    """
    groups = _groups(labels, seed, _SPLIT)
    size = count(name, size, 0)
    if size >= len(labels):
        raise ValueError(
            f"Expected argument `{name}` to be less than the number of samples, {len(labels)}, but got {size}."
        )
    exact = torch.tensor([len(rows) * size for rows in groups.values()])
    counts = exact // len(labels)
    remainder = exact - counts * len(labels)
    counts[remainder.argsort(descending=True, stable=True)[: size - int(counts.sum())]] += 1
    held_out = torch.cat([rows[:count] for rows, count in zip(groups.values(), counts.tolist(), strict=True)])
    keep = torch.ones(len(labels), dtype=torch.bool)
    keep[held_out] = False
    return keep.nonzero()[:, 0], held_out.sort().values


def _groups(labels: Tensor, seed: int, stream: int) -> dict[int, Tensor]:
    """The rows of each class, in ascending order of classes, each in a random order."""
    if instance("labels", labels, Tensor, "a tensor").ndim != 1 or labels.is_floating_point() or len(labels) == 0:
        raise ValueError(
            "Expected argument `labels` to be a tensor of integers of shape (N,), N >= 1, "
            f"but got {labels.dtype} {tuple(labels.shape)}."
        )
    order = permutation(len(labels), _checks.seed("seed", seed), stream)
    shuffled = labels[order]
    return {int(label): order[shuffled == label] for label in labels.unique()}
