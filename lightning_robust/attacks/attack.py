"""What an attack is, what it returns, and what it refuses."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lightning_robust._nested import cut
from lightning_robust._noise import Noise
from lightning_robust.attacks._signs import Signs
from lightning_robust.attacks.labels import Correct
from lightning_robust.attacks.scope import guest, ordinary, scope

Model = Callable[[Tensor], Any]


@dataclass(frozen=True, eq=False)
class Context:
    """What an attack may know of a batch besides the model, the inputs and the labels.

    Args:
        code: Known latent codes, for attacks in a latent space.
        key: Changes the random starts, e.g. the epoch. The same key gives the same adversarial examples.
        correct: `(output, y) -> (N,) bool`: which samples are right. None: for class labels, those whose class has the
            largest logit; for other labels an attack cannot know when it has succeeded.
        logits: (N, K) the model's output for the clean inputs, where it is known: gains that are measured against it
            save a forward.
        targets: (N, T) int64, the wrong classes, or the yes/no labels, the nearest first, where they are known; see
            `nearest_classes` and `nearest_labels`.
        restart: Number of the first restart. Restart r by itself is restart r of a longer run.
    """

    code: Any = None
    key: int = 0
    correct: Correct | None = None
    logits: Any = None
    targets: Tensor | None = None
    restart: int = 0

    def take(self, rows: slice | Tensor, n: int) -> "Context":
        """The context of some of `n` samples."""
        code, logits, targets = (cut(value, n, rows) for value in (self.code, self.logits, self.targets))
        return replace(self, code=code, logits=logits, targets=targets)


NO_CONTEXT = Context()
"""Nothing is known but the model, the inputs and the labels."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """The result of an attack, per sample.

    Args:
        x_adv: (N, C, H, W) adversarial inputs, of the type of the clean ones.
        delta: (N, ...) the perturbation in its space; None where the attack does not tell.
        fooled: (R, N) bool, for each restart: was the sample misclassified? None where that was not evaluated, or what
            "right" means is not known.
        first: (R, N) int, the step at which the sample was first misclassified, -1 for never; None likewise.
        stuck: (N,) bool, was the gradient zero throughout at the start? Such a sample cannot move, which is no
            robustness. None where no gradient was asked for.
        gain: (N,) the gain of the perturbation; None where it is not known.
        radius: (N,) the least norm of a perturbation that fooled the model, infinite where none did; None likewise.
        signs: What the loop saw on its way; None where nobody looked.
    """

    x_adv: Tensor
    delta: Tensor | None = None
    fooled: Tensor | None = None
    first: Tensor | None = None
    stuck: Tensor | None = None
    gain: Tensor | None = None
    radius: Tensor | None = None
    signs: Signs | None = None


def rows_of(model: Any, rows: slice | Tensor) -> Any:
    """A model for some samples of its batch: of one that reads other fields of the batch, its `rows(rows)`."""
    return model.rows(rows) if hasattr(model, "rows") else model


class Attack(ABC):
    """How the maximum over a perturbation set is sought.

    Called as `attack(model, x, y) -> x_adv`. It leaves the model, the generators and the autograd state as it found
    them, and treats every sample as if it were alone.
    """

    restarts: int = 1
    """R, the number of restarts that `Outcome.fooled` tells of."""

    @abstractmethod
    def run(self, model: Model, x: Tensor, y: Any, context: Context = NO_CONTEXT) -> Outcome:
        """Attack and tell everything; the inputs are not checked.

        Args:
            model: (N, C, H, W) -> logits (N, K); an `nn.Module`, or a function.
            x: (N, C, H, W) clean inputs.
            y: Class labels (see `labels.py`), or whatever the gain takes.
            context: What else is known of the batch.
        """

    def __call__(
        self, model: Model, x: Tensor, y: Any, *, code: Any = None, key: int = 0, correct: Correct | None = None
    ) -> Tensor:
        """The adversarial inputs (N, C, H, W). The inputs are checked first; arguments as for `run` and `Context`."""
        if isinstance(model, type):
            raise TypeError(
                f"Expected argument `model` to be a module or a function, but got the class {model.__name__}. "
                f"Did you mean {model.__name__}(...)?"
            )
        self.check(x, y)
        return self.run(model, x, y, Context(code, key, correct)).x_adv

    def check(self, x: Tensor, y: Any) -> None:
        """Refuse inputs that the attack does not take; called for every batch. Labels are checked by the gain."""
        check_inputs(x)
        check_finite(x)

    def doubts(self, x: Tensor) -> list[str]:
        """What may be wrong with these inputs, in sentences for the user; asked for the first batch."""
        return []

    def thorough(self) -> "Attack":
        """The same attack for evaluation, where finding more counts and time does not."""
        return self

    def quick(self) -> "Attack":
        """The same attack for an evaluation in which the verdict alone counts: samples leave once they are fooled."""
        return self

    def waves(self) -> "tuple[Attack, ...]":
        """The same attack as runs of one restart each, between which samples may leave. Run number r gets a context
        with `restart=r`.
        """
        return (self,)

    def applies(self, output: Tensor, y: Any) -> bool:
        """Is there such an attack for a model of this output? The target of rank 5 needs six classes."""
        return True

    def brief(self) -> "Attack | None":
        """The same attack with the least work, to find out early what it refuses; None: there is no such."""
        return None

    def scaled(self, factor: float) -> "Attack":
        """The same attack with the radius times `factor`, for schedules."""
        raise TypeError(
            f"The radius of {type(self).__name__} cannot be scaled: "
            "write a schedule that returns the attack for an epoch."
        )


def check_inputs(x: Any) -> None:
    """Refuse what is no batch of dense float inputs."""
    if not isinstance(x, Tensor):
        hint = " Convert with torch.as_tensor(x)." if hasattr(x, "__array__") else ""
        raise TypeError(f"Expected inputs to be a float tensor, but got {type(x).__name__}.{hint}")
    if not x.is_floating_point():
        hint = "" if x.is_complex() else " Integers, such as token ids, cannot be moved: attack their embeddings."
        hint = " Convert with x.float() / 255." if x.dtype == torch.uint8 else hint
        raise TypeError(f"Expected inputs to be a float tensor, but got {x.dtype}.{hint}")
    if x.layout != torch.strided:
        raise TypeError(f"Expected inputs to be a dense tensor, but got {x.layout}. Convert with x.to_dense().")
    if x.ndim < 2 or x.numel() == 0:
        raise ValueError(
            f"Expected a batch of inputs with N >= 1 samples, shape (N, ...), but got shape {tuple(x.shape)}."
        )


def check_finite(x: Tensor) -> None:
    """Refuse inputs that are NaN or infinite. Waits for the device once."""
    if x.is_floating_point() and not bool(x.isfinite().all()):
        raise ValueError(f"Expected inputs to be finite, but {int((~x.isfinite()).sum())} values are NaN or infinite.")


@dataclass(frozen=True, eq=False)
class Foreign(Attack):
    """Any function `(model, x, y) -> x_adv` as an attack: run in `scope`, seeded, detached. See `as_attack`."""

    function: Callable[..., Tensor]
    takes: frozenset[str] = frozenset()

    def check(self, x: Tensor, y: Any) -> None:
        """Refuse inputs that are NaN; what else the function takes is its own affair."""
        if isinstance(x, Tensor):
            check_finite(x)

    def run(self, model: Model, x: Tensor, y: Any, context: Context = NO_CONTEXT) -> Outcome:
        """Call the function with those of `code`, `key` and `correct` that it takes."""
        extra = {name: getattr(context, name) for name in ("code", "key", "correct") if name in self.takes}
        # Of the batch and the key: batches of one epoch shall not draw the same numbers.
        seed = Noise.of(x, context.key).seed()
        with scope(model, x, seed=seed, also=(self.function,)), guest((model, self.function), seed):
            x_adv = self.function(model, x.detach().clone(), ordinary(y), **ordinary(extra))
        if not isinstance(x_adv, Tensor) or x_adv.shape != x.shape:
            got = tuple(x_adv.shape) if isinstance(x_adv, Tensor) else type(x_adv).__name__
            raise ValueError(
                f"Expected the attack {self.function!r} to return inputs of shape {tuple(x.shape)}, but got {got}."
            )
        return Outcome(x_adv.detach().to(x))


def as_attack(attack: Any, name: str = "attack") -> Attack:
    """An `Attack` as it is; or one made of a function `(model, x, y) -> x_adv` that may also take `code`, `key`,
    `correct`.

    Args:
        attack: The attack or function.
        name: What errors call it.
    """
    if isinstance(attack, Attack):
        return attack
    if not callable(attack) or isinstance(attack, type):
        kind = getattr(attack, "__name__", type(attack).__name__)
        hint = " Did you mean worst_of(*attacks)?" if isinstance(attack, list | tuple) else ""
        if isinstance(attack, type):
            hint = f" {kind} is a class: did you mean {kind}(...)?"
        elif hasattr(attack, "project") and hasattr(attack, "radius"):
            hint = f" {kind} is a ball: did you mean PGD({kind}(...))?"
        elif hasattr(attack, "attacks"):
            hint = " That is a plan, which judges: train on one attack, such as PGD(threat, 10)."
        shown = repr(attack)
        shown = shown if len(shown) <= 120 else f"{type(attack).__name__} {shown[:80]}..."
        raise TypeError(
            f"Expected argument `{name}` to be an attack, a callable (model, x, y) -> x_adv such as "
            f"PGD(Linf(8 / 255)), but got {shown}.{hint}"
        )
    try:
        names = inspect.signature(attack).parameters
    except ValueError:  # a callable written in C tells no signature
        names = {}  # type: ignore[assignment]
    return Foreign(attack, frozenset({"code", "key", "correct"} & set(names)))
