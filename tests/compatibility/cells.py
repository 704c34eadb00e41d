"""One cell of the table: a fit with the callbacks, the same fit written by hand, and the laws that tie the two.

As by hand: weights, buffers, random stream and logged values are equal bit for bit. Inert: `RobustEvaluation` changes
nothing of a fit, and finds what a loop by hand finds. Feasible: what is trained on is in the perturbation set.
"""

import datetime as dt
import functools
from dataclasses import fields
from typing import Any, NamedTuple

import torch
from callbacks_fakes import BATCH, EPS, loader, same, trainer
from torch import Tensor, nn

from lightning_robust import PGD, AdversarialTraining, RobustEvaluation
from lightning_robust._lightning import pl
from tests.compatibility.table import OURS, Cell, Refusal
from tests.compatibility.users import User, callbacks_of, compiled, validates

BATCHES = 4
"""Of the training data of a process, so that the third accumulated gradient is followed by one that is left over."""


# A run


class Watched(PGD):
    """An attack that keeps what it was given and what it made."""

    made: list[tuple[Tensor, Any]]

    def run(self, model: Any, x: Tensor, y: Tensor, *args: Any, **kwargs: Any) -> Any:
        outcome = super().run(model, x, y, *args, **kwargs)
        self.made.append((x, outcome))
        return outcome


def watched(attack: PGD) -> Watched:
    """The same attack, which keeps what it makes."""
    one = Watched(**{field.name: getattr(attack, field.name) for field in fields(attack)})
    object.__setattr__(one, "made", [])
    return one


class Run(NamedTuple):
    """What a run leaves behind."""

    state: dict[str, Tensor]
    stream: Tensor
    logged: dict[str, Tensor]
    values: dict[str, float]
    made: list[tuple[Tensor, Any]]


def strategy_of(cell: Cell) -> Any:
    """The strategy of a cell, over the processes that are there."""
    together = {"process_group_backend": "gloo", "timeout": dt.timedelta(seconds=120)}
    if cell.strategy == "FSDP2":
        return pl.strategies.ModelParallelStrategy(data_parallel_size=2, tensor_parallel_size=1, **together)
    more = {"DDP static graph": {"static_graph": True}, "DDP unused parameters": {"find_unused_parameters": True}}
    return pl.strategies.DDPStrategy(**together, **more.get(cell.strategy, {}))


def trainer_of(cell: Cell, *callbacks: pl.Callback, **kwargs: Any) -> pl.Trainer:
    """The Trainer of a cell."""
    averaging: dict[str, Any] = {
        "WeightAveraging": lambda: pl.callbacks.WeightAveraging(),
        "EMAWeightAveraging": lambda: pl.callbacks.EMAWeightAveraging(decay=0.5),
        "StochasticWeightAveraging": lambda: pl.callbacks.StochasticWeightAveraging(0.05, 1, device=None),
    }
    manual = cell.optimization == "manual"
    options: dict[str, Any] = {
        "gradient clipping": {} if manual else {"gradient_clip_val": 0.1},
        "overfit_batches": {"overfit_batches": 2},
        "sanity check": {"num_sanity_val_steps": 1},
        "limit_batches": {"limit_train_batches": 2, "limit_val_batches": 1},
    }.get(cell.feature, {})
    averages = [averaging[cell.feature]()] if cell.feature in averaging else []
    options |= {"precision": cell.precision, "max_epochs": 2 if averages else 1}
    options |= {} if cell.alone else {"devices": 2, "strategy": strategy_of(cell)}
    options |= {} if manual else {"accumulate_grad_batches": cell.accumulation}
    options |= {"accelerator": "cuda" if cell.precision == "16-mixed" else "cpu"}
    return trainer(*callbacks, *averages, **(options | kwargs))


def run(cell: Cell, *, by_hand: bool = False, **kwargs: Any) -> Run:
    """The fit of a cell, and what its feature does after it."""
    module, callbacks = User(cell, by_hand=by_hand), [] if by_hand else callbacks_of(cell)
    attacks = []
    for callback in callbacks:
        if isinstance(callback, AdversarialTraining):
            callback.attack = watched(callback.attack)
            attacks.append(callback.attack)
    fitted: Any = module
    if cell.compilation == "module":
        fitted = compiled(module, cell)
    t = trainer_of(cell, *callbacks, **kwargs)
    n = BATCHES * BATCH * (1 if cell.alone else 2)
    train, validation = loader(n), loader(n // 2, seed=1)
    several = cell.feature == "several loaders"
    torch.manual_seed(7)
    t.fit(
        fitted,
        {"a": train, "b": loader(n, seed=2)} if several else train,
        ([validation, loader(n // 2, seed=3)] if several else validation) if validates(cell) else None,
    )
    logged = dict(t.callback_metrics)
    if cell.feature == "inference mode":
        t.test(fitted, validation, verbose=False)
        logged |= t.callback_metrics
        t.validate(fitted, validation, verbose=False)
        logged |= t.callback_metrics
    values = _counted(module) if by_hand else _reported(callbacks, several=several)
    own = {key: value.detach().clone() for key, value in logged.items() if key.endswith("/own") or "/own/" in key}
    return Run(_state(module), _stream(), own, values, [pair for one in attacks for pair in one.made])


def _stream() -> Tensor:
    """Where the generators are."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return torch.cat([torch.get_rng_state(), *cuda])


def _state(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers, copied; of sharded ones, the shard."""
    state = {}
    for name, value in module.state_dict().items():
        part = value.to_local() if hasattr(value, "to_local") else value
        state[name.replace("_orig_mod.", "")] = part.detach().clone()
    return state


def _counted(module: User) -> dict[str, float]:
    """The values of the last validation by hand, over all processes."""
    counts = module.counts.clone()
    if torch.distributed.is_initialized():
        torch.distributed.all_reduce(counts)
    values = {}
    for i, (n, right, robust) in enumerate(counts.tolist()):
        if n:
            values |= {f"n{i}": n, f"clean_acc{i}": right / n, f"robust_acc{i}": robust / n}
    return values


def _reported(callbacks: list[pl.Callback], *, several: bool) -> dict[str, float]:
    """The same values, as the callback says them."""
    results = {key: v for c in callbacks if isinstance(c, RobustEvaluation) for key, v in c.results.items()}
    values = {}
    for i, suffix in enumerate(("/dataloader_idx_0", "/dataloader_idx_1") if several else ("",)):
        for name in ("n", "clean_acc", "robust_acc"):
            if f"val/{name}{suffix}" in results:
                values[f"{name}{i}"] = results[f"val/{name}{suffix}"]
    return values


# Laws


def broken(cell: Cell) -> list[str]:
    """The laws that do not hold in a cell, in words."""
    torch._dynamo.reset()
    ours, theirs = run(cell), _by_hand(cell._replace(compilation="none"))
    wrong = []
    if not same(ours.state, theirs.state):
        moved = {k: float((ours.state[k].double() - v.double()).abs().max()) for k, v in theirs.state.items()}
        wrong.append(f"weights or buffers differ from those by hand: {moved}")
    if not torch.equal(ours.stream, theirs.stream):
        wrong.append("the random stream differs")
    shared = ours.logged.keys() & theirs.logged.keys()
    if not all(torch.equal(ours.logged[key], theirs.logged[key]) for key in shared):
        wrong.append(f"what the module logs differs: {ours.logged} {theirs.logged}")
    if ours.values != theirs.values or validates(cell) != bool(ours.values):
        wrong.append(f"the evaluation says {ours.values}, by hand {theirs.values}")
    if (cell.part == "evaluation") != (not ours.made):
        wrong.append(f"{len(ours.made)} batches were attacked")
    for x, outcome in ours.made:
        wrong += _infeasible(cell, x, outcome)
    return wrong


@functools.cache
def _by_hand(cell: Cell) -> Run:
    return run(cell, by_hand=True)


def _infeasible(cell: Cell, x: Tensor, outcome: Any) -> list[str]:
    """What is wrong with adversarial inputs."""
    x_adv, wrong = outcome.x_adv, []
    if x_adv.dtype != x.dtype or not bool(((x_adv >= 0) & (x_adv <= 1)).all()):
        wrong.append("an adversarial input is not in [0, 1], or of another type")
    delta = outcome.delta if cell.part in ("on-manifold", "affine") else x_adv.double() - x.double()
    if float(delta.abs().max()) > EPS:
        wrong.append(f"a perturbation is {float(delta.abs().max())} long")
    if torch.equal(x_adv, x):
        wrong.append("nothing was attacked")
    return wrong


def refusal_of(refusal: Refusal) -> list[str]:
    """The name of the error that a refusal ends with, and its text; others than ours refuse a fit without attacks."""
    cell = refusal.cell if refusal.by == OURS else refusal.cell._replace(part="evaluation")
    more = dict(refusal.trainer)
    if cell.precision == "16-mixed":  # on a CPU Lightning makes bfloat16 of it, unless it is given as a plugin
        scaler = torch.amp.GradScaler("cpu")
        more |= {
            "accelerator": "cpu",
            "precision": None,
            "plugins": pl.plugins.MixedPrecision("16-mixed", "cpu", scaler),
        }
    try:
        run(cell, by_hand=refusal.by != OURS, **more)
    except Exception as error:
        return [type(error).__name__, str(error)]
    return ["", "nothing was refused"]
