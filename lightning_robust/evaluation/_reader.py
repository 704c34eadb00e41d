"""The reader of batches that all callbacks share: where things are, how logits come out, which fields are per sample.

The user's batch is never written to.
"""

import copy
import inspect
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from lightning_robust import _checks, _nested
from lightning_robust._lightning import pl
from lightning_robust._nested import Field
from lightning_robust._step import muted
from lightning_robust.attacks._joined import Decode, joined
from lightning_robust.attacks.attack import Attack, Context, Outcome
from lightning_robust.attacks.labels import ROWS, UNSIGNED, Correct, check_output, judged, unwritten
from lightning_robust.attacks.scope import ordinary, scope
from lightning_robust.evaluation._meter import Counter

Forward = Callable[[Any, Any], Any]
"""`(module, batch) -> logits (N, K)`."""

KEYS = {"val": -1, "test": -2}
"""The keys of random starts in validation and test, of which no epoch of training has one."""


def check_forward(module: nn.Module) -> None:
    """Refuse a module that cannot be called with an input alone."""
    name = type(module).__name__
    if getattr(module.forward, "__func__", None) in (nn.Module.forward, pl.LightningModule.forward):
        raise TypeError(
            f"{name} defines no `forward`, so there is nothing to differentiate. "
            "Define forward(self, x) -> logits, or say how: forward=lambda module, batch: module.net(batch[0])."
        )
    if type(module).__call__ is not nn.Module.__call__ or isinstance(module, torch.jit.ScriptModule):
        return
    signature = inspect.signature(module.forward)
    try:
        signature.bind(None)
    except TypeError as error:
        raise TypeError(
            f"Expected forward(x) of {name} to take an input alone, but it is forward{signature}: {error}. Say how: "
            "forward=lambda module, batch: module(...) returns the logits of a batch."
        ) from error


class View(nn.Module):
    """A LightningModule as an attack sees it: inputs to logits, for one batch.

    Args:
        module: The LightningModule, not wrapped in DDP: the attack's backward passes must not reach the reducer.
        sample: What is read of the batch.
        counter: Counts the passes; None: nobody asks.

    Attributes:
        whole_batches: Must every forward have the samples of the batch?
    """

    whole_batches: bool = False

    def __init__(self, module: nn.Module, sample: "Sample", counter: Counter | None = None) -> None:
        super().__init__()
        self.module = module
        self._counter = counter
        self._forward = sample.reader.forward
        self._sample = sample
        if self._forward is not None:
            # Validation runs in inference mode: what `forward` reads beside the input must be fit for autograd, too.
            with torch.inference_mode(False):
                self._sample = replace(sample, batch=_nested.ordinary(sample.batch))

    def forward(self, x: Any) -> Any:
        """The logits of the inputs."""
        if self._counter is not None and isinstance(x, Tensor):
            self._counter.watch(x)
        output = self.module(x) if self._forward is None else self._forward(self.module, self._sample.with_input(x))
        if self._counter is not None and isinstance(x, Tensor):
            self._counter.forward(len(x))
        return output

    def rows(self, rows: slice | Tensor) -> "View":
        """The same module for some samples of the batch."""
        view = View(self.module, self._sample.rows(rows), None if self._counter is None else self._counter.take(rows))
        view.whole_batches = self.whole_batches
        return view

    def through(self, wrap: Callable[[Any], Any]) -> "View":
        """The same around `wrap(module)`; itself, where a function of the user makes the logits of the module."""
        return self if self._forward is not None else View(wrap(self.module), self._sample, self._counter)

    def after_decode(self, decode: Decode) -> Callable[[Tensor], Any]:
        """The module behind the map of a space, as one function of the perturbation."""
        if self._forward is None and self._counter is None:
            return joined(self.module, decode)
        return lambda delta: self(decode(delta))

    def quietly(self) -> AbstractContextManager[None]:
        """Within, nothing that the module logs is logged; `awp` asks for it in its ascent."""
        return muted(self.module)

    def attacked(self, attack: Attack, key: int, **known: Any) -> Outcome:
        """The outcome of an attack on the batch. Nothing that the module logs in it is logged.

        Args:
            attack: The attack.
            key: Of its random starts.
            known: What else its `Context` holds: `logits`, `targets`, `restart`.
        """
        sample = self._sample
        with self.quietly():
            return attack.run(self, sample.x, sample.y, Context(sample.code, key, sample.reader.correct, **known))

    def judged(self, x: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Which samples are right (N,), the module in evaluation mode, and the outputs that say so.

        Args:
            x: The inputs; None: those of the batch.
        """
        x, y = self._sample.x if x is None else x, self._sample.y
        with self.quietly(), scope(self, x) as ready, torch.no_grad():
            x, y = ordinary(x), ordinary(y)
            output = ready(x.clone())  # a forward may write to its input
            if not isinstance(output, Tensor) or output.shape[:1] != x.shape[:1]:
                check_output(output, len(x))
            with unwritten(y):
                return judged(self._sample.reader.correct, output, y), output

    def right_under(self, attack: Attack, key: int) -> tuple[Tensor, Outcome]:
        """Which samples are right under an attack (N,), and the outcome of the attack."""
        outcome = self.attacked(attack, key)
        return self.judged(outcome.x_adv)[0], outcome


@dataclass(frozen=True)
class Reader:
    """Where things are in a batch: the arguments of this name of every callback, see `AdversarialTraining`."""

    input: Field = 0
    target: Field | None = 1
    code: Field | None = None
    forward: Forward | None = None
    correct: Correct | None = None
    per_sample: Sequence[Field] | None = None

    def __post_init__(self) -> None:
        for name in ("input", "target", "code"):
            object.__setattr__(self, name, _nested.as_field(name, getattr(self, name)))
        for name, signature in (("forward", "(module, batch) -> logits"), ("correct", "(output, y) -> (N,) bool")):
            if getattr(self, name) is not None:
                _checks.function(name, getattr(self, name), signature)
        if self.per_sample is not None:
            fields = _checks.sequence("per_sample", self.per_sample, "the fields with one entry per sample")
            object.__setattr__(self, "per_sample", tuple(_nested.as_field("per_sample", field) for field in fields))

    def read(self, batch: Any) -> "Sample | None":
        """What an attack needs of a batch; None if the input, or a part on the way to it, is None or has no samples."""
        x = _nested.find(batch, self.input, "input")
        if x is None or (isinstance(x, Tensor) and x.ndim and not len(x)):
            return None
        y = None if self.target is None else _nested.get(batch, self.target, "target")
        if isinstance(y, Tensor) and y.dtype in UNSIGNED:
            y = y.long()
        code = None if self.code is None else _nested.get(batch, self.code, "code")
        return Sample(self, batch, x, y, code)


@dataclass(frozen=True, eq=False)
class Sample:
    """What was read of a batch.

    Args:
        reader: The reader.
        batch: The user's batch.
        x: (N, ...) inputs.
        y: Labels.
        code: Latent codes, or None.
    """

    reader: Reader
    batch: Any
    x: Tensor
    y: Any
    code: Any

    def __len__(self) -> int:
        return len(self.x)

    def check_rows(self) -> None:
        """Refuse a tensor of labels that has not one for each input."""
        x, y = self.x, self.y
        if isinstance(x, Tensor) and isinstance(y, Tensor) and y.ndim and x.shape[:1] != y.shape[:1]:
            raise ValueError(
                f"Expected as many labels as inputs, but got labels {tuple(y.shape)} for inputs {tuple(x.shape)}. "
                f"{ROWS}"
            )

    def with_input(self, x: Tensor) -> Any:
        """A copy of the batch with another input."""
        return _nested.put(self.batch, self.reader.input, x)

    def rows(self, rows: slice | Tensor) -> "Sample":
        """Some of the samples. The rest of the batch is cut only where `forward` reads it."""
        n, reader = len(self), self.reader
        if isinstance(rows, slice) and range(n)[rows] == range(n):
            return self
        if reader.forward is None:
            y, code = (_nested.cut(value, n, rows) for value in (self.y, self.code))
            return Sample(reader, None, self.x[rows], y, code)
        known = tuple(field for field in (reader.input, reader.target, reader.code) if field is not None)
        fields = None if reader.per_sample is None else tuple(reader.per_sample)
        part = reader.read(_nested.take(self.batch, n, rows, fields, known))
        assert part is not None
        return part

    def doubts(self) -> list[str]:
        """Texts to warn the user with."""
        if all(leaf is not self.x for leaf in _nested.leaves(self.with_input(self.x.detach()))):
            return []
        where = f"The batch holds the input {self.reader.input!r} a second time."
        return [f"{where} A step that reads it there sees clean inputs: only the field that `input` names is replaced."]

    def copied(self) -> "Sample":
        """A copy that nobody else writes to."""
        batch = None if self.reader.forward is None else copy.deepcopy(self.batch)
        if batch is None:
            return Sample(self.reader, None, *copy.deepcopy((self.x, self.y, self.code)))
        part = self.reader.read(batch)
        assert part is not None
        return part

    def view(self, module: nn.Module, counter: Counter | None = None) -> View:
        """The module as an attack sees it."""
        return View(module, self, counter)
