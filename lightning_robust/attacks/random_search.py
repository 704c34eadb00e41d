"""Random search on the scores of a model, with square windows where the input is an image."""

from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from lightning_robust import _checks
from lightning_robust.attacks._gain import GainFn, check_plain_gain
from lightning_robust.attacks._tensors import set_fields
from lightning_robust.attacks.attack import NO_CONTEXT, Context, Model, Outcome
from lightning_robust.attacks.ball import Ball
from lightning_robust.attacks.gains import margin
from lightning_robust.attacks.pgd import PGD
from lightning_robust.attacks.square import Square
from lightning_robust.attacks.threats import Threat, ThreatAttack, as_threat


@dataclass(frozen=True)
class RandomSearch(ThreatAttack):
    """Random search on the scores of a model: no gradient is asked for, so none can be masked.

    It is `PGD` with the rule `Square`, from the clean input, which leaves a sample alone once it is misclassified. In
    the maximum norm in pixels this is the Square Attack of Andriushchenko et al. (ECCV 2020); `Square` says what the
    proposals are, also elsewhere, and how they differ from the paper's.

    Use it besides `PGD`, above all for networks with parts without a useful gradient: `worst_of(PGD(...),
    RandomSearch(...))`. Where it finds more than `PGD`, the robust accuracy under `PGD` was too optimistic.

    Args:
        threat: The perturbation set: `Threat(ball, space)`, or a ball, which means pixels in [0, 1].
        queries: The number of proposals, one forward pass each, besides one for the clean input; a sample that is
            misclassified needs no more.
        gain: What is raised, `(logits, y) -> (N,)`.
        seed: Seeds the proposals, together with the content of each sample and the key of the call.

    Example:
        >>> import torch
        >>> from lightning_robust.attacks import Linf
        >>> def rounded(x):  # without a gradient
        ...     total = (x * 10).round().sum(1)
        ...     return torch.stack([10.5 - total, total - 10.5], 1)
        >>> x, y = torch.full((1, 4), 0.25), torch.tensor([0])
        >>> rounded(RandomSearch(Linf(0.1), queries=50)(rounded, x, y)).argmax(1)
        tensor([1])
    """

    threat: Threat | Ball
    queries: int = 1000
    gain: GainFn = field(default=margin, kw_only=True)
    seed: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        set_fields(
            self,
            threat=as_threat(self.threat),
            queries=_checks.count("queries", self.queries),
            gain=check_plain_gain(self.gain),
            seed=_checks.seed("seed", self.seed),
        )

    @property
    def _loop(self) -> PGD:
        return PGD(
            self.threat,
            self.queries,
            rule=Square(),
            gain=self.gain,
            random_start=False,
            keep="best",
            early_stop=True,
            seed=self.seed,
        )

    def applies(self, output: Tensor, y: Any) -> bool:
        """Does the output have all classes that the gain asks for?"""
        return self._loop.applies(output, y)

    def brief(self) -> "RandomSearch":
        """One query."""
        return replace(self, queries=1)

    def run(self, model: Model, x: Tensor, y: Any, context: Context = NO_CONTEXT) -> Outcome:
        """Attack and tell everything, see `Attack.run`."""
        return self._loop.run(model, x, y, context)
