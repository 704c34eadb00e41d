"""Which samples of a dataloader a process sees, and counts over all processes."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DistributedSampler

from lightning_robust._lightning import pl
from lightning_robust.evaluation._data import end_of


class Shard:
    """Which samples of a dataloader this process sees, in order, and which of them count.

    Args:
        loader: The dataloader.
        replicas: How many processes see different data: the data-parallel group, not the world.
        max_samples: Number of samples to count, the first ones over all processes; None: all.
        rank: Which of the processes this is.
    """

    def __init__(self, loader: Any, replicas: int, max_samples: int | None, rank: int = 0) -> None:
        sampler = getattr(loader, "sampler", None)
        if not isinstance(sampler, DistributedSampler):
            sampler = getattr(getattr(loader, "batch_sampler", None), "sampler", None)
        limit = math.inf if max_samples is None else max_samples
        self._asked: float | None = limit
        if isinstance(sampler, DistributedSampler):
            # Rank r sees the samples r, r + replicas, ... of a list filled up with repetitions to a multiple of them.
            self.replicas, self.rank = sampler.num_replicas, sampler.rank
            n = len(sampler.dataset)  # type: ignore[arg-type]
            self.limit = min(limit, n)
            self._asked = limit if limit < n else None  # what comes after the last sample is a repetition
        else:
            # Every process sees samples of its own: the r-th of them counts as if they were dealt out in turn.
            self.replicas, self.rank, self.limit = replicas, rank, limit

    def exhausted(self, seen: int) -> bool:
        """The same on all processes."""
        return seen * self.replicas >= self.limit

    def cuts(self, seen: int) -> bool:
        """Are there, among so many samples that this process has seen, some that `max_samples` leaves out?"""
        return self.limit == self._asked and self.rank + (seen - 1) * self.replicas >= self.limit

    def counted(self, seen: int, n: int, device: torch.device) -> Tensor:
        """(n,) bool for the next n samples."""
        return self.rank + (seen + torch.arange(n, device=device)) * self.replicas < self.limit


def size_of(loader: Any) -> int | None:
    """The size of the batches that a dataloader was asked for; None: they are made in another way."""
    for one in (loader, getattr(loader, "batch_sampler", None)):
        if isinstance(size := getattr(one, "batch_size", None), int) and size > 0:
            return size
    return None


def replicas(trainer: pl.Trainer) -> int:
    """How many processes see different data. Under tensor parallelism fewer than there are processes."""
    kwargs = trainer.distributed_sampler_kwargs
    return trainer.world_size if kwargs is None else int(kwargs["num_replicas"])


def rank_of(trainer: pl.Trainer) -> int:
    """Which of these processes this is."""
    kwargs = trainer.distributed_sampler_kwargs
    return trainer.global_rank if kwargs is None else int(kwargs["rank"])


def summed(trainer: pl.Trainer, counts: Tensor) -> Tensor:
    """Counts, or sums of any size, over all data, in one reduction: processes that see the same data count once."""
    total, copies = trainer.strategy.reduce(counts, reduce_op="sum"), trainer.world_size // replicas(trainer)
    return total / copies if total.is_floating_point() else total // copies


def gathered(trainer: pl.Trainer, rows: Tensor, lists: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Sums and lists over all processes, in one reduction and, where there are several processes, one more call.

    Args:
        trainer: All processes must ask.
        rows: (L, R) float64, to be summed as by `summed`.
        lists: L of them, (M,) int64 each; M may differ.

    Returns:
        The sums, and each list of all processes, one after the other, on the CPU.
    """
    world, rank, width = trainer.world_size, trainer.global_rank, rows.shape[1]
    lengths = rows.new_zeros(len(rows), world)
    lengths[:, rank] = rows.new_tensor([len(one) for one in lists])
    sums, lengths = summed(trainer, torch.cat([rows, lengths], dim=1)).split([width, world], dim=1)
    if world == 1:
        return sums, lists
    every = (lengths * (world // replicas(trainer))).round().long().cpu()
    padded = torch.zeros(len(lists), int(every.max()), dtype=torch.int64, device=trainer.strategy.root_device)
    for own, one in zip(padded, lists, strict=True):
        own[: len(one)] = one
    of_all = _of_all(trainer, padded).cpu()  # (W, L, the largest M)
    return sums, [
        torch.cat([one[:length] for one, length in zip(of_all[:, i], row, strict=True)])
        for i, row in enumerate(every.tolist())
    ]


def _of_all(trainer: pl.Trainer, own: Tensor) -> Tensor:
    """(W, ...) what each process has. Lightning's own call has a gradient, and is deprecated in torch."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return trainer.strategy.all_gather(own)
    each = [torch.empty_like(own) for _ in range(trainer.world_size)]
    torch.distributed.all_gather(each, own)
    return torch.stack(each)


def loaders_of(trainer: Any, stage: str) -> list[Any]:
    """The dataloaders that Lightning visits one after the other; several that it visits together are one."""
    loop = trainer.test_loop if stage == "test" else trainer.validate_loop
    if trainer.state.fn == "fit":
        loop = trainer.fit_loop.epoch_loop.val_loop
    mode = getattr(getattr(loop, "_combined_loader", None), "_mode", "sequential")
    loaders = trainer.test_dataloaders if stage == "test" else trainer.val_dataloaders
    flat = pl.utilities.CombinedLoader(loaders, mode="sequential").flattened
    return flat if mode == "sequential" else flat[:1]


def leave_out(trainer: Any, stage: str) -> list[bool]:
    """Of each of these dataloaders: does it leave out its last samples, by `drop_last` or `limit_val_batches`?"""
    batches, loaders = (
        trainer.num_test_batches if stage == "test" else trainer.num_val_batches,
        loaders_of(trainer, stage),
    )
    each = batches if isinstance(batches, list) else [batches] * len(loaders)
    return [end_of(*given) is not None for given in zip(loaders, each, strict=False)]
