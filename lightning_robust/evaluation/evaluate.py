"""Attack a model on a data set, and say what it withstood."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from lightning_robust import _checks
from lightning_robust._nested import Field
from lightning_robust.attacks.attack import Attack
from lightning_robust.attacks.labels import Correct
from lightning_robust.evaluation._data import check_order, loader_of, number_of, samples_of
from lightning_robust.evaluation._evaluation import Evaluation, Settings
from lightning_robust.evaluation._hooks import ready_for
from lightning_robust.evaluation._memory import Memory
from lightning_robust.evaluation._models import device_of, home_of, module_of
from lightning_robust.evaluation._order import Order
from lightning_robust.evaluation._plan import Plan, is_plan, stages_of
from lightning_robust.evaluation._progress import progress_bar
from lightning_robust.evaluation._reader import Forward, Reader, check_forward
from lightning_robust.evaluation._record import Record
from lightning_robust.evaluation._streams import Beside
from lightning_robust.evaluation.ledger import Ledger, begun
from lightning_robust.evaluation.report import FILES, Report, check_names, check_new, check_packages


def evaluate(
    model: Any,
    data: Any,
    attacks: Attack | Mapping[str, Attack | Callable[..., Any]] | Callable[..., Any] | Plan,
    *,
    input: Field = 0,  # noqa: A002
    target: Field | None = 1,
    code: Field | None = None,
    forward: Forward | None = None,
    correct: Correct | None = None,
    per_sample: Sequence[Field] | None = None,
    model_class: Any = None,
    max_samples: int | None = None,
    batch_size: int = 250,
    device: str | torch.device | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    shard: tuple[int, int] = (0, 1),
    keep_examples: bool = False,
    progress: bool = True,
) -> Report:
    """Attack a model on a data set: for each sample the worst case over the clean input and all attacks counts.

    The model is in evaluation mode within, and as it was afterwards, and so are the random streams. Attacks given by
    name run in full, on all samples that are right without one, and are reported each; the numbers are those that
    `RobustEvaluation` gives in `trainer.test`. Of a plan, such as `standard(threat)`, the worst case alone is known: a
    sample that is broken is spared all other attacks, and batches are filled with those whose verdict is open. A
    verdict does not depend on the size and the order of batches, for an attack draws the same numbers on the same
    sample.

    Args:
        model: An `nn.Module` such as a LightningModule, or a function, from inputs to logits; or the path of a
            checkpoint, of Lightning or a state dict.
        data: A pair of tensors (x, y); a Dataset; a DataLoader or another iterable of batches; or a
            LightningDataModule, of which the test data is taken. Batch hooks, such as `on_after_batch_transfer`, are
            those of `trainer.test`: of the data module where it overrides them, else of a LightningModule.
        attacks: A plan; an attack, called "attack" in the report; or a dictionary of attacks by name. Attacks keep
            their best iterate here.
        input: Where the input is in a batch, see `AdversarialTraining`, as for `target`, `code`, `forward`, `correct`
            and `per_sample`.
        target: Where the labels are.
        code: Where the latent codes are.
        forward: `(model, batch) -> logits`.
        correct: `(output, y) -> (N,) bool`.
        per_sample: The fields of a batch with one entry per sample. Batches that `forward` reads are cut to some of
            their samples; one that cannot be cut is attacked as a whole.
        model_class: Of a checkpoint: the class of the model, or a model that takes the weights.
        max_samples: Number of samples to attack, the first ones; None: all. Of data that is sorted by class, as folders
            of images are, these are of few classes: shuffle it once. The indicator `sorted_cut` tells, of one
            class alone where what is left out can be looked at: data with an index, in its own order.
        batch_size: Samples per batch; halved where memory runs out. A DataLoader may read other batches: plain tensors
            are put together anew.
        device: Where to compute. A module is moved there and back, a function is not; None: where the model is.
        seed: Of the random starts.
        out: A folder. What is found is written there after each batch, and an evaluation that was killed goes on, with
            the doubts of its earlier runs; at the end the files of `Report.write`. What one that was refused before its
            first attack left is replaced. None: nothing is written.
        shard: Number of this process, from 0, and number of processes that share the samples and the folder `out`.
            `Report.load(out)` is the report of all of them.
        keep_examples: Does `report.images` hold adversarial inputs?
        progress: Show progress on a terminal.

    Raises:
        ValueError: if `data` has no samples or, of a `shard`, no order; an attack has a name that the report uses
            itself; a result is none; or `out` holds another evaluation.
        TypeError: if `data` or `model` is something else.
        ModuleNotFoundError: before the first attack, if `out` is given and the extra `report` is not installed. One of
            several processes that share `out` does not need it.

    Example:
        >>> from lightning_robust import PGD, Linf, evaluate
        >>> from torch import nn
        >>> model, x, y = nn.Sequential(nn.Flatten(), nn.Linear(16, 2)), torch.rand(8, 1, 4, 4), torch.arange(8) % 2
        >>> report = evaluate(model, (x, y), {"pgd": PGD(Linf(0.1), steps=5)}, progress=False)
        >>> report.n, sorted(report.right)
        (8, ['clean', 'pgd'])
    """
    stages = {name or "attack": stage for name, stage in stages_of(attacks).items()}
    check_names("attacks", stages)
    reader = Reader(input, target, code, forward, correct, per_sample)
    settings = Settings(
        stages,
        full=not is_plan(attacks),
        note=getattr(attacks, "note", ""),
        reader=reader,
        seed=_checks.seed("seed", seed),
        batch_size=_checks.count("batch_size", batch_size),
        limit=None if max_samples is None else _checks.count("max_samples", max_samples),
        shard=_shard(shard),
        keep_examples=_checks.boolean("keep_examples", keep_examples),
    )
    if out is not None and settings.shard[1] == 1:  # at the end a page is written
        check_packages()
    shown = _checks.boolean("progress", progress)
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))  # of the caller, such as a hook of `trainer.test`
        module, beside = module_of(model, model_class), Beside()
        if forward is None:
            check_forward(module)
        home = home_of(module)
        place = home if device is None else device_of(device)
        loader, ready = beside(loader_of, data, settings.batch_size), ready_for(module, data, place)
        if settings.shard[1] > 1:
            check_order(loader)
        record, memory, sink = Record(), Memory(), None
        if out is not None:
            folder = _checks.path("out", out)
            if not any(map(begun, folder.glob("ledger-*.jsonl"))):
                check_new("out", folder)
            header = settings.header(module, data)
            ledger = stack.enter_context(Ledger.open(folder, header, settings.shard, name="out"))
            record.see(memory.listen(ledger.events()))
            sink = ledger.add
        if place != home:
            module.to(place)
            stack.callback(module.to, home)
        bar = stack.enter_context(progress_bar(shown, number_of(loader, settings.limit, settings.shard)))
        order = Order()
        run = Evaluation(module, settings, place, record, memory, sink, bar, order)
        run.over(beside.each(samples_of(loader, ready, reader, settings.limit, settings.shard, order)))
        report = run.report()
    for text in report.warnings:
        warnings.warn(text, stacklevel=2)
    if out is not None and settings.shard[1] == 1:
        for name in FILES:  # of an earlier run with the same settings
            (Path(out) / name).unlink(missing_ok=True)
        report.write(out)
    return report


def _shard(shard: Any) -> tuple[int, int]:
    """Number of this process, and number of processes."""
    wanted = "a pair (number, processes), such as (0, 4)"
    number, processes = _checks.counts("shard", _checks.sequence("shard", shard, wanted, 2), 0)
    _checks.count("shard[1]", processes)
    return _checks.count("shard[0]", number, 0, processes - 1), processes
