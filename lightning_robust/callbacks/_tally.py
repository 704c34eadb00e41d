"""What an evaluation counts: on one process as integers, over all of them in one reduction."""

import json
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DistributedSampler

from lightning_robust import _nested
from lightning_robust._lightning import pl
from lightning_robust.metrics.attack_success import success_counts
from lightning_robust.metrics.intervals import clustered_interval, wilson_interval

Interval = tuple[float, float]

_OF_ALL = ("n", "clean", "robust", "broken", "probabilities")
_OF_ONE = ("withstood", "hits", "squares", "fooled", "stuck")


class Tally:
    """The counts of one dataloader on one process.

    Args:
        attempts: How many attempts each attack makes, by its name.
        device: Where to count.
    """

    def __init__(self, attempts: Mapping[str, int], device: torch.device) -> None:
        self._attempts = dict(attempts)
        self.counts = torch.zeros(len(_OF_ALL) + len(_OF_ONE) * len(attempts), dtype=torch.int64, device=device)
        self.seen = 0

    def add(
        self,
        mask: Tensor,
        clean: Tensor,
        broken: Tensor,
        probabilities: Tensor,
        attacked: list[tuple[Tensor, Tensor, Tensor]],
    ) -> None:
        """Count a batch.

        Args:
            mask: (N,) bool, the samples that count.
            clean: (N,) bool, right when clean.
            broken: (N,) bool, output not finite when clean.
            probabilities: (N,) bool, output a distribution when clean.
            attacked: For each attack: right when clean and under it (N,), fooled (A, N), without a gradient (N,).
        """
        robust = clean.clone()
        found = []
        for withstood, fooled, stuck in attacked:
            robust &= withstood
            hits, squares, any_fooled, _ = success_counts(clean, fooled, mask)
            found += [(withstood & mask).sum(), hits, squares, any_fooled, (stuck & withstood & mask).sum()]
        sums = [mask.sum(), *((part & mask).sum() for part in (clean, robust, broken, probabilities)), *found]
        self.counts += torch.stack([_nested.plain(value).long() for value in sums])


class Summary:
    """What the counts of one dataloader over all processes say.

    Args:
        counts: As `Tally.counts`.
        attempts: As for `Tally`; the name "" is that of a single attack, which adds no suffix.

    Attributes:
        n: Samples counted.
        logged: `clean_acc`, `robust_acc` and `robust_acc_<name>`.
        more: `success_<name>`, `success_worst_<name>` and `n`.
        intervals: The 95 % interval of each value, by the same name.
        warnings: What should be believed with care.
    """

    def __init__(self, counts: list[int], attempts: Mapping[str, int]) -> None:
        of_all = dict(zip(_OF_ALL, counts, strict=False))
        n, clean = of_all["n"], of_all["clean"]
        self.n = n
        self.logged: dict[str, float] = {}
        self.more: dict[str, float] = {"n": float(n)}
        self.intervals: dict[str, Interval] = {}
        self.warnings: list[str] = []
        self._share(self.logged, "clean_acc", clean, n)
        self._share(self.logged, "robust_acc", of_all["robust"], n)
        for place, (name, attempts_of) in enumerate(attempts.items()):
            start = len(_OF_ALL) + place * len(_OF_ONE)
            one = dict(zip(_OF_ONE, counts[start : start + len(_OF_ONE)], strict=True))
            suffix = f"_{name}" if name else ""
            if name:
                self._share(self.logged, f"robust_acc{suffix}", one["withstood"], n)
            self._share(self.more, f"success_worst{suffix}", one["fooled"], clean)
            self.more[f"success{suffix}"] = one["hits"] / (attempts_of * clean) if clean else math.nan
            sums = (torch.tensor(one["hits"]), torch.tensor(one["squares"]), torch.tensor(clean))
            low, high = clustered_interval(*sums, attempts_of, 0.95)
            self.intervals[f"success{suffix}"] = float(low), float(high)
            if one["stuck"] > 0.01 * n:
                self.warnings.append(
                    f"Robust accuracy{f' under `{name}`' if name else ''} may be too high: {one['stuck']} of {n} "
                    "samples withstood only because their gradient is zero. Try another gain (`margin`, `dlr`), "
                    "another precision, or an attack without gradients (`RandomSearch`)."
                )
        if n and of_all["probabilities"] == n:
            self.warnings.append(
                "Robust accuracy may be too high: the model's outputs are probabilities, whose gradient vanishes "
                "where it is confident, and which are never negative as the logit of a no is. Return logits from "
                "`forward`, without the softmax or sigmoid, or say how to get them: forward=..."
            )
        if of_all["broken"]:
            self.warnings.append(
                f"{of_all['broken']} of {n} samples have outputs that are NaN or infinite without an attack; they "
                "count as wrong. A class that is masked out should have a large negative logit, not minus infinity."
            )

    def _share(self, into: dict[str, float], name: str, count: int, of: int) -> None:
        into[name] = count / of if of else math.nan
        low, high = wilson_interval(torch.tensor(count), torch.tensor(of), 0.95)
        self.intervals[name] = float(low), float(high)


def are_probabilities(output: Tensor, yes_no: bool = False) -> Tensor:
    """(N,) bool: is the output of a sample a distribution over classes, or all in [0, 1] where it answers yes or no?"""
    if yes_no:
        wide = output.reshape(len(output), -1)
        return ((wide >= 0) & (wide <= 1)).all(1)
    if output.ndim != 2 or output.shape[1] < 2:
        return torch.zeros(len(output), dtype=torch.bool, device=output.device)
    wide = output.float()
    return (wide >= 0).all(1) & ((wide.sum(1) - 1).abs() < 1e-3)


class Shard:
    """Which samples of a dataloader this process sees, in order, and which of them count.

    Args:
        loader: The dataloader.
        replicas: How many processes see different data: the data-parallel group, not the world.
        max_samples: Count the first so many samples over all processes; None: all.
    """

    def __init__(self, loader: Any, replicas: int, max_samples: int | None) -> None:
        sampler = getattr(loader, "sampler", None)
        if not isinstance(sampler, DistributedSampler):
            sampler = getattr(getattr(loader, "batch_sampler", None), "sampler", None)
        limit = math.inf if max_samples is None else max_samples
        if isinstance(sampler, DistributedSampler):
            # Rank r sees the samples r, r + replicas, ... of a list filled up with repetitions to a multiple of them.
            self.replicas, self.rank = sampler.num_replicas, sampler.rank
            self.limit = min(limit, len(sampler.dataset))  # type: ignore[arg-type]
        else:
            # Every process sees samples of its own.
            self.replicas, self.rank = replicas, 0
            self.limit = limit if limit == math.inf else math.ceil(limit / replicas) * replicas

    def exhausted(self, seen: int) -> bool:
        """The same on all processes."""
        return seen * self.replicas >= self.limit

    def counted(self, seen: int, n: int, device: torch.device) -> Tensor:
        """(n,) bool for the next n samples."""
        return self.rank + (seen + torch.arange(n, device=device)) * self.replicas < self.limit


def replicas(trainer: pl.Trainer) -> int:
    """How many processes see different data. Under tensor parallelism fewer than there are processes."""
    kwargs = trainer.distributed_sampler_kwargs
    return trainer.world_size if kwargs is None else int(kwargs["num_replicas"])


def summed(trainer: pl.Trainer, counts: Tensor) -> Tensor:
    """Counts over all data, in one reduction: processes that see the same data count once."""
    total = trainer.strategy.reduce(counts, reduce_op="sum")
    return total // (trainer.world_size // replicas(trainer))


class Mailbox:
    """Shared memory by which the processes of `ddp_spawn` hand results to the program that has started them."""

    _BYTES = 1 << 16

    def __init__(self) -> None:
        self._memory = torch.zeros(self._BYTES, dtype=torch.uint8).share_memory_()

    def write(self, content: Any) -> None:
        """Leave something that JSON can say; where it is too long, nothing is left."""
        text = json.dumps(content).encode()
        if len(text) > self._BYTES - 8:
            text = b""
        self._memory[8 : 8 + len(text)] = torch.frombuffer(bytearray(text or b"-"), dtype=torch.uint8)[: len(text)]
        self._memory[:8] = torch.tensor([len(text)]).view(torch.uint8)

    def read(self) -> Any:
        """What was left, or None."""
        length = int(self._memory[:8].view(torch.int64))
        return json.loads(bytes(self._memory[8 : 8 + length].tolist())) if length else None
