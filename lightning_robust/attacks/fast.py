"""How the model is called inside an attack: compiled, in another precision, with channels last."""

import itertools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from lightning_robust import _checks
from lightning_robust.attacks._choice import Choice, quickest
from lightning_robust.attacks._combined import Combined
from lightning_robust.attacks._compiled import compiled
from lightning_robust.attacks._layout import ChannelsLast, channels_last_weights
from lightning_robust.attacks._tensors import set_fields
from lightning_robust.attacks.attack import NO_CONTEXT, Attack, Context, Model, Outcome, as_attack
from lightning_robust.attacks.pgd import PGD

Precision = Literal["32", "bf16", "auto"]
_MEASURED_STEPS = 4
_AUTO: dict[str, tuple[Any, ...]] = {
    "compile": (False, True),
    "precision": ("32", "bf16"),
    "channels_last": (False, True),
}


@dataclass(frozen=True)
class Fast(Combined):
    """An attack that calls the model in another way than training does, see `fast`."""

    attack: Attack
    compile: bool | str = field(default=False, kw_only=True)
    precision: Precision | None = field(default=None, kw_only=True)
    channels_last: bool | Literal["auto"] = field(default=False, kw_only=True)
    choice: Choice = field(default_factory=Choice, kw_only=True, repr=False, compare=False)

    def __post_init__(self) -> None:
        texts = isinstance(self.compile, str), isinstance(self.channels_last, str)
        precision = self.precision
        set_fields(
            self,
            compile=_checks.text("compile", self.compile) if texts[0] else _checks.boolean("compile", self.compile),
            channels_last=_checks.choice("channels_last", self.channels_last, ("auto",))
            if texts[1]
            else _checks.boolean("channels_last", self.channels_last),
            precision=precision
            if precision is None
            else _checks.choice("precision", precision, ("32", "bf16", "auto")),
        )
        if self.compile not in (False, True, "auto") and self.compile not in torch.compiler.list_backends(()):
            names = ", ".join(torch.compiler.list_backends())
            raise ValueError(
                f'Expected argument `compile` to be True, False, "auto" or a backend of torch.compile ({names}), '
                f"but got {self.compile!r}."
            )

    def run(self, model: Model, x: Tensor, y: Any, context: Context = NO_CONTEXT) -> Outcome:
        """Run the attack on the model as it is called here."""
        return self._settled(model, x, y, context)._run(model, x, y, context)

    def _run(self, model: Model, x: Tensor, y: Any, context: Context) -> Outcome:
        with ExitStack() as stack:
            if self.precision is not None:
                stack.enter_context(_precision(self.precision, x.device.type))
            if self.compile:
                model = compiled(model, self.compile)
            if self.channels_last and x.is_cuda:
                model = ChannelsLast(model)
            elif self.channels_last:
                stack.enter_context(channels_last_weights(model))
            return self.attack.run(model, x, y, context)

    def _short(self) -> Attack:
        """The attack with little work; with some steps where compilation is measured, which are graphs of their own."""
        brief = self.attack.brief() or self.attack
        if "compile" in self._open and isinstance(self.attack, PGD) and isinstance(brief, PGD):
            return replace(brief, steps=min(self.attack.steps, _MEASURED_STEPS))
        return brief

    @property
    def _open(self) -> tuple[str, ...]:
        """The arguments that are to be chosen by measurement."""
        return tuple(name for name in _AUTO if getattr(self, name) == "auto")

    def _settled(self, model: Model, x: Tensor, y: Any, context: Context) -> "Fast":
        """The same with all that is "auto" chosen, by a measurement where nobody has chosen before."""
        names = self._open
        if not names:
            return self
        if self.choice.value is None:
            settings = [
                dict(zip(names, values, strict=True)) for values in itertools.product(*(_AUTO[n] for n in names))
            ]
            trial = replace(self, attack=self._short())
            best, _ = quickest(settings, lambda setting: replace(trial, **setting)._run(model, x, y, context), x.device)
            self.choice.value = best
        return replace(self, **{name: (self.choice.value or {})[name] for name in names})

    def _kept(self, attack: Attack, *, compile: bool = True) -> Attack:  # noqa: A002
        """For evaluation: what does not change the arithmetic, if anything is left; nothing is chosen there."""
        code = self.compile if compile and self.compile != "auto" else False
        last = self.channels_last is True
        return (
            replace(self, attack=attack, compile=code, precision=None, channels_last=last) if code or last else attack
        )

    def thorough(self) -> Attack:
        """The attack for evaluation, in the precision of the evaluation: a verdict does not depend on this one."""
        return self._kept(self.attack.thorough())

    def quick(self) -> Attack:
        """Samples leave once they are fooled, so batches have all sizes: nothing is compiled."""
        return self._kept(self.attack.quick(), compile=False)

    def waves(self) -> tuple[Attack, ...]:
        """Those of the attack."""
        return tuple(replace(self, attack=wave) for wave in self.attack.waves())

    def applies(self, output: Tensor, y: Any) -> bool:
        """Does the attack apply?"""
        return self.attack.applies(output, y)

    def brief(self) -> Attack | None:
        """The attack with the least work, as it is."""
        return self.attack.brief()


@contextmanager
def _precision(precision: Precision, device: str) -> Iterator[None]:
    """The precision of the passes, whatever is around."""
    half = precision == "bf16"
    with torch.autocast(device, torch.bfloat16 if half else None, enabled=half, cache_enabled=False):
        yield


def fast(
    attack: Any,
    *,
    compile: bool | str = False,  # noqa: A002
    precision: Precision | None = None,
    channels_last: bool | Literal["auto"] = False,
) -> Fast:
    """Call the model in a quicker way inside an attack; training, and the module itself, stay as they are.

    What pays depends on the processor and the network, so measure: "auto" does it. Before the first attack, each
    setting that is left open runs the shortest form of the attack on that batch four times, in turns, and the quickest
    is kept for good. Process 0 decides for all; so all processes make their first attack together. In
    `AdversarialTraining` the choice is logged and stands in the checkpoint, so a resumed run makes the same one.

    In evaluation the precision is that of the evaluation, and what is "auto" is off: a verdict does not depend on a
    measurement.

    Args:
        attack: An attack, or a function `(model, x, y) -> x_adv`.
        compile: Compile the passes with gradients, with frozen parameters: a graph without weight gradients. True,
            "auto", or the name of a backend of `torch.compile`. The map of the space, such as a decoder, is in the same
            graph; one that looks at values, as a bank of decoders for each class does, stays before it, and a warning
            says so. The first size of a batch is compiled at once, another one when two attacks in a row bring it; the
            last batch of an epoch runs as it is. From the second attack on, a whole step of `PGD` after the first one
            is one graph, with the gain, the rule and the projection, where these can be traced and `keep` is "last"
            without `early_stop`. On GPUs kernels are replayed as CUDA graphs. In float64 the examples are those
            without; in float32 the rounding differs. Samples do not leave the batch with `early_stop`, so that it keeps
            its shape. Networks with hooks, TorchScript or sharded parameters, functions that are no modules, and
            whatever does not compile, run as they are, and a warning says why. A network that its user has compiled
            stays as it is.
        precision: "bf16": under autocast to bfloat16. "32": without autocast, as under a Trainer in "bf16-mixed".
            "auto": the quicker of the two. None: as in training. Weights that are in half precision themselves stay so.
        channels_last: Convolutions with channels last: True, False, or "auto". The inputs that come back have the
            layout of those that were given.

    Example:
        >>> from lightning_robust.attacks import PGD, Linf
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.Flatten(), torch.nn.Linear(8, 2))
        >>> x, y = torch.full((2, 1, 4, 4), 0.5), torch.tensor([0, 1])
        >>> usual = PGD(Linf(0.1))
        >>> torch.allclose(fast(usual, channels_last=True)(model, x, y), usual(model, x, y))
        True
    """
    return Fast(as_attack(attack), compile=compile, precision=precision, channels_last=channels_last)
