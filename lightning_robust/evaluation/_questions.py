"""A model, to be asked on few samples."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from lightning_robust._noise import Noise
from lightning_robust.attacks._goal import Goal
from lightning_robust.attacks._step import gain_and_gradient
from lightning_robust.attacks._tensors import wide
from lightning_robust.attacks.attack import Context
from lightning_robust.attacks.gains import without
from lightning_robust.attacks.labels import are_class_labels, class_labels
from lightning_robust.attacks.scope import ordinary, scope
from lightning_robust.attacks.threats import Batch, Threat
from lightning_robust.evaluation._engine import out_of_memory


class Questions:
    """A model, a gain and a space on few samples, inside `scope`.

    Args:
        batch: The model, the inputs, the labels and the chart.
        goal: What the attacker wants.
        threat: The perturbation set.
        key: Of the random moves.

    Attributes:
        clean: The clean output.
        whole: Must every forward have the samples of the batch, and their number depend on no answer? See `few_of`.
    """

    def __init__(self, batch: Batch, goal: Goal, threat: Threat, key: int) -> None:
        self.batch, self.goal, self.threat = batch, goal, threat
        self.whole = False
        self.noise = Noise.of(batch.x, key)
        self.project = threat.projection(batch.chart)
        with torch.no_grad():
            self.clean = batch.model(batch.x.clone())  # a forward may write to its input
        self.goal.check(self.clean)

    @cached_property
    def scale(self) -> float:
        """The standard deviation of the clean output, or the size of one number."""
        clean = exact(self.clean)
        return float(clean.std(unbiased=False) if clean.numel() > 1 else clean.abs().max())

    def output(self, delta: Tensor) -> Tensor:
        """The model's output at a perturbation."""
        return self.batch.model(self.batch.chart.decode(delta))

    @torch.no_grad()
    def gain(self, delta: Tensor) -> Tensor:
        """The gain (N,) at a perturbation."""
        return self.goal.gain(self.output(delta)).double()

    def gradient(self, delta: Tensor, of: Callable[[Tensor], Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """The output and the gradient of the gain, or of another function of the logits, as they come; zeros where
        there is none.
        """
        logits, grad = self.known_gradient(delta, of)
        return logits, torch.zeros_like(delta) if grad is None else grad

    def known_gradient(
        self, delta: Tensor, of: Callable[[Tensor], Tensor] | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """The same; None where no gradient arrives, or the model refuses to be asked for one."""
        at, logits = delta.clone().requires_grad_(), None
        try:
            with torch.enable_grad():
                logits = self.output(at)
                return logits.detach(), gain_and_gradient(of or self.goal.gain, logits, at)[1].detach()
        except RuntimeError as error:
            if out_of_memory(error):
                raise
        with torch.no_grad():
            return self.output(delta) if logits is None else logits.detach(), None

    def silent(self, delta: Tensor) -> Tensor | None:
        """(N,) bool: have the two highest logits of wrong classes no gradient? None: there are no two."""
        y, clean = self.batch.y, self.clean
        if not are_class_labels(clean, y) or clean.shape[1] < 3:
            return None
        labels = class_labels(clean, y)
        labels = labels if labels.ndim == 1 else labels.argmax(1)
        if not bool(((labels >= 0) & (labels < clean.shape[1])).all()):
            return None
        factors = wide(clean).new_tensor([1.0, 0.7])  # gradients of opposite classes do not cancel

        def highest(logits: Tensor) -> Tensor:
            return without(wide(logits), labels, -torch.inf).topk(2, dim=1).values.mul(factors).sum(1)

        return (self.gradient(delta, highest)[1] == 0).flatten(1).all(1)

    def eps(self) -> float:
        """The relative rounding of the output, or of what autocast computes it in."""
        device, kinds = self.clean.device.type, [self.clean.dtype] * self.clean.is_floating_point()
        kinds += [torch.get_autocast_dtype(device)] * torch.is_autocast_enabled(device)
        return max((torch.finfo(kind).eps for kind in kinds), default=0.0)

    def rounding(self) -> Tensor:
        """(N,) differences of two gains that are no more than this may be of the rounding of the output alone."""
        clean = wide(self.clean).reshape(len(self.clean), -1).double()
        eps = torch.finfo(self.clean.dtype).eps if self.clean.is_floating_point() else 0.0
        return 8 * eps * clean.nan_to_num(0.0, 0.0, 0.0).abs().amax(1)


def gives_gradient(model: Any, x: Tensor, y: Any, threat: Threat, gain: Any, context: Context) -> bool:
    """Does a gradient arrive at the perturbation, be it zero?"""
    with questions(model, x, y, threat, gain, context) as asked:
        return asked.known_gradient(asked.batch.chart.zero)[1] is not None


@contextmanager
def questions(model: Any, x: Tensor, y: Any, threat: Threat, gain: Any, context: Context) -> Iterator[Questions]:
    """To ask, within `scope`."""
    with scope(model, x, seed=context.key, also=(threat.space, gain)) as ready:
        x, y, code = ordinary(x), ordinary(y), ordinary(context.code)
        batch = Batch(ready, x, y, threat.space.chart(x, y, code))
        asked = Questions(batch, Goal(gain, batch, context), threat, context.key)
        asked.whole = bool(getattr(model, "whole_batches", False))
        yield asked


def exact(output: Tensor) -> Tensor:
    """An output in float64, for the squares of logits of 1e20 are no float32; what is not finite as large numbers."""
    return output.double().nan_to_num(nan=1e30, posinf=2e30, neginf=-2e30)


def apart(one: Tensor, other: Tensor) -> float:
    """The largest difference of two outputs."""
    return float((exact(one) - exact(other)).abs().max())
