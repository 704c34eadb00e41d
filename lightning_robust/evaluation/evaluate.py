"""Attack a model on a data set, and say what it withstood."""

import re
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from lightning_robust import _checks
from lightning_robust._lightning import move_to_device, pl
from lightning_robust._nested import Field
from lightning_robust.attacks.attack import Attack
from lightning_robust.attacks.labels import Correct
from lightning_robust.attacks.scope import modules_in
from lightning_robust.evaluation._plan import Plan, attacks_by_name
from lightning_robust.evaluation._reader import Forward, Reader, Sample
from lightning_robust.evaluation._tally import Summary, Tally, measured
from lightning_robust.evaluation.report import Report, check_names

TEST_KEY = -2
"""The key of the random starts in `trainer.test`, so that both give the same numbers."""


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
    max_samples: int | None = None,
    batch_size: int = 250,
    device: str | torch.device | None = None,
    progress: bool = True,
) -> Report:
    """Attack a model on a data set: for each sample the worst case over the clean input and all attacks counts.

    The model is in evaluation mode within, and as it was afterwards. The numbers are those that `RobustEvaluation`
    gives in `trainer.test` with the same attacks.

    Args:
        model: An `nn.Module` such as a LightningModule, or a function, from inputs to logits.
        data: A pair of tensors (x, y); a Dataset; a DataLoader or another iterable of batches; or a
            LightningDataModule, of which the test data is taken.
        attacks: An attack, called "attack" in the report; a dictionary of attacks by name; or a plan, an object whose
            attribute `attacks` is such a dictionary. Attacks keep their best iterate here.
        input: Where the input is in a batch, see `AdversarialTraining`, as for `target`, `code`, `forward`, `correct`
            and `per_sample`.
        target: Where the labels are.
        code: Where the latent codes are.
        forward: `(model, batch) -> logits`.
        correct: `(output, y) -> (N,) bool`.
        per_sample: The fields of a batch with one entry per sample; `max_samples` cuts a batch.
        max_samples: Number of samples to attack, the first ones; None: all.
        batch_size: Samples per batch where `data` is a pair of tensors or a Dataset.
        device: Where to compute. A module is moved there and back, a function is not; None: where the model is.
        progress: Show progress on a terminal.

    Raises:
        ValueError: if `data` has no samples, or an attack has a name that the report uses itself.
        TypeError: if `data` or `model` is something else.

    Example:
        >>> from lightning_robust import PGD, Linf, evaluate
        >>> model, x, y = nn.Sequential(nn.Flatten(), nn.Linear(16, 2)), torch.rand(8, 1, 4, 4), torch.arange(8) % 2
        >>> report = evaluate(model, (x, y), {"pgd": PGD(Linf(0.1), steps=5)}, progress=False)
        >>> report.n, sorted(report.right)
        (8, ['clean', 'pgd'])
    """
    by_name = {name or "attack": attack for name, attack in attacks_by_name(attacks).items()}
    check_names("attacks", by_name)
    reader = Reader(input, target, code, forward, correct, per_sample)
    limit = None if max_samples is None else _checks.count("max_samples", max_samples)
    module = _module(model)
    home = _home(module)
    place = home if device is None else _device(device)
    loader, ready = _loader(data, _checks.count("batch_size", batch_size), place)
    batches = map(ready, _shown(loader, _checks.boolean("progress", progress)))
    right: list[Tensor] = []
    labels: list[Tensor | None] = []
    doubts: list[str] = []
    tally, began = Tally(len(by_name), place), time.monotonic()
    if place != home:
        module.to(place)
    try:
        for sample in _samples(batches, reader, limit):
            for attack in by_name.values():
                attack.check(sample.x, sample.y)
                if not right:
                    doubts += attack.doubts(sample.x)
            clean, broken, probabilities, attacked = measured(sample.view(module), by_name.values(), TEST_KEY, correct)
            tally.add(torch.ones_like(clean), clean, broken, probabilities, attacked)
            right.append(torch.stack([clean, *(row for row, *_ in attacked)]).cpu())
            labels.append(_classes(sample))
    finally:
        if place != home:
            module.to(home)
    if not right:
        raise ValueError("Expected argument `data` to have samples, but got none.")
    rows = torch.cat(right, dim=1)
    known = [label for label in labels if label is not None]
    summary = Summary(tally.counts.tolist(), {name: attack.restarts for name, attack in by_name.items()})
    cautions = tuple(dict.fromkeys([*doubts, *summary.warnings]))
    for text in cautions:
        warnings.warn(text, stacklevel=2)
    return Report(
        right=dict(zip(["clean", *by_name], rows, strict=True)),
        labels=torch.cat(known) if len(known) == len(labels) else None,
        warnings=cautions,
        attacks={name: re.sub(" at 0x[0-9a-f]+", "", repr(attack)) for name, attack in by_name.items()},
        seconds=time.monotonic() - began,
    )


def _module(model: Any) -> nn.Module:
    """The model as a module: of a function, one that calls it."""
    if isinstance(model, nn.Module):
        return model
    return _Function(_checks.function("model", model, "(x) -> logits, or a module"))


class _Function(nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Any) -> Any:
        return self.function(x)


def _home(module: nn.Module) -> torch.device:
    """Where the first parameter or buffer of a model is, or of a network that a function holds; else the CPU."""
    tensors = (t for part in modules_in(module) for t in (*part.parameters(), *part.buffers()))
    return next((t.device for t in tensors), torch.device("cpu"))


def _device(device: Any) -> torch.device:
    """A device that is there."""
    _checks.instance("device", device, (str, torch.device), 'a device such as "cpu" or "cuda:0"')
    try:
        place = torch.device(device)
        return torch.empty(0, device=place).device
    except (AssertionError, NotImplementedError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"Expected argument `device` to be a device of this machine, but got {str(device)!r}: {reason}"
        ) from error


def _loader(data: Any, batch_size: int, device: torch.device) -> tuple[Iterable[Any], Callable[[Any], Any]]:
    """The batches of whatever was given, and the function that moves one to the device."""
    if isinstance(data, pl.LightningDataModule):
        return _of_module(data, device)
    loader: Iterable[Any]
    if isinstance(data, tuple | list) and len(data) == 2 and all(isinstance(part, Tensor) for part in data):
        if len(data[0]) != len(data[1]):
            raise ValueError(
                f"Expected argument `data` to have as many labels as inputs, but got {len(data[1])} for {len(data[0])}."
            )
        loader = DataLoader(TensorDataset(*data), batch_size=batch_size)
    elif isinstance(data, Dataset):
        loader = DataLoader(data, batch_size=batch_size)
    elif isinstance(data, Iterable) and not isinstance(data, Tensor | Mapping | str | nn.Module):
        loader = data
    else:
        raise TypeError(
            "Expected argument `data` to be a pair of tensors (x, y), a Dataset, a DataLoader or a "
            f"LightningDataModule, but got {type(data).__name__}."
        )
    return loader, lambda batch: move_to_device(batch, device)


def _of_module(module: Any, device: torch.device) -> tuple[Iterable[Any], Callable[[Any], Any]]:
    """The test batches of a LightningDataModule, moved by its own hooks."""
    module.prepare_data()
    module.setup("test")
    loader: Any = module.test_dataloader()
    if isinstance(loader, list | tuple | Mapping):
        if len(loader) != 1:
            raise ValueError(
                f"Expected argument `data` to have one test dataloader, but got {len(loader)}: evaluate each by itself."
            )
        (loader,) = loader.values() if isinstance(loader, Mapping) else loader

    def ready(batch: Any) -> Any:
        moved = module.transfer_batch_to_device(module.on_before_batch_transfer(batch, 0), device, 0)
        return module.on_after_batch_transfer(moved, 0)

    return loader, ready


def _shown(loader: Iterable[Any], progress: bool) -> Iterator[Any]:
    """The batches of a loader, with a bar on a terminal."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    shown = progress and console.is_terminal
    total = len(loader) if isinstance(loader, Sized) else None
    yield from track(loader, "attacking", total=total, console=console, transient=True, disable=not shown)


def _samples(batches: Iterator[Any], reader: Reader, limit: int | None) -> Iterator[Sample]:
    """What the attacks read of each batch, up to `limit` samples."""
    left = limit
    for batch in batches:
        sample = reader.read(batch)
        if sample is None:
            continue
        if left is not None:
            sample = sample.rows(slice(0, left))
            left -= len(sample)
        yield sample
        if left == 0:
            return


def _classes(sample: Sample) -> Tensor | None:
    """The class of each sample, (N,) on the CPU; None where labels are no classes."""
    y = sample.y
    if not isinstance(y, Tensor) or y.is_floating_point() or y.ndim > 2 or (y.ndim == 2 and y.shape[1] != 1):
        return None
    return y.detach().reshape(-1).long().cpu()
