"""What `callbacks/test_ddp.py` runs in two processes: `main`, with LOCAL_RANK set; and `start`, which starts such.

Each rank writes what it has found so far to <folder>/<rank>.pt, case by case, so that a case that hangs loses no other.
"""

import contextlib
import datetime as dt
import warnings

import torch
from callbacks_fakes import EPS, TEXTBOOK, Module, data, loader, preloaded, state, textbook_pgd, trainer as quiet
from torch import nn

from lightning_robust import PGD, AdversarialExamples, AdversarialTraining, Linf, RobustEvaluation
from lightning_robust._lightning import pl
from lightning_robust.callbacks import RobustGeneralizationGap
from lightning_robust.objectives import trades

RANDOM = PGD(Linf(EPS / 2), 2, seed=3)
ODD = 23
EVALUATIONS = {"pgd": TEXTBOOK, "random": PGD(Linf(EPS), 1, restarts=2)}
MAX_SAMPLES = (None, 9)


def textbook(module, x, y):
    return textbook_pgd(module, x, y)


def random(module, x, y):
    return RANDOM(module, x, y, key=module.current_epoch)


class Unused(Module):
    """With parameters that no loss depends on."""

    def __init__(self, prepare=None, **kwargs):
        super().__init__(prepare, **kwargs)
        self.spare = nn.Linear(2, 2)


class TradesByHand(Module):
    def training_step(self, batch, batch_idx):
        x, y = batch
        return trades(6)(self, x, random(self, x, y), y)


def _case(
    attack=TEXTBOOK, prepare=textbook, objective=None, strategy=None, make=Module, by_hand=None, module=None, **kw
):
    return {
        "with": lambda: make(**(module or {})),
        "by_hand": (lambda: make(prepare, **(module or {}))) if by_hand is None else by_hand,
        "callback": lambda: AdversarialTraining(attack, objective),
        "strategy": strategy or {},
        "trainer": kw,
    }


CASES = {
    "plain": _case(),
    "random starts": _case(RANDOM, random, max_epochs=2),
    "accumulation": _case(accumulate_grad_batches=2),
    "static graph": _case(strategy={"static_graph": True}),
    "find unused": _case(make=Unused, strategy={"find_unused_parameters": True}),
    "bf16-mixed": _case(precision="bf16-mixed"),
    "manual": _case(module={"manual": True, "accumulate": 2}),
    "trades": _case(RANDOM, objective=trades(6), by_hand=TradesByHand),
    "trades static": _case(RANDOM, objective=trades(6), by_hand=TradesByHand, strategy={"static_graph": True}),
    "early stop": _case(
        PGD(Linf(EPS), 3, early_stop=True),
        lambda m, x, y: PGD(Linf(EPS), 3, early_stop=True)(m, x, y, key=m.current_epoch),
    ),
}


def trainer(*callbacks, strategy=None, **kwargs):
    ddp = pl.strategies.DDPStrategy(process_group_backend="gloo", timeout=dt.timedelta(seconds=30), **(strategy or {}))
    return quiet(*callbacks, devices=2, strategy=ddp, **{"max_epochs": 1} | kwargs)


def fit(module, callbacks, case):
    torch.manual_seed(7)
    trainer(*callbacks, strategy=case["strategy"], **case["trainer"]).fit(module, loader(batch_size=3))
    return state(module)


@contextlib.contextmanager
def collectives():
    """The names of the collective operations of torch.distributed that are called inside."""
    calls = []
    names = ("all_reduce", "all_gather", "all_gather_object", "broadcast", "broadcast_object_list", "barrier", "reduce")
    originals = {name: getattr(torch.distributed, name) for name in names}

    def counting(name):
        def call(*args, **kwargs):
            calls.append(name)
            return originals[name](*args, **kwargs)

        return call

    try:
        for name in names:
            setattr(torch.distributed, name, counting(name))
        yield calls
    finally:
        for name, original in originals.items():
            setattr(torch.distributed, name, original)


def start(folder, method):
    """`ddp_spawn` and its like: the results are there in the program that has started the processes."""
    callback = RobustEvaluation(EVALUATIONS)
    started = pl.strategies.DDPStrategy(start_method=method, process_group_backend="gloo")
    t = quiet(callback, devices=2, strategy=started)
    t.validate(Module(), loader(ODD, seed=1), verbose=False)
    logged = {name: float(value) for name, value in t.callback_metrics.items()}
    torch.save({"results": callback.results, "intervals": callback.intervals, "logged": logged}, folder / "started.pt")


def main(folder):
    rank, kept = None, {}

    def keep(name, value):
        nonlocal rank
        rank = torch.distributed.get_rank()
        kept[name] = value
        torch.save(kept, folder / f"{rank}.partial")
        (folder / f"{rank}.partial").replace(folder / f"{rank}.pt")

    for name, case in CASES.items():
        keep(f"{name}, callback", fit(case["with"](), [case["callback"]()], case))
        keep(f"{name}, by hand", fit(case["by_hand"](), [], case))

    for max_samples in MAX_SAMPLES:
        module = Module()
        module.load_state_dict(kept["plain, callback"])
        callback = RobustEvaluation(EVALUATIONS, max_samples=max_samples)
        trainer(callback).validate(module, loader(ODD, seed=1), verbose=False)
        keep(f"evaluation, {max_samples}", callback.results)

    counted = []
    for callbacks in ([], [RobustEvaluation(EVALUATIONS)]):
        with collectives() as calls, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            trainer(*callbacks).validate(module, loader(ODD, seed=1), verbose=False)
        counted.append(len(calls))
    keep("collectives", counted)
    keep("advice", [str(w.message) for w in caught if "robust_acc" in str(w.message)])

    # A user's own sharding: every process brings samples of its own.
    x, y = data(16, seed=1)
    own_rows = slice(8 * rank, 8 * rank + 8)
    callback = RobustEvaluation(EVALUATIONS)
    own = trainer(callback, use_distributed_sampler=False)
    own.validate(module, preloaded([(x[own_rows], y[own_rows])]), verbose=False)
    keep("evaluation, own sharding", callback.results)

    shown = AdversarialExamples(TEXTBOOK, num_samples=2)
    t = trainer(shown, default_root_dir=folder)
    t.fit(Module(), loader(), loader())
    keep("examples", {"step": t.global_step})

    # One process has its training samples a batch before the other: no one waits, and both measure together.
    class Notes(pl.Callback):
        def on_validation_end(self, trainer, pl_module):
            rows.append([trainer.global_step, gap.results.get("train/n", 0.0), gap.results.get("val/n", 0.0)])

    rows, size = [], 3 * (2 - rank)
    gap = RobustGeneralizationGap(TEXTBOOK, max_samples=12)
    given = preloaded([(x[i * size : (i + 1) * size], y[i * size : (i + 1) * size]) for i in range(2)])
    t = trainer(gap, Notes(), use_distributed_sampler=False, val_check_interval=1)
    t.fit(Module(), given, preloaded([(x[own_rows], y[own_rows])]))
    keep("gap", {"rows": rows, "results": gap.results})
    torch.distributed.destroy_process_group()
