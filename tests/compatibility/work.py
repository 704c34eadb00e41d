"""The jobs of `pair.py`, on one of two processes: each returns what JSON can hold."""

import contextlib
import itertools
import os
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from callbacks_fakes import BATCH, EPS, TEXTBOOK, data, loader, network, preloaded, trainer
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

from lightning_robust import PGD, AdversarialTraining, Linf, RobustEvaluation
from lightning_robust._lightning import pl
from lightning_robust.attacks import RandomSearch
from lightning_robust.evaluation._plan import Plan, Stage
from tests.compatibility.cells import BATCHES, broken, refusal_of, strategy_of, watched
from tests.compatibility.table import REFUSALS, Cell
from tests.compatibility.users import User

PLAN = Plan({"pgd": PGD(Linf(EPS / 2), 3, restarts=2), "search": Stage(RandomSearch(Linf(EPS / 2), 10), on="few")})
PLAIN = Cell()
UNEVEN = ((4, 4, 3), (2,))
"""Sizes of the batches of each rank."""


def _rank() -> int:
    return int(os.environ["LOCAL_RANK"])


def cell(values: list[Any]) -> list[str]:
    """The laws that do not hold in a cell."""
    return broken(Cell(*values))


def refused(number: int) -> list[str]:
    """The name of the error that a refusal ends with, and its text."""
    return refusal_of(REFUSALS[number])


def attacked(strategy: str) -> list[list[int]]:
    """Which of the training samples this rank attacks in an epoch, in order, and which its sampler gives it."""
    attack, of = watched(TEXTBOOK), Cell(strategy=strategy)
    t = _fit(of, AdversarialTraining(attack), loader(2 * BATCHES * BATCH))
    x, _ = data(2 * BATCHES * BATCH)
    ours = [int((x == row).flatten(1).all(1).nonzero()) for given, _ in attack.made for row in given]
    return [ours, list(t.train_dataloader.sampler)]


def reductions(strategy: str) -> list[int]:
    """How many reductions of gradients an epoch makes, without an attack and with one."""
    counts = []
    for callbacks in ([], [AdversarialTraining(TEXTBOOK)]):
        calls = itertools.count()
        with contextlib.ExitStack() as stack:
            for name in (name for name in dir(torch.distributed) if name.startswith("reduce_scatter")):
                stack.enter_context(mock.patch.object(torch.distributed, name, _counting(name, calls)))
            hook = [] if strategy == "FSDP2" else [_Hook(calls)]
            _fit(Cell(strategy=strategy), *callbacks, *hook, loader(2 * BATCHES * BATCH))
        counts.append(next(calls))
    return counts


def _counting(name: str, calls: Iterator[int]) -> Any:
    original = getattr(torch.distributed, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        next(calls)
        return original(*args, **kwargs)

    return call


class _Hook(pl.Callback):
    """Counts the reductions of DDP, which are made outside of Python."""

    def __init__(self, calls: Iterator[int]) -> None:
        self.calls = calls

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        def hook(state, bucket):  # its annotations are checked
            next(self.calls)
            return allreduce_hook(torch.distributed.group.WORLD, bucket)

        trainer.strategy.model.register_comm_hook(None, hook)


def _fit(of: Cell, *given: Any) -> pl.Trainer:
    *callbacks, train = given
    t = trainer(*callbacks, devices=2, strategy=strategy_of(of), max_epochs=1)
    t.fit(User(of), train)
    return t


def taught(of: Cell = PLAIN) -> User:
    """A module that is right on most samples and robust on some."""
    net, (x, y) = network(dropout=0.0), data()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    for _ in range(30):
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()
    module = User(of)
    module.net.load_state_dict(net.state_dict())
    return module


def shares() -> list[list[tuple[torch.Tensor, torch.Tensor]]]:
    """Batches of each rank: not as many, and not as large."""
    sizes = [size for rank in UNEVEN for size in rank]
    x, y = data(sum(sizes), seed=1)
    parts = iter(zip(x.split(sizes), y.split(sizes), strict=True))
    return [[next(parts) for _ in rank] for rank in UNEVEN]


def uneven(kind: str) -> dict[str, float]:
    """The values of an evaluation where the ranks have other numbers of samples."""
    own = preloaded(shares()[_rank()])
    callback = RobustEvaluation(PLAN if kind == "plan" else TEXTBOOK)
    ddp = strategy_of(Cell(strategy="DDP"))
    trainer(callback, devices=2, strategy=ddp, use_distributed_sampler=False).validate(taught(), own, verbose=False)
    return callback.results


def sharded(kind: str) -> dict[str, float]:
    """The same values of a module that FSDP2 shards, where all have as many batches: their forwards are collective."""
    of = Cell(strategy="FSDP2")
    callback = RobustEvaluation(PLAN if kind == "plan" else TEXTBOOK)
    t = trainer(callback, devices=2, strategy=strategy_of(of))
    t.validate(taught(of), loader(23, seed=1), verbose=False)
    return callback.results


def collective(kind: str) -> dict[str, float]:
    """The same values of a module whose forward waits for the other process, and nobody has said so."""
    module = taught()

    def gathered(net: Any, args: Any, output: torch.Tensor) -> torch.Tensor:
        torch.distributed.all_reduce(torch.zeros(1))
        return output

    module.net.register_forward_hook(gathered)
    callback = RobustEvaluation(TEXTBOOK)
    t = trainer(callback, devices=2, strategy=strategy_of(Cell(strategy="DDP")), use_distributed_sampler=False)
    t.validate(module, preloaded(shares()[0] if kind == "same" else shares()[_rank()]), verbose=False)
    return callback.results


def waiting(strategy: str) -> list[int]:
    """The number of forwards in an epoch where an attack is over at once on rank 0, and never on rank 1."""
    of = Cell(strategy=strategy)
    x, y = data(BATCHES * BATCH)
    y = (y + 1) % 3 if _rank() == 0 else y  # wrong from the start
    own = preloaded(list(zip(x.split(BATCH), y.split(BATCH), strict=True)))
    attack = PGD(Linf(1e-6), 6, early_stop=True)
    module, forwards = taught(of), itertools.count()  # an iterator, because an attack puts lists back
    module.net.register_forward_pre_hook(lambda *_: (next(forwards), None)[1])
    module.configure_optimizers = lambda: torch.optim.SGD(module.parameters(), lr=1e-6)
    t = trainer(
        AdversarialTraining(attack),
        devices=2,
        strategy=strategy_of(of),
        use_distributed_sampler=False,
        max_epochs=1,
    )
    t.fit(module, own)
    return [next(forwards)]
