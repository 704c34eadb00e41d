"""A plan, metrics and alarms over two processes: the numbers of one process that sees all samples."""

import datetime as dt
import re
import warnings

import pytest
import torch
from callbacks_fakes import EPS, TEXTBOOK, Module, data, loader, trainer
from torch.utils.data import DataLoader, IterableDataset

from lightning_robust import PGD, Linf, RobustEvaluation
from lightning_robust._lightning import pl
from lightning_robust.attacks import RandomSearch
from lightning_robust.evaluation._plan import Plan, Stage
from lightning_robust.metrics import PerturbationNorm
from tests.processes import run_two_ranks

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available(), reason="needs gloo"
)


class Partly(Module):
    """Without a gradient for the first half of the data."""

    def forward(self, x):
        dark = x.flatten(1).mean(1).reshape(-1, 1, 1, 1) < 0.37
        return super().forward(torch.where(dark, x.detach(), x) + 0 * x)


def measured(attacks, module, **kwargs):
    torch.manual_seed(0)
    module = module()
    callback = RobustEvaluation(attacks, metrics={"norm": PerturbationNorm(2)}, max_samples=21)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer(callback, **kwargs).validate(module, loader(23, seed=1), verbose=False)
    return callback.results, sorted(str(w.message) for w in caught if "may be too high" in str(w.message))


class Stream(IterableDataset):
    """Which processes do not share out: each reads all 40 samples, and the second one has 12 more."""

    def __iter__(self):
        x, y = data(52, seed=1)
        rank = torch.distributed.get_rank()
        return zip(x[: 40 + 12 * rank], y[: 40 + 12 * rank], strict=True)


def repeated(more):
    callback = RobustEvaluation(TEXTBOOK)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer(callback, **more()).validate(Module(), DataLoader(Stream(), 4), verbose=False)
    said = [str(w.message) for w in caught]
    return callback.results["val/n"], [text for text in said if "distinct" in text or "all_gather" in text]


SEARCH = Stage(RandomSearch(Linf(EPS / 2), 10), on="few")
PLAN = Plan({"pgd": PGD(Linf(EPS / 2), 3, restarts=2), "search": SEARCH})


def together():
    ddp = pl.strategies.DDPStrategy(process_group_backend="gloo", timeout=dt.timedelta(seconds=60))
    return {"devices": 2, "strategy": ddp}


def both(more=dict):
    return [measured(PLAN, Module, **more()), measured({"pgd": TEXTBOOK}, Partly, **more())]


def work(folder):
    found = [*both(together), repeated(together)]
    torch.save(found, folder / f"{torch.distributed.get_rank()}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_find_what_one_finds(tmp_path):
    run_two_ranks(work, tmp_path, timeout=120)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    (n, (text,)), (number, _) = first.pop(), second.pop()
    assert n == number == 92
    assert "Only 52 of 92 samples are distinct" in text
    for (expected, texts), (results, told), (other, _) in zip(both(), first, second, strict=True):
        assert expected["val/n"] == 21
        assert results == other
        assert results == pytest.approx(expected)
        # The first process speaks for all, and puts questions to samples of its own, whose shares are others.
        assert [re.sub(r"[0-9.]+%", "", text) for text in told] == [re.sub(r"[0-9.]+%", "", text) for text in texts]
    assert first[1][0]["val/suspicious"] > 0
    (text,) = first[1][1]
    assert "gradient is zero" in text
