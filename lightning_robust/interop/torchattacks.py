"""The attacks of torchattacks (Kim, arXiv:2010.01950) as `Attack`s."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from lightning_robust import _checks
from lightning_robust._optional import optional
from lightning_robust.attacks.attack import NO_CONTEXT, Attack, Context, Model, Outcome
from lightning_robust.attacks.pixel_space import PixelSpace
from lightning_robust.attacks.threats import Threat
from lightning_robust.interop._bridge import ForeignAttack, run_foreign


def _parameters(factory: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """The parameters of a function by name."""
    return inspect.signature(factory).parameters


_GIVE_BACK = ("APGD", "APGDT", "AutoAttack", "FAB", "Square")
_ARGUMENTS = "the arguments of the attack besides the model, such as dict(eps=8 / 255)"


@dataclass(frozen=True, eq=False)
class TorchAttack(ForeignAttack):
    """An attack of torchattacks, see `from_torchattacks`.

    Args:
        factory: `(model, **arguments) -> attack`.
        arguments: What the factory is called with, besides the model.
        space: The normalisation of the data.
        seed: Seeds the attack, together with the images and the key of the call.
        threat: The set that the attack stays in, if it is known; the result is projected onto it.
    """

    factory: Callable[..., Any]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    space: PixelSpace = field(default_factory=PixelSpace)
    seed: int = 0
    threat: Threat | None = None

    @property
    def gives_back(self) -> bool:
        """Does it return the clean input of a sample that it does not break? Those that grew out of AutoAttack do."""
        module, name = (getattr(self.factory, key, "") for key in ("__module__", "__name__"))
        return module.startswith("torchattacks.") and name in _GIVE_BACK

    @property
    def effort(self) -> tuple[float, float] | None:
        """The number of steps and how far they go together, in radii, of an attack with steps of one size; else None.

        By the arguments of this name, given or the defaults of the class.
        """
        known = self._known()
        if not all(isinstance(known.get(name), int | float) and known[name] > 0 for name in ("eps", "alpha", "steps")):
            return None
        return known["steps"], known["steps"] * known["alpha"] / known["eps"]

    def _known(self) -> dict[str, Any]:
        """The arguments by name: the defaults of the class, and those that were given."""
        defaults = {name: p.default for name, p in _parameters(self.factory).items() if p.default is not p.empty}
        return {**defaults, **self.arguments}

    def doubts(self, x: Tensor) -> list[str]:
        """Those of the threat, if it is known."""
        return [] if self.threat is None else self.space.doubts(self.threat.ball, x)

    def scaled(self, factor: float) -> Attack:
        """The same attack with the radius `eps` and, where it has one, the step size `alpha` times `factor`.

        Both are given to `from_torchattacks` or are the defaults of the class.
        """
        known = self._known()
        scaled = {name: known[name] * factor for name in ("eps", "alpha") if known.get(name) is not None}
        if "eps" not in scaled:
            return super().scaled(factor)
        threat = None if self.threat is None else self.threat.scaled(factor)
        return replace(self, arguments={**self.arguments, **scaled}, threat=threat)

    def run(self, model: Model, x: Tensor, y: Any, context: Context = NO_CONTEXT) -> Outcome:
        """Build the attack for this model and run it, see `Attack.run`."""

        def find(shell: nn.Module, pixels: Tensor, labels: Tensor, seed: int) -> tuple[Tensor, None]:
            # Some attacks seed torch themselves, from the time or always alike.
            own = {"seed": seed} if "seed" in _parameters(self.factory) else {}
            return self.factory(shell, **{**own, **self.arguments})(pixels, labels), None

        ball = None if self.threat is None else self.threat.ball
        return run_foreign(find, model, x, y, context, space=self.space, seed=self.seed, ball=ball, also=self.factory)


def from_torchattacks(
    factory: Callable[..., Any],
    arguments: Mapping[str, Any] | None = None,
    *,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    seed: int = 0,
) -> TorchAttack:
    """Make an `Attack` of an attack of torchattacks.

    torchattacks binds the model when it is built, so the attack is built anew in each call, which takes microseconds,
    and is given a wrapper of the model: images in [0, 1] in, logits out. The model stays in evaluation mode, and
    `set_model_training_mode` has no effect. The radius is an argument of the attack, in units of [0, 1]. The result is
    clipped to the range of images but, because attacks name and mean their radius differently, not to a ball.

    Args:
        factory: A class of torchattacks, or a function `(model, **arguments) -> attack`, such as
            `lambda model: torchattacks.GN(model, std=0.02)`. One that has an argument `seed` is given one, unless
            `arguments` brings it. For targets let the function call `set_mode_targeted_by_function(..., quiet=True)`.
        arguments: The arguments of the attack besides the model, such as `dict(eps=8 / 255, steps=10)`; None: none.
        mean: The mean that was subtracted from the data, a number or one per channel; None: the data is in [0, 1].
        std: The deviation the data was divided by, likewise.
        seed: Seeds the attack, together with the images and the key of the call.

    Example:
        >>> import torch, torchattacks
        >>> attack = from_torchattacks(torchattacks.PGD, dict(eps=8 / 255, alpha=2 / 255, steps=10))
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
        >>> x, y = torch.rand(4, 3, 2, 2), torch.tensor([0, 1, 2, 0])
        >>> x_adv = attack(model, x, y)
        >>> bool((x_adv - x).abs().max() <= 8 / 255 + 1e-6)
        True

        AutoAttack (Croce & Hein, ICML 2020), the standard of evaluation:

        >>> attack = from_torchattacks(torchattacks.AutoAttack, dict(eps=8 / 255, n_classes=10, version="standard"))
    """
    torchattacks = optional("torchattacks", "torchattacks")
    if isinstance(factory, torchattacks.attack.Attack):
        raise TypeError(
            "Expected argument `factory` to be a class, e.g. torchattacks.PGD, or a function that builds the attack "
            f"for a model, but got an attack that is bound to its model: {factory!r}."
        )
    _checks.function("factory", factory, "(model, **arguments) -> attack, or a class of torchattacks", makes=object)
    given = {} if arguments is None else dict(_checks.instance("arguments", arguments, Mapping, _ARGUMENTS))
    known = {"seed": seed, **given} if "seed" in _parameters(factory) else given
    try:
        inspect.signature(factory).bind(None, **known)
    except TypeError as error:
        name = getattr(factory, "__name__", type(factory).__name__)
        raise TypeError(f"Expected argument `arguments` to be {_ARGUMENTS}, but {name}: {error}.") from error
    return TorchAttack(factory, given, PixelSpace(mean=mean, std=std), _checks.seed("seed", seed))
