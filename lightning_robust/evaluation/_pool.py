"""Samples of several batches that are attacked together."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lightning_robust.evaluation._meter import Meter
from lightning_robust.evaluation._reader import Sample

LIMIT = 1 << 30
"""Bytes of inputs that are held at a time."""


@dataclass(eq=False)
class Part:
    """Samples that can be in one batch.

    Args:
        sample: The samples, N of them.
        places: (N,) their places in the data.
        whole: Can the batch not be cut? Then all its samples are attacked together.

    Attributes:
        keys: What the contents of the inputs are.
        labels: Their classes; None where labels are no classes.
        logits: (N, K) or (N,) the outputs for the clean inputs.
        meter: Counts the passes.
    """

    sample: Sample
    places: list[int]
    whole: bool = False
    keys: list[str] = field(init=False)
    labels: list[int] | None = field(init=False)
    logits: Tensor | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        n, labels = len(self.places), classes_of(self.sample)
        self.keys, self.labels = keys_of(self.sample.x), None if labels is None else labels.tolist()
        self.meter, self._known = Meter(n), torch.zeros(n, dtype=torch.bool)
        self._targets: dict[Any, tuple[Tensor, Tensor]] = {}

    def __len__(self) -> int:
        return len(self.places)

    def know(self, rows: Tensor, output: Tensor) -> None:
        """Keep the outputs of clean inputs, if they are logits."""
        if output.ndim > 2:
            return
        if self.logits is None:
            self.logits = output.new_zeros(len(self), *output.shape[1:])
        self.logits[rows.to(output.device)] = output.detach()
        self._known[rows] = True

    def logits_of(self, rows: Tensor) -> Tensor | None:
        """The outputs for the clean inputs of some samples; None where they are not known."""
        if self.logits is None or not bool(self._known[rows].all()):
            return None
        return self.logits[rows.to(self.logits.device)]

    def targets_of(self, rows: Tensor, kind: Any, find: Callable[[Tensor], Tensor]) -> Tensor:
        """(M, T) what `find(rows)` says of some samples, which it is asked once for each kind."""
        aimed = self._targets[kind][0] if kind in self._targets else torch.zeros(len(self), dtype=torch.bool)
        unknown = rows[~aimed[rows]]
        if len(unknown):
            found = find(unknown)
            if kind not in self._targets:
                self._targets[kind] = aimed, found.new_zeros(len(self), found.shape[1])
            self._targets[kind][1][unknown.to(found.device)] = found
            aimed[unknown] = True
        targets = self._targets[kind][1]
        return targets[rows.to(targets.device)]


def keys_of(x: Tensor) -> list[str]:
    """For each input (N, ...) 16 hexadecimal digits made of its content in float32.

    Example:
        >>> x = torch.linspace(0, 1, 6).reshape(3, 2)
        >>> keys_of(x)[1:] == keys_of(x[1:].double())
        True
    """
    content = x.detach().float().cpu().contiguous().flatten(1).numpy()
    return [hashlib.blake2b(row.tobytes(), digest_size=8).hexdigest() for row in content]


def classes_of(sample: Sample) -> Tensor | None:
    """The class of each sample, (N,) int64, in memory of its own where the labels are; None where they are no classes.

    The loader may fill the memory of a batch with the next one, and the step of a user may write to it.
    """
    y = sample.y
    if not isinstance(y, Tensor) or y.is_floating_point() or y.ndim > 2 or (y.ndim == 2 and y.shape[1] != 1):
        return None
    return torch.empty(y.numel(), dtype=torch.long, device=y.device).copy_(y.detach().reshape(-1))


def pools(samples: Iterable[tuple[list[int], Sample]], *, whole: bool, limit: int = LIMIT) -> Iterator[list[Part]]:
    """Samples in parts, as many at a time as there is room for.

    Batches of plain tensors are joined; all others stay as they are.

    Args:
        samples: The places and the samples of each batch.
        whole: Is no batch to be cut or joined?
        limit: Bytes of inputs that are held at a time.
    """
    held: list[tuple[list[int], Sample]] = []
    size = 0
    for places, sample in samples:
        held.append((places, sample))
        size += sample.x.numel() * sample.x.element_size() if isinstance(sample.x, Tensor) else 0
        if size >= limit:
            yield _parts(held, whole)
            held, size = [], 0
    if held:
        yield _parts(held, whole)


def _parts(held: list[tuple[list[int], Sample]], whole: bool) -> list[Part]:
    """Batches of one kind joined, each other one by itself."""
    if whole:
        return [Part(sample, places, whole=True) for places, sample in held]
    kinds: dict[Any, list[tuple[list[int], Sample]]] = {}
    for number, (places, sample) in enumerate(held):
        kinds.setdefault(_kind(sample) or number, []).append((places, sample))
    parts = []
    for together in kinds.values():
        places = [place for some, _ in together for place in some]
        samples = [sample for _, sample in together]
        joined = samples[0] if len(samples) == 1 else _joined(samples)
        parts.append(Part(joined, places, whole=not can_be_cut(joined)))
    return parts


def _kind(sample: Sample) -> Any:
    """Samples of equal kinds can be joined; None: with no others."""
    if sample.reader.forward is not None:
        return None
    code = sample.code if isinstance(sample.code, tuple | list) else (sample.code,)
    shapes: list[Any] = [len(code), type(sample.code).__name__]
    for value in (sample.x, sample.y, *code):
        if value is None:
            shapes.append(None)
        elif type(value) is Tensor and value.ndim and len(value) == len(sample):
            shapes.append((value.shape[1:], value.dtype, value.device))
        else:
            return None
    return tuple(shapes)


def _joined(samples: list[Sample]) -> Sample:
    """Batches of one kind as one."""
    first = samples[0]
    code: Any = first.code
    if isinstance(code, tuple | list):
        code = type(code)(cat([sample.code[i] for sample in samples]) for i in range(len(code)))
    elif code is not None:
        code = torch.cat([sample.code for sample in samples])
    y = None if first.y is None else torch.cat([sample.y for sample in samples])
    return Sample(first.reader, None, torch.cat([sample.x for sample in samples]), y, code)


def cat(values: list[Any]) -> Any:
    """Tensors in one; None where there are none."""
    return None if values[0] is None else torch.cat(values)


def can_be_cut(sample: Sample) -> bool:
    """Can some of the samples be attacked without the others?"""
    if sample.reader.forward is None and _kind(sample) is not None:
        return True
    if len(sample) < 2:
        return False
    try:
        return len(sample.rows(torch.tensor([len(sample) - 1]))) == 1
    except Exception:  # whatever a batch of a kind of its own raises
        return False
