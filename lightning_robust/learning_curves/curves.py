"""Learning curves of several seeds, and the choice of the best candidate on validation samples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lightning_robust import _checks
from lightning_robust.metrics import wilson_interval

if TYPE_CHECKING:
    from pandas import DataFrame

CELL = ("n", "seed", "eps_test")
"""A best candidate is chosen for each of these."""
CANDIDATE = ("model", "eps_train", "checkpoint")
"""The hyperparameters; columns that a table does not have are left out."""


@dataclass(frozen=True, kw_only=True)
class Curves:
    """The learning curves of S seeds over the same M sizes.

    Args:
        n: The sizes of the training set, positive and increasing, (M,).
        accuracy: For each seed the accuracies, from 0 to 1, (M,).
        count: The number of samples that the accuracies at each size were measured on, (M,).

    Raises:
        ValueError: An argument is not as described.
    """

    n: Sequence[float]
    accuracy: Mapping[Any, Sequence[float]]
    count: Sequence[int]

    def __post_init__(self) -> None:
        n, count = _checks.values("n", self.n, 0, above=True), _checks.counts("count", self.count)
        accuracy = {seed: _checks.values("accuracy", row, 0, 1) for seed, row in self.accuracy.items()}
        if list(n) != sorted(set(n)):
            raise ValueError(f"Expected argument `n` to increase, but got {n}.")
        if not accuracy or any(len(row) != len(n) for row in (count, *accuracy.values())):
            raise ValueError(
                f"Expected arguments `count` and `accuracy` to have an entry for each of {len(n)} sizes and at least "
                f"one seed, but got {count} and {accuracy}."
            )
        for name, value in (("n", n), ("accuracy", accuracy), ("count", count)):
            object.__setattr__(self, name, value)

    def at(self, n: float) -> dict[Any, tuple[float, float, float]]:
        """For each seed the accuracy at one of the sizes and the ends of its Wilson interval.

        Example:
            >>> Curves(n=(500, 2000), accuracy={0: (0.6, 0.75)}, count=(1000, 1000)).at(2000)
            {0: (0.75, 0.7222..., 0.7758...)}
        """
        if n not in self.n:
            raise ValueError(f"Expected argument `n` to be one of the sizes {self.n}, but got {n}.")
        place = list(self.n).index(n)
        count, rows = self.count[place], {seed: row[place] for seed, row in self.accuracy.items()}
        return {seed: (value, *map(float, wilson_interval(value * count, count))) for seed, value in rows.items()}  # type: ignore[misc]


def curves_of(table: "DataFrame") -> Curves:
    """The curves of a table with the columns n, seed, value and count, over the sizes that all seeds have.

    Raises:
        ValueError: The table has two rows for a size and seed, or no size that all seeds have.

    Example:
        >>> import pandas as pd
        >>> curves_of(pd.DataFrame({"n": [800, 200], "seed": [0, 0], "value": [0.7, 0.5], "count": [100, 100]}))
        Curves(n=(200, 800), accuracy={0: (0.5, 0.7)}, count=(100, 100))
    """
    _check_once(table, ["n", "seed"])
    values = table.pivot(index="n", columns="seed", values="value").dropna()
    if values.empty:
        raise ValueError("Expected a size that all seeds have, but there is none.")
    count = table.groupby("n")["count"].min()[values.index]
    accuracy = {seed: column.tolist() for seed, column in values.items()}
    return Curves(n=values.index.tolist(), accuracy=accuracy, count=count.tolist())


def best_over(table: "DataFrame", *, split: str = "test") -> "DataFrame":
    r"""For each (n, seed, eps_test) the best of all candidates h = (model, eps_train, checkpoint).

    .. math:: h^* = \arg\max_h \text{acc}_\text{val}(h, \epsilon_\text{test}), \qquad
        \text{acc} = \text{acc}_\text{split}(h^*, \epsilon_\text{test})

    Schmidt et al. (2018) report the best on the test set, which favors luck; here the validation samples choose, under
    the same attack. Among equals the first wins.

    Args:
        table: The columns n, seed, eps_test, split, value and those of the candidates; the rows of all that take part.
        split: The split on which the best is reported.

    Returns:
        The rows of the best, with the column `val`: the accuracy by which they were chosen.

    Raises:
        ValueError: A row of a candidate is missing, or there are two.

    Example:
        >>> import pandas as pd
        >>> scores = [(0, "val", 0.5), (0, "test", 0.6), (0.1, "val", 0.7), (0.1, "test", 0.5)]
        >>> table = pd.DataFrame(scores, columns=["eps_train", "split", "value"])
        >>> best_over(table.assign(n=500, seed=0, eps_test=0.1))[["eps_train", "val", "value"]].values.tolist()
        [[0.1, 0.7, 0.5]]
    """
    keys = [*CELL, *(name for name in CANDIDATE if name in table)]
    val, other = (table[table["split"] == part] for part in ("val", split))
    for part in (val, other):
        _check_once(part, keys)
    both = val[[*keys, "value"]].rename(columns={"value": "val"}).merge(other, how="left", on=keys, indicator="there")
    missing = both[both["there"] != "both"]
    if len(missing) or len(val) != len(other):
        part = f" at {missing[keys].to_dict('records')[0]}" if len(missing) else ""
        raise ValueError(f"Expected rows of the splits val and {split} for each candidate, but one is missing{part}.")
    best = both.groupby(list(CELL), sort=False)["val"].idxmax()
    return both.loc[best].drop(columns="there").reset_index(drop=True)


def _check_once(table: "DataFrame", keys: list[str]) -> None:
    twice = table[table.duplicated(keys)]
    if len(twice):
        raise ValueError(f"Expected one row for each of {keys}, but got two at {twice[keys].to_dict('records')[0]}.")
