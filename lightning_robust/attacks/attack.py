"""What an attack is, what it returns, and what it refuses."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from lightning_robust._noise import Noise
from lightning_robust.attacks.scope import guest, plain, scope

Model = Callable[[Tensor], Tensor]
_A = TypeVar("_A", bound="Attack")


@dataclass(frozen=True, eq=False)
class Outcome:
    """What an attack found, per sample.

    Args:
        x_adv: (N, C, H, W) adversarial inputs, of the type of the clean ones.
        delta: (N, ...) the perturbation in its space; None where the attack does not tell.
        fooled: (R, N) bool, for each restart or attempt: was the sample misclassified? None where that was not
        evaluated.
        first: (R, N) int, the step at which the sample was first misclassified, -1 for never; None likewise.
        stuck: (N,) bool, was the gradient zero throughout at the start? Such a sample cannot move, which is no
            robustness.
    """

    x_adv: Tensor
    delta: Tensor | None = None
    fooled: Tensor | None = None
    first: Tensor | None = None
    stuck: Tensor | None = None


class Attack(ABC):
    """How the maximum over a perturbation set is sought.

    Called as `attack(model, x, y) -> x_adv`. It leaves the model, the generators and the autograd state as it found
    them, and treats every sample as if it were alone.
    """

    @abstractmethod
    def run(self, model: Model, x: Tensor, y: Tensor, *, code: Any = None, key: int = 0) -> Outcome:
        """Attack and tell everything; no checks of the data.

        Args:
            model: (N, C, H, W) -> logits (N, K); an `nn.Module`, or a function.
            x: (N, C, H, W) clean inputs.
            y: (N,) integer labels.
            code: Known latent codes, for attacks in a latent space.
            key: Changes the random starts, e.g. the epoch. The same key gives the same adversarial examples.
        """

    def __call__(self, model: Model, x: Tensor, y: Tensor, *, code: Any = None, key: int = 0) -> Tensor:
        """The adversarial inputs (N, C, H, W). The data is checked first; arguments as for `run`."""
        self.check(x, y)
        return self.run(model, x, y, code=code, key=key).x_adv

    def check(self, x: Tensor, y: Tensor) -> None:
        """Refuse inputs and labels that cannot be meant."""
        check_batch(x, y)

    @property
    def attempts(self) -> int:
        """R, the number of attempts that `Outcome.fooled` tells of."""
        return 1

    def thorough(self: _A) -> _A:
        """The same attack for evaluation, where finding more counts and time does not."""
        return self

    def scaled(self: _A, factor: float) -> _A:
        """The same attack with the radius times `factor`, for schedules."""
        raise TypeError(
            f"The radius of {type(self).__name__} cannot be scaled: write a schedule that returns the attack for an "
            "epoch."
        )


def check_batch(x: Tensor, y: Tensor) -> None:
    """Refuse an empty batch, inputs that are not finite floats, labels that are not integers (or probabilities)."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        got = str(x.dtype) if isinstance(x, Tensor) else type(x).__name__
        hint = " Convert with x.float() / 255." if isinstance(x, Tensor) and x.dtype == torch.uint8 else ""
        raise TypeError(f"Expected inputs to be a float tensor, but got {got}.{hint}")
    if x.ndim < 2 or x.numel() == 0:
        raise ValueError(
            f"Expected a batch of inputs with N >= 1 samples, shape (N, ...), but got shape {tuple(x.shape)}."
        )
    if not isinstance(y, Tensor) or y.ndim == 0 or len(y) != len(x):
        got = f"shape {tuple(y.shape)}" if isinstance(y, Tensor) else type(y).__name__
        raise ValueError(f"Expected one label per input (N={len(x)}), but got {got}.")
    if (y.is_floating_point() and y.ndim == 1) or y.dtype == torch.bool:
        raise TypeError(f"Expected labels to be integers (class indices), but got {y.dtype}. Convert with y.long().")
    if not y.is_floating_point() and bool((y < 0).any()):
        raise ValueError(f"Expected labels to be at least 0, but got {int(y.min())}.")
    if not bool(x.isfinite().all()):
        raise ValueError(f"Expected inputs to be finite, but {int((~x.isfinite()).sum())} values are NaN or infinite.")


def check_logits(logits: Any, y: Tensor) -> None:
    """Refuse what is not logits for these labels. Waits for the device: meant for the first batch."""
    check_shape(logits, y)
    if not y.is_floating_point() and int(y.max()) >= logits.shape[1]:
        raise ValueError(
            f"Expected labels to be less than the number of classes, {logits.shape[1]}, but got {int(y.max())}."
        )


def check_shape(logits: Any, y: Tensor) -> None:
    """Refuse a model output that is not (N, K, ...)."""
    if not isinstance(logits, Tensor):
        raise TypeError(
            f"Expected the model to return logits, a tensor (N, K), but got {type(logits).__name__}. "
            "Say how to get them: forward=lambda module, batch: module(batch[...]).logits"
        )
    if logits.ndim < 2 or len(logits) != len(y):
        raise ValueError(f"Expected logits of shape (N, K) with N={len(y)}, but got {tuple(logits.shape)}.")


def misclassified(logits: Tensor, y: Tensor) -> Tensor:
    """(N,) bool: is the largest logit not the label's? For dense labels never: there the gain alone decides."""
    if y.ndim == 1:
        # Not finite: an attack that breaks the arithmetic of the model has won.
        return (logits.argmax(1) != y) | logits.isnan().any(1)
    if y.is_floating_point() and y.ndim == 2:
        return logits.argmax(1) != y.argmax(1)
    return torch.zeros(len(y), dtype=torch.bool, device=logits.device)


@dataclass(frozen=True, eq=False)
class Foreign(Attack):
    """Any function `(model, x, y) -> x_adv` as an attack: run in `scope`, seeded, detached. See `as_attack`."""

    function: Callable[..., Tensor]
    takes: frozenset[str] = frozenset()

    def run(self, model: Model, x: Tensor, y: Tensor, *, code: Any = None, key: int = 0) -> Outcome:
        """Call the function with those of `code` and `key` that it takes."""
        extra = {name: value for name, value in (("code", code), ("key", key)) if name in self.takes}
        # Of the batch and the key: batches of one epoch shall not draw the same numbers.
        seed = Noise.of(x, key).seed()
        with scope(model, seed=seed, device=x.device), guest(model, seed):
            x_adv = self.function(model, x.detach().clone(), plain(y), **plain(extra))
        if not isinstance(x_adv, Tensor) or x_adv.shape != x.shape:
            got = tuple(x_adv.shape) if isinstance(x_adv, Tensor) else type(x_adv).__name__
            raise ValueError(
                f"Expected the attack {self.function!r} to return inputs of shape {tuple(x.shape)}, but got {got}."
            )
        return Outcome(x_adv.detach().to(x))


def as_attack(attack: Any) -> Attack:
    """An `Attack` as it is; or one made of a function `(model, x, y) -> x_adv` that may also take `code`, `key`."""
    if isinstance(attack, Attack):
        return attack
    if not callable(attack) or isinstance(attack, type):
        raise TypeError(
            f"Expected an attack, a callable (model, x, y) -> x_adv such as PGD(Linf(8 / 255)), but got {attack!r}."
        )
    try:
        names = inspect.signature(attack).parameters
    except ValueError:  # a callable written in C tells no signature
        names = {}  # type: ignore[assignment]
    return Foreign(attack, frozenset({"code", "key"} & set(names)))
