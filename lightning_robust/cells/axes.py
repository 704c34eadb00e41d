"""From axes to cells: the product of named axes, and the choice of some values of one."""

import difflib
import itertools
from collections.abc import Callable, Iterable
from typing import TypeVar

from lightning_robust.cells.cells import Cell, Row, Scalar, canonical, problem
from lightning_robust.cells.errors import StudyArgumentError

T = TypeVar("T", bound=Scalar)


def expand(*, where: Callable[[Row], bool] | None = None, **axes: Iterable[Scalar]) -> list[Row]:
    """The product of axes as cells, the last axis fastest.

    Args:
        where: keeps the cells it is true of; it sees a cell with all its names. None keeps all.
        **axes: for each name the values it takes, in order.

    Raises:
        StudyArgumentError: there is no axis, one is empty, is a single value or repeats one, `where` asks for a name
            that is no axis, or keeps nothing.

    Example:
        >>> expand(scheme=["normal", "on-true"], n=[500, 2500], where=lambda c: c["scheme"] == "normal" or c["n"] > 500)
        [{'scheme': 'normal', 'n': 500}, {'scheme': 'normal', 'n': 2500}, {'scheme': 'on-true', 'n': 2500}]
    """
    if not axes:
        raise StudyArgumentError("Expected at least one axis, such as expand(n=[500, 2500]), but got none.")
    values = {name: _axis(name, axis) for name, axis in axes.items()}
    cells: list[Row] = [dict(zip(values, point, strict=True)) for point in itertools.product(*values.values())]
    if where is None:
        return cells
    try:
        kept = [cell for cell in cells if where(cell)]
    except KeyError as error:
        raise StudyArgumentError(
            f"Expected argument `where` to use the axes {', '.join(values)}, but it asks for {error.args[0]!r}."
        ) from error
    if not kept:
        raise StudyArgumentError(f"Expected argument `where` to keep a cell, but it keeps none of {len(cells)}.")
    return kept


def choose(argument: str, values: Iterable[T], known: Iterable[T]) -> list[T]:
    """The chosen values of an axis, each known and none twice.

    Args:
        argument: the name of the argument, for the message.
        values: what was asked for.
        known: all there is.

    Raises:
        StudyArgumentError: nothing is chosen, a value is unknown (the nearest known one is suggested) or repeated.

    Example:
        >>> choose("schemes", ["normal"], known=["normal", "on-true"])
        ['normal']
        >>> choose("schemes", ["on-tru"], known=["normal", "on-true"])
        Traceback (most recent call last):
        ...
        lightning_robust.cells.errors.StudyArgumentError: Expected argument `schemes` to be among normal, \
on-true, but got 'on-tru'. Did you mean 'on-true'?
    """
    chosen, names = _axis(argument, values), list(known)
    for value in chosen:
        if value not in names:
            near = difflib.get_close_matches(str(value), [str(name) for name in names], n=1)
            raise StudyArgumentError(
                f"Expected argument `{argument}` to be among {', '.join(map(str, names))}, but got {value!r}."
                + "".join(f" Did you mean {name!r}?" for name in near)
            )
    return chosen


def check_cells(cells: Iterable[Cell]) -> list[Row]:
    """The cells as plain dictionaries, at least one, each sound and none twice.

    Raises:
        StudyArgumentError: otherwise.
    """
    if isinstance(cells, str) or not isinstance(cells, Iterable):
        raise StudyArgumentError(f"Expected argument `cells` to be a sequence of cells, but got {cells!r}.")
    checked: dict[str, Row] = {}
    for cell in cells:
        wrong = problem(cell)
        if wrong is not None:
            raise StudyArgumentError(f"Expected argument `cells` to hold mappings of names to scalars, but {wrong}.")
        if canonical(cell) in checked:
            raise StudyArgumentError(f"Expected argument `cells` to hold each cell once, but got {dict(cell)} twice.")
        checked[canonical(cell)] = dict(cell)
    if not checked:
        raise StudyArgumentError("Expected argument `cells` to hold at least one cell, but got none.")
    return list(checked.values())


def _axis(name: str, values: Iterable[T]) -> list[T]:
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise StudyArgumentError(f"Expected argument `{name}` to be a sequence of values, but got {values!r}.")
    axis = list(values)
    if not axis:
        raise StudyArgumentError(f"Expected argument `{name}` to hold at least one value, but got none.")
    for value in axis:
        wrong = problem({name: value})
        if wrong is not None:
            raise StudyArgumentError(f"Expected argument `{name}` to hold scalars, but {wrong}.")
    texts = [canonical({name: value}) for value in axis]
    for at, (value, text) in enumerate(zip(axis, texts, strict=True)):
        if text in texts[:at]:
            raise StudyArgumentError(f"Expected argument `{name}` to hold each value once, but got {value!r} twice.")
    return axis
