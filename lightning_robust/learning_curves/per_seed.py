"""Learning curves: accuracy over the number of training images, best over hyperparameters.

The rows of a sample-complexity study have the columns data, n, model, eps_train, seed, checkpoint, split ("train",
"val" or "test"), eps_test (0 without an attack), value (the accuracy: right on the image itself and under the attack),
low, high and count (images).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from lightning_robust.cells.cells import Scalar, label
from lightning_robust.cells.errors import StudyArgumentError
from lightning_robust.metrics import wilson_interval

CELL = ("data", "n", "seed", "eps_test")
"""What a best candidate is sought for."""
CANDIDATE = ("model", "eps_train", "checkpoint")
"""What tells candidates apart: the hyperparameters."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """The learning curve of one seed, M sizes.

    Args:
        n: the sizes of the training set, positive and increasing, (M,).
        accuracy: the accuracy at each size, a share of images from 0 to 1, (M,).
        count: the images that each accuracy was measured on, at least 1, (M,).

    Raises:
        ValueError: if one of these does not hold.

    Example:
        >>> Curve(n=(500, 2000), accuracy=(0.6, 0.75), count=(1000, 1000)).at(2000)
        (0.75, 0.7222..., 0.7758...)
    """

    n: tuple[float, ...]
    accuracy: tuple[float, ...]
    count: tuple[int, ...]

    def __post_init__(self) -> None:
        steps = zip(self.n, self.n[1:], strict=False)
        if not self.n or not self.n[0] > 0 or not all(a < b for a, b in steps) or not math.isfinite(self.n[-1]):
            raise ValueError(f"Expected argument `n` to be positive, finite and increasing, but got {self.n}.")
        for name, values in (("accuracy", self.accuracy), ("count", self.count)):
            if len(values) != len(self.n):
                raise ValueError(f"Expected argument `{name}` to have {len(self.n)} entries, but got {values}.")
        if not all(0 <= value <= 1 for value in self.accuracy):
            raise ValueError(f"Expected argument `accuracy` to be from 0 to 1, but got {self.accuracy}.")
        if not all(value >= 1 for value in self.count):
            raise ValueError(f"Expected argument `count` to be at least 1, but got {self.count}.")

    def at(self, n: float) -> tuple[float, float, float]:
        """The accuracy at one of its sizes, and the ends of its Wilson interval."""
        if n not in self.n:
            raise ValueError(f"Expected argument `n` to be one of the sizes {self.n}, but got {n}.")
        place = self.n.index(n)
        value, count = self.accuracy[place], self.count[place]
        low, high = wilson_interval(value * count, count)
        return value, float(low), float(high)


Curves: TypeAlias = Mapping[Scalar, Curve]
"""The curve of each seed."""


def best_over(
    rows: Sequence[Mapping[str, Scalar]],
    *,
    split: Literal["train", "val", "test"] = "test",
    only: Mapping[str, Scalar] | None = None,
    candidate: Sequence[str] = CANDIDATE,
) -> list[dict[str, Any]]:
    r"""For each (data, n, seed, eps_test) the best of all candidates, as Schmidt et al. (2018) report.

    .. math:: h^* = \arg\max_h \text{acc}_\text{val}(h, \epsilon_\text{test}), \qquad
        \text{acc} = \text{acc}_\text{split}(h^*, \epsilon_\text{test})

    with the candidates h = (model, eps_train, checkpoint): the data set is under study, not one model. The paper picked
    by the accuracy on the test set, which favours what was lucky there; here the validation images pick, under the same
    attack, and the test images choose nothing. Of equals it is the one whose rows come first.

    Args:
        rows: the study's.
        split: where the accuracy of the picked candidate is read.
        only: values of columns that rows must have to take part; `{"eps_train": 0.1}` is for the curve of that radius
            alone.
        candidate: the columns that tell candidates apart.

    Returns:
        the rows of `split` that were picked, in the order of the cells' first appearance, each with a column `val`
        besides: the accuracy by which it was picked.

    Raises:
        StudyArgumentError: a column of `only` or a row that takes part is missing, or is there twice.

    Example:
        >>> cell = {"data": "mnist", "n": 500, "seed": 0, "eps_test": 0.1, "model": "cnn", "checkpoint": "best"}
        >>> rows = [
        ...     {**cell, "eps_train": eps, "split": split, "value": value, "low": 0, "high": 1, "count": 100}
        ...     for eps, split, value in [(0, "val", 0.5), (0, "test", 0.6), (0.1, "val", 0.7), (0.1, "test", 0.5)]
        ... ]
        >>> [(row["eps_train"], row["val"], row["value"]) for row in best_over(rows)]
        [(0.1, 0.7, 0.5)]
        >>> [(row["eps_train"], row["val"], row["value"]) for row in best_over(rows, only={"eps_train": 0})]
        [(0, 0.5, 0.6)]

    References:
        L. Schmidt, S. Santurkar, D. Tsipras, K. Talwar, A. Madry, Adversarially robust generalization requires more
        data, NeurIPS 2018.
    """
    chosen = _only(rows, only or {})
    found: dict[str, dict[tuple[Scalar, ...], Mapping[str, Any]]] = {"val": {}, split: {}}
    names = (*CELL, *candidate)
    for row in chosen:
        part = found.get(str(row["split"]))
        if part is None:
            continue
        key = tuple(row[name] for name in names)
        if key in part:
            raise StudyArgumentError(
                f"Expected one row of split {row['split']} for each candidate, but got two for "
                f"{label(dict(zip(names, key, strict=True)))}. Name what tells them apart in `candidate`."
            )
        part[key] = row
    cells: dict[tuple[Scalar, ...], list[tuple[Scalar, ...]]] = {}
    for key in dict.fromkeys(key for part in found.values() for key in part):
        for name, part in found.items():
            if key not in part:
                at = label(dict(zip(names, key, strict=True)))
                raise StudyArgumentError(
                    f"Expected a row of split {name} for each candidate, but there is none at {at}."
                )
        cells.setdefault(key[: len(CELL)], []).append(key)
    best = [max(keys, key=lambda key: found["val"][key]["value"]) for keys in cells.values()]
    return [{**found[split][key], "val": found["val"][key]["value"]} for key in best]


def _only(rows: Sequence[Mapping[str, Scalar]], only: Mapping[str, Scalar]) -> list[Mapping[str, Scalar]]:
    for name, value in only.items():
        there = list(dict.fromkeys(row[name] for row in rows if name in row))
        if value not in there:
            raise StudyArgumentError(
                f"Expected argument `only` to have one of {there} for `{name}`, but got {value!r}."
            )
    return [row for row in rows if all(row.get(name) == value for name, value in only.items())]


def curve_per_seed(rows: Sequence[Mapping[str, Any]], data: str, eps_test: float) -> dict[Scalar, Curve]:
    """The learning curve of each seed on a data set at a radius, over the sizes that all seeds have.

    Args:
        rows: as `best_over` gives them, one for each size and seed.
        data: the data set.
        eps_test: the radius of the attack, in the units of the study.

    Raises:
        StudyArgumentError: there are no such rows, two for one size and seed, or no size that all seeds have.

    Example:
        >>> row = {"data": "mnist", "eps_test": 0.1, "seed": 0, "count": 100}
        >>> curve_per_seed([{**row, "n": 800, "value": 0.7}, {**row, "n": 200, "value": 0.5}], "mnist", 0.1)
        {0: Curve(n=(200, 800), accuracy=(0.5, 0.7), count=(100, 100))}
    """
    found: dict[Scalar, dict[float, tuple[float, int]]] = {}
    for row in rows:
        if row["data"] == data and row["eps_test"] == eps_test:
            of_seed = found.setdefault(row["seed"], {})
            if row["n"] in of_seed:
                raise StudyArgumentError(
                    f"Expected one row for each size and seed, but got two for {data} at eps_test={eps_test}: "
                    f"n={row['n']} seed={row['seed']}."
                )
            of_seed[row["n"]] = (row["value"], row["count"])
    if not found:
        raise StudyArgumentError(f"Expected rows for {data} at eps_test={eps_test}, but there are none.")
    shared = sorted(set[float].intersection(*(set(of_seed) for of_seed in found.values())))
    if not shared:
        sizes = {seed: sorted(of_seed) for seed, of_seed in found.items()}
        raise StudyArgumentError(
            f"Expected a size that all seeds of {data} at eps_test={eps_test} have, but got {sizes}."
        )
    return {
        seed: Curve(
            n=tuple(shared),
            accuracy=tuple(of_seed[n][0] for n in shared),
            count=tuple(of_seed[n][1] for n in shared),
        )
        for seed, of_seed in found.items()
    }


def shared_sizes(curves: Curves) -> tuple[float, ...]:
    """The sizes of curves that must all have the same."""
    sizes = {curve.n for curve in curves.values()}
    if len(sizes) != 1:
        raise ValueError(f"Expected argument `curves` to have the same sizes for every seed, but got {sorted(sizes)}.")
    return sizes.pop()
