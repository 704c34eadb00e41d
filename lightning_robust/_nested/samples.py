"""The batch of some of its samples."""

import itertools
import numbers
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from lightning_robust._nested.containers import (
    SEQUENCES,
    caches,
    contents,
    is_array,
    is_graph,
    is_list,
    is_tensordict,
    loops,
    parts,
    read,
)
from lightning_robust._nested.copies import rebuilt, remade
from lightning_robust._nested.fields import Field, as_path, find, missing, place, shown

_Path = tuple[Any, ...]


def take(
    batch: Any,
    n: int,
    rows: slice | Tensor,
    per_sample: tuple[Field, ...] | None = None,
    known: tuple[Field, ...] = (),
) -> Any:
    """The batch of some of its samples, a copy; the batch itself where these are all, in order.

    Args:
        batch: A batch, or a part of one that is per sample, such as a code: then `known` is ((),).
        n: N, its number of samples.
        rows: Which of them: a slice, their numbers, or a mask (N,).
        per_sample: The fields that are per sample beside the known ones; they are cut with all that they hold, and
            nothing else is. None: those that `samples` finds.
        known: Fields that the caller knows to be per sample: input, target and code.

    Raises:
        ValueError: If something is not of N samples, cannot be cut, or may or may not be per sample.

    Example:
        >>> batch = {"image": torch.rand(4, 3, 8, 8), "label": torch.arange(4), "file": ["a", "b", "c", "d"]}
        >>> take(batch, 4, slice(2), known=("image", "label"))["file"]
        ['a', 'b']
    """
    if isinstance(rows, Tensor):
        chosen = [range(n)[i] for i in (rows.nonzero().flatten() if rows.dtype == torch.bool else rows).tolist()]
    else:
        chosen = list(range(n))[rows]
    if chosen == list(range(n)):
        return batch
    fields = (*known, *(samples(batch, n, known) if per_sample is None else per_sample))
    return _Cut(n, chosen).at(batch, {_inside(batch, field) for field in fields}, ())


def cut(value: Any, n: int, rows: slice | Tensor) -> Any:
    """Some of the n samples of a part of a batch that is per sample, such as labels or a code; None stays."""
    if value is None:
        return None
    return value[rows] if type(value) is Tensor and value.ndim else take(value, n, rows, known=((),))


def samples(batch: Any, n: int, known: tuple[Field, ...] = ()) -> tuple[Field, ...]:
    """The fields beside the known ones that are per sample, as far as one batch can tell.

    A tensor that has not N rows is not per sample. One that has N rows is, or has them by chance, as the weights of N
    classes have, the means of N channels, or N levels. So:

    - It is per sample if its other dimensions are found, in order, among those of a known field, as those of masks
      (N, H, W) and of second views are.
    - Else it is per sample if all tensors of the batch have N rows, as those of a collated batch have, and it is
      neither square, (N, N, ...), nor a vector of floats, (N,) or (N, 1).
    - Else it is refused, and the remedy is to name the fields.
    - A list of N strings or other objects without tensors is per sample. One of N numbers, or of N entries with
      tensors, is refused.
    - A TensorDict says itself what it has N of.

    One batch cannot tell a table (N, D) that is not per sample and has N rows in every batch, such as a prototype of
    each class where there are as many classes as samples.
    """
    guess = _Guess(batch, n, known)
    guess.walk(batch, ())
    return guess.verdict()


class _Guess:
    """What of a batch is per sample, by its shape alone; see `samples`."""

    def __init__(self, batch: Any, n: int, known: tuple[Field, ...]) -> None:
        self.n = n
        self.known = {_inside(batch, field) for field in known}
        self.contents = [find(batch, field) for field in known]
        self.kin = [tuple(array.shape) for array in contents(self.contents, (Tensor, np.ndarray))]
        self.skip = loops(batch)
        self.sure: list[_Path] = []
        self.tables: list[tuple[_Path, Any]] = []  # of n rows, to be judged
        self.other: _Path | None = None  # a tensor with another number of rows

    def walk(self, value: Any, path: _Path) -> None:
        """Look at everything outside the known fields."""
        leads_to_known = any(known[: len(path)] == path for known in self.known)
        if path in self.known or id(value) in self.skip:
            return
        if is_tensordict(value) and value.batch_size[:1] == (self.n,):
            self.sure.append(path)
        elif is_array(value):
            self._array(value, path)
        elif is_list(value) and len(value) == self.n and not leads_to_known and _whose_rows(value, self.n) != "entries":
            self._list(value, path)
        else:
            _refuse_uncuttable(value, path)
            for part, entry in parts(value) or ():
                if part not in caches(value):
                    self.walk(entry, (*path, part))

    def _array(self, value: Any, path: _Path) -> None:
        if any(value is known for known in self.contents):  # under another name
            self.sure.append(path)
        elif value.ndim and len(value) == self.n:
            self.tables.append((path, value))
        elif value.ndim:
            self.other = path

    def _list(self, value: Any, path: _Path) -> None:
        """A list of n entries."""
        what, why = "", ""
        if any(True for _ in contents(value, (Tensor, np.ndarray))):
            what, why = f"a list of {self.n} entries with tensors", "they could be samples, views or levels"
        elif all(isinstance(entry, numbers.Number) for entry in value):
            what, why = f"a list of {self.n} numbers", "it could be a size"
        elif any(is_list(entry) and len(entry) == self.n for entry in value):
            what, why = f"{self.n} lists of {self.n} entries", "either could be the samples"
        if what:
            raise self._doubt(path, what, why)
        self.sure.append(path)

    def verdict(self) -> tuple[Field, ...]:
        """The fields, once all of the batch has been seen."""
        for path, table in self.tables:
            shape, why = tuple(table.shape), ""
            if any(_among(shape[1:], kin[1:]) for kin in self.kin):
                continue
            if self.other is not None:
                why = f"{place(self.other)} has another number of rows, so not all is per sample"
            elif shape[1:2] == (self.n,):
                why = "it could be of all pairs"
            elif all(size == 1 for size in shape[1:]) and _is_real(table):
                why = "it could be a weight for each class"
            if why:
                raise self._doubt(path, f"of shape {shape}", why)
        return (*self.sure, *(path for path, _ in self.tables))

    def _doubt(self, path: _Path, what: str, why: str) -> ValueError:
        return ValueError(
            f"Expected to see which fields are per sample, to cut a batch of {self.n} samples, but {place(path)} is "
            f"{what}: {why}. Name the fields that are per sample beside input, target and code: "
            f"per_sample=({shown(path)},) if it is one of them, per_sample=() if there are none."
        )


class _Cut:
    """All that is of n samples, to some of them."""

    def __init__(self, n: int, chosen: list[int]) -> None:
        self.n = n
        self.chosen = chosen
        neighbors = all(b == a + 1 for a, b in itertools.pairwise(chosen))
        start = chosen[0] if chosen else 0
        self.rows = slice(start, start + len(chosen)) if neighbors else torch.tensor(chosen)
        self.done: dict[int, tuple[Any, Any]] = {}  # one object in two places stays one

    def at(self, batch: Any, paths: set[_Path], path: _Path) -> Any:
        """Cut what some paths lead to; a longer one says what of a shorter one is meant."""
        deeper = {p for p in paths if p}
        if batch is None or not paths:
            return batch
        if not deeper or (is_tensordict(batch) and batch.batch_size[:1] == (self.n,)):
            return self.whole(batch, path)
        _refuse_uncuttable(batch, path)
        changes = {}
        for part in dict.fromkeys(p[0] for p in deeper):
            inner = read(batch, part)
            cut = self.at(inner, {p[1:] for p in deeper if p[0] == part}, (*path, part))
            if cut is not inner:
                changes[part] = cut
        return rebuilt(batch, changes) if changes else batch

    def whole(self, value: Any, path: _Path) -> Any:
        """Cut all that a field of n samples holds."""
        if id(value) not in self.done:
            self.done[id(value)] = (value, self._whole(value, path))
        return self.done[id(value)][1]

    def _whole(self, value: Any, path: _Path) -> Any:
        if is_array(value):
            return self._array(value, path)
        if is_tensordict(value) and value.batch_size[:1] == (self.n,):
            return value[self.rows]
        _refuse_uncuttable(value, path)
        if is_list(value) and len(value) == self.n:
            whose = _whose_rows(value, self.n)
            if whose == "either":
                raise ValueError(
                    f"Expected to see what of {place(path)} is a sample, but it is a list of {self.n} entries of "
                    f"{self.n} rows each. Name its entries, {shown((*path, 0))} and so on, if they are per sample."
                )
            if whose == "list":
                return remade(value, [value[i] for i in self.chosen])
        changes = {}
        for part, entry in parts(value) or ():
            if part not in caches(value) and not (is_array(entry) and entry.ndim == 0):
                cut = self.whole(entry, (*path, part))
                if cut is not entry:
                    changes[part] = cut
        return rebuilt(value, changes) if changes else value

    def _array(self, value: Any, path: _Path) -> Any:
        if value.ndim == 0 or len(value) != self.n:
            raise ValueError(
                f"Expected {place(path)} to be of {self.n} samples, but got shape {tuple(value.shape)}. Name the "
                "fields that are per sample, those within another by their paths: per_sample=(...)."
            )
        if not isinstance(value, Tensor):
            return value[self.chosen]
        if value.layout != torch.strided or value.is_nested:
            raise ValueError(
                f"Expected a dense tensor, to cut it to some of {self.n} samples, but {place(path)} is "
                f"{'nested' if value.is_nested else value.layout}. Make it dense in the collate function."
            )
        return value[self.rows if isinstance(self.rows, slice) else self.rows.to(value.device)]


def _inside(batch: Any, field: Field) -> _Path:
    """A path in the steps by which `parts` leads there: indices from the front, and what a property reads."""
    path: list[Any] = []
    for step in as_path(field):
        if batch is None:
            path.append(step)
            continue
        try:
            value = read(batch, step)
        except LookupError:
            raise missing(batch, as_path(field), len(path), "per_sample") from None
        names = dict(parts(batch) or ())
        if step in names:
            path.append(step)
        elif isinstance(batch, SEQUENCES) and isinstance(step, int):
            path.append(step + len(batch))
        else:
            path.append(next((name for name, entry in names.items() if entry is value), step))
        batch = value
    return tuple(path)


def _whose_rows(value: Any, n: int) -> str:
    """Of a list of n entries: are the n samples those of the "list", or of its "entries", or could they be of "either"?

    Samples are alike: they hold as many tensors of the same types and numbers of dimensions, and may differ in length.
    Entries that are not, as (code, font) are not, are fields, and so are those that have n rows each and differ.
    """
    arrays = [[a for a in contents(entry, (Tensor, np.ndarray)) if a.ndim] for entry in value]
    shapes = [[tuple(a.shape) for a in each] for each in arrays]
    kinds = [[(a.dtype, a.ndim) for a in each] for each in arrays]
    if any(kind != kinds[0] for kind in kinds):
        return "entries"
    if not kinds[0] or any(shape[0] != n for each in shapes for shape in each):
        return "list"
    return "either" if all(each == shapes[0] for each in shapes) else "entries"


def _among(sizes: tuple[int, ...], of: tuple[int, ...]) -> bool:
    """Are the sizes that are not 1 found among others, in their order, and is there one?"""
    sizes = tuple(size for size in sizes if size != 1)
    rest = iter(of)
    return bool(sizes) and all(size in rest for size in sizes)


def _is_real(table: Any) -> bool:
    if isinstance(table, Tensor):
        return table.is_floating_point() or table.is_complex()
    return table.dtype.kind in "fc"


def _refuse_uncuttable(value: Any, path: _Path) -> None:
    if isinstance(value, PackedSequence):
        raise ValueError(  # noqa: TRY004 - it is a batch, but not one to cut
            f"Expected a batch that can be cut to some of its samples, but {place(path)} is a PackedSequence. Keep "
            "padded sequences and their lengths in the batch and pack them in the model, or use whole batches."
        )
    if is_graph(value):
        raise ValueError(
            f"Expected a batch that can be cut to some of its samples, but {place(path)} is a {type(value).__name__} "
            "of graphs, whose nodes are not samples. Use whole batches, without `fraction` and `max_samples`."
        )
