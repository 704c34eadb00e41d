"""Data that is read beside the user's random streams."""

import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import numpy as np
import torch

_T = TypeVar("_T")
_OVER: Any = object()


class Beside:
    """What is called through it draws from random streams of its own, which begin where the global ones of torch (of
    the CPU), numpy and Python are: these go on as if nothing had been drawn.

    A DataLoader draws the seed of its workers whenever it is iterated, an order where it shuffles, and what random
    transforms of the data set ask for.

    Example:
        >>> import torch
        >>> before = torch.get_rng_state()
        >>> drawn = Beside()(torch.rand, 3)
        >>> torch.equal(before, torch.get_rng_state()), torch.equal(drawn, torch.rand(3))
        (True, True)
    """

    def __init__(self) -> None:
        self._own = _states()

    def __call__(self, function: Callable[..., _T], *args: Any) -> _T:
        """What the function gives."""
        theirs = _states()
        _set(self._own)
        try:
            return function(*args)
        finally:
            self._own = _states()
            _set(theirs)

    def each(self, entries: Iterable[_T]) -> Iterator[_T]:
        """The same entries."""
        iterator = self(iter, entries)
        while (entry := self(next, iterator, _OVER)) is not _OVER:
            yield entry


def _states() -> tuple[Any, ...]:
    return torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002


def _set(states: tuple[Any, ...]) -> None:
    torch.set_rng_state(states[0])
    np.random.set_state(states[1])  # noqa: NPY002
    random.setstate(states[2])
