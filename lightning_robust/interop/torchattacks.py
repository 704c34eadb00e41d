"""The attacks of torchattacks (Kim, arXiv:2010.01950) as `Attack`s."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from lightning_robust.attacks.attack import Attack, Model, Outcome
from lightning_robust.attacks.spaces import PixelSpace
from lightning_robust.interop._bridge import check_hard_labels, run_foreign
from lightning_robust.interop._generators import mixed


def _arguments(factory: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(factory).parameters
    except ValueError:  # a callable written in C tells no signature
        return {}


@dataclass(frozen=True, eq=False)
class TorchAttack(Attack):
    """An attack of torchattacks, see `from_torchattacks`.

    Args:
        factory: `(model, **arguments) -> attack`.
        arguments: What the factory is called with, besides the model.
        space: The normalisation of the data.
        seed: Seeds the attack, together with the key of the call.
    """

    factory: Callable[..., Any]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    space: PixelSpace = field(default_factory=PixelSpace)
    seed: int = 0

    def check(self, x: Tensor, y: Tensor) -> None:
        """Refuse inputs and labels that cannot be meant."""
        check_hard_labels(self.space, x, y)

    def scaled(self, factor: float) -> "TorchAttack":
        """The same attack with the radius `eps` and, where it has one, the step size `alpha` times `factor`.

        Both are given to `from_torchattacks` or are the defaults of the class.
        """
        defaults = {name: p.default for name, p in _arguments(self.factory).items() if p.default is not p.empty}
        known = {**defaults, **self.arguments}
        if "eps" not in known:
            return super().scaled(factor)
        arguments = dict(self.arguments)
        for name in ("eps", "alpha"):
            if name in known:
                arguments[name] = known[name] * factor
        return replace(self, arguments=arguments)

    def run(self, model: Model, x: Tensor, y: Tensor, *, code: Any = None, key: int = 0) -> Outcome:
        """Build the attack for this model and run it, see `Attack.run`."""
        seed = mixed(self.seed, key)
        # Some attacks seed torch themselves, from the time or always alike.
        own = {"seed": seed} if "seed" in _arguments(self.factory) else {}

        def find(shell: nn.Module, pixels: Tensor, labels: Tensor) -> tuple[Tensor, None]:
            return self.factory(shell, **{**own, **self.arguments})(pixels, labels), None

        return run_foreign(find, model, x, y, space=self.space, seed=seed)


def from_torchattacks(
    factory: Callable[..., Any],
    *,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    seed: int = 0,
    **kwargs: Any,
) -> TorchAttack:
    """Make an `Attack` of an attack of torchattacks.

    torchattacks binds the model when it is built, so the attack is built anew in each call, which takes microseconds,
    and is given a wrapper of the model: images in [0, 1] in, logits out. The model stays in evaluation mode, and
    `set_model_training_mode` has no effect. The radius is an argument of the attack, in units of [0, 1]. The result is
    clipped to the range of images but, because attacks name and mean their radius differently, not to a ball.

    Args:
        factory: A class of torchattacks, or a function `(model, **kwargs) -> attack`, e.g. for targets:
            see `set_mode_targeted_by_function(..., quiet=True)`.
        mean: The mean that was subtracted from the data, a number or one per channel; None: the data is in [0, 1].
        std: The deviation the data was divided by, likewise.
        seed: Seeds the attack, together with the key of the call. An attack that has an argument `seed` gets it too.
        **kwargs: Arguments of the attack, e.g. `eps`, `alpha`, `steps`.

    Example:
        >>> import torch, torchattacks
        >>> attack = from_torchattacks(torchattacks.PGD, eps=8 / 255, alpha=2 / 255, steps=10)
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
        >>> x, y = torch.rand(4, 3, 2, 2), torch.tensor([0, 1, 2, 0])
        >>> x_adv = attack(model, x, y)
        >>> bool((x_adv - x).abs().max() <= 8 / 255 + 1e-6)
        True
    """
    try:
        import torchattacks
    except ImportError as error:
        raise ImportError(
            'Expected the package torchattacks, but it is not installed: pip install "lightning-robust[torchattacks]"'
        ) from error
    if isinstance(factory, torchattacks.attack.Attack):
        raise TypeError(
            "Expected argument `factory` to be a class, e.g. torchattacks.PGD, or a function that builds the attack "
            f"for a model, but got an attack that is bound to its model: {factory!r}."
        )
    if not callable(factory):
        raise TypeError(
            "Expected argument `factory` to be a class of torchattacks or a function (model, **kwargs) -> attack, "
            f"but got {factory!r}."
        )
    return TorchAttack(factory, kwargs, PixelSpace(mean=mean, std=std), seed)
