"""The batches of whatever data is given to an evaluation."""

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    TensorDataset,
)

from lightning_robust._lightning import copy_of
from lightning_robust.evaluation._hooks import Ready
from lightning_robust.evaluation._order import Order
from lightning_robust.evaluation._reader import Reader, Sample

_AHEAD = 64  # samples


def loader_of(data: Any, batch_size: int) -> Iterable[Any]:
    """The batches of whatever was given."""
    if copy_of(data, "LightningDataModule"):
        return _of_module(data)
    loader: Iterable[Any]
    if _is_pair(data):
        if len(data[0]) != len(data[1]):
            raise ValueError(
                f"Expected argument `data` to have as many labels as inputs, but got {len(data[1])} for {len(data[0])}."
            )
        loader = DataLoader(TensorDataset(*data), batch_size=batch_size)
    elif isinstance(data, tuple | list) and len(data) == 2 and hasattr(type(data[0]), "__array__"):
        kinds = " and ".join(type(part).__name__ for part in data)
        raise TypeError(
            f"Expected argument `data` to be a pair of tensors (x, y), but got {kinds}. Convert what is no tensor: "
            "(torch.as_tensor(x), torch.as_tensor(y)). Labels of a kind of their own, or none, come in a batch: "
            "[(x, y)]."
        )
    elif isinstance(data, list) and data and _is_sample(data[0]):
        raise TypeError(
            "Expected argument `data` to hold batches, but got a list of samples (input, label). Make batches of them: "
            "DataLoader(data, batch_size=64)."
        )
    elif isinstance(data, Dataset):
        loader = DataLoader(data, batch_size=batch_size)
    elif isinstance(data, Iterable) and not isinstance(data, Tensor | Mapping | str | nn.Module):
        loader = data
    else:
        raise TypeError(
            "Expected argument `data` to be a pair of tensors (x, y), a Dataset, a DataLoader or a "
            f"LightningDataModule, but got {type(data).__name__}."
        )
    return loader


def _is_pair(data: Any) -> bool:
    return isinstance(data, tuple | list) and len(data) == 2 and all(isinstance(part, Tensor) for part in data)


def _is_sample(entry: Any) -> bool:
    """Is it an input with a single label, and no batch?"""
    if not isinstance(entry, tuple | list) or len(entry) != 2 or not isinstance(entry[0], Tensor):
        return False
    return isinstance(entry[1], int) or (isinstance(entry[1], Tensor) and entry[1].ndim == 0)


def _of_module(module: Any) -> Iterable[Any]:
    """The test batches of a LightningDataModule."""
    module.prepare_data()
    module.setup("test")
    loader: Any = module.test_dataloader()
    if isinstance(loader, list | tuple | Mapping):
        if len(loader) != 1:
            raise ValueError(
                f"Expected argument `data` to have one test dataloader, but got {len(loader)}: evaluate each by itself."
            )
        (loader,) = loader.values() if isinstance(loader, Mapping) else loader
    return loader  # type: ignore[no-any-return]


def samples_of(
    loader: Iterable[Any], ready: Ready, reader: Reader, limit: int | None, shard: tuple[int, int], order: Order
) -> Iterator[tuple[list[int], Sample]]:
    """What the attacks read of each batch, and the places of the samples in the data.

    Args:
        loader: The batches.
        ready: Makes of each what the model takes.
        reader: Where things are in a batch.
        limit: Number of samples, the first ones; None: all.
        shard: Number of this process, and number of processes: each takes every so many-th sample.
        order: Is told of all samples that are read, and of some that `limit` leaves out.
    """
    seen, (number, processes) = 0, shard
    for batch in loader:
        sample = reader.read(ready(batch))
        if sample is None:
            continue
        sample.check_rows()
        order.see(sample)
        if limit is not None:
            order.cut = len(sample) > limit - seen
            sample = sample.rows(slice(0, limit - seen))
        places = list(range(seen, seen + len(sample)))
        seen += len(sample)
        if processes > 1:
            rows = [row for row, place in enumerate(places) if place % processes == number]
            places = [places[row] for row in rows]
            sample = sample.rows(torch.tensor(rows)) if rows else sample
        if places:
            yield places, sample
        if seen == limit:
            _look_ahead(loader, ready, reader, limit, order)
            return
    read = end_of(loader)
    if read is not None:
        _look_ahead(loader, ready, reader, read, order)


def end_of(loader: Any, batches: float = math.inf) -> int | None:
    """Number of samples that a loader reads, where it leaves out those after them, by `drop_last` or because no more
    batches are asked for; None where it leaves out none, or nobody knows, or these are too few to move an accuracy out
    of its 95 % interval, or by 5 points.
    """
    sampler = getattr(loader, "batch_sampler", None)
    if type(sampler) is not BatchSampler or isinstance(loader.dataset, IterableDataset):
        return None
    n, size = _length(sampler.sampler), sampler.batch_size
    if n is None:
        return None
    read = min(n - n % size if sampler.drop_last else n, batches * size)
    return int(read) if n - read > min(0.05 * n, 0.98 * math.sqrt(n)) else None


def _look_ahead(loader: Any, ready: Ready, reader: Reader, after: int, order: Order) -> None:
    """Tell of up to 64 samples that are left out, evenly spread, where they can be read without all before them."""
    data = getattr(loader, "dataset", None)
    left = range(after, _length(data) or 0)
    order.cut = order.cut or bool(left)
    batches = type(getattr(loader, "batch_sampler", None)), type(getattr(loader, "sampler", None))
    if not left or batches != (BatchSampler, SequentialSampler) or isinstance(data, IterableDataset):
        return
    some = Subset(data, list(left[:: math.ceil(len(left) / _AHEAD)]))  # type: ignore[arg-type]
    own = torch.Generator()  # else the seed of workers would be drawn from the global one
    try:
        (batch,) = DataLoader(some, batch_size=_AHEAD, collate_fn=loader.collate_fn, generator=own)
        order.see(reader.read(ready(batch)))
    except Exception:  # whatever a sample that nobody asked for raises
        return


def _length(data: Any) -> int | None:
    """The number of samples; None where data does not know, such as a map over a stream."""
    try:
        return len(data)
    except (TypeError, NotImplementedError):
        return None


def check_order(loader: Any) -> None:
    """Refuse data that processes which share them would see in different orders.

    Raises:
        ValueError: for a DataLoader that shuffles as each process likes, or that shares out the samples itself.
    """
    samplers = (getattr(loader, "sampler", None), getattr(getattr(loader, "batch_sampler", None), "sampler", None))
    for sampler in samplers:
        if isinstance(sampler, DistributedSampler) or (isinstance(sampler, RandomSampler) and not sampler.generator):
            raise ValueError(
                "Expected argument `data` to have one order in all processes of `shard`, but got a DataLoader with a "
                f"{type(sampler).__name__}: some samples would be attacked twice, and others not at all. Give one with "
                "shuffle=False."
            )


def number_of(loader: Any, limit: int | None, shard: tuple[int, int]) -> int | None:
    """The number of samples that `samples_of` gives, where that is known beforehand."""
    n = _length(getattr(loader, "dataset", None))
    if n is None:
        return limit
    n = n if limit is None else min(n, limit)
    return len(range(shard[0], n, shard[1]))


def fingerprint_of_data(data: Any) -> str | None:
    """16 hexadecimal digits made of the content of tensors; None where data is of another kind."""
    tensors = data.tensors if isinstance(data, TensorDataset) else data if _is_pair(data) else None
    return None if tensors is None else fingerprint((str(i), tensor) for i, tensor in enumerate(tensors))


def fingerprint(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """16 hexadecimal digits made of the names, types, shapes and contents of tensors."""
    digest = hashlib.blake2b(digest_size=8)
    for name, tensor in tensors:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        content = tensor.detach().to_dense() if tensor.layout != torch.strided else tensor.detach()
        digest.update(content.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
