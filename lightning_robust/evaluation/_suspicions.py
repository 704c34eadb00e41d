"""What an evaluation refuses, and what it doubts: results of attacks, inputs and outputs that cannot be meant."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lightning_robust import _nested
from lightning_robust.attacks._tensors import wide
from lightning_robust.attacks.attack import Attack, Context, Outcome
from lightning_robust.attacks.labels import are_class_labels, class_labels
from lightning_robust.attacks.pixel_space import PixelSpace
from lightning_robust.attacks.threats import Threat, ThreatAttack
from lightning_robust.evaluation._declared import declared, is_nothing
from lightning_robust.evaluation._described import described
from lightning_robust.evaluation._indicator import KINDS
from lightning_robust.evaluation._strength import goes_far, radius_used_by

_OF_ALL = ("n", "right", "classes")
_OF_ONE = ("right", "still", "surer", "held", "little")
_FEW = 8  # samples; fewer tell nothing about a model or a range
_ENOUGH = 50  # samples; fewer tell nothing about an accuracy
_OTHER_RANGE = 100.0


def check_result(
    name: str, attack: Attack, x: Tensor, y: Any, outcome: Outcome, context: Context, *, bounds: bool = True
) -> None:
    """Refuse a result of another shape, one that is not finite, and one outside the declared set, by name.

    Images are looked at themselves, up to the rounding of their type. In other spaces the perturbation that the attack
    tells of is looked at, if it tells of any. Waits for the device once.

    Args:
        name: What errors call the attack; "": nothing.
        attack: The attack.
        x: (N, ...) the clean inputs.
        y: The labels.
        outcome: The result.
        context: What the attack knew.
        bounds: Are the bounds of a space other than of pixels looked at, too? They may need the codes of the inputs.

    Raises:
        ValueError: for such a result.
    """
    called, x_adv = f"the attack `{name}`" if name else "the attack", outcome.x_adv
    if not isinstance(x_adv, Tensor) or x_adv.shape != x.shape:
        got = tuple(x_adv.shape) if isinstance(x_adv, Tensor) else type(x_adv).__name__
        raise ValueError(f"Expected {called} to return inputs of shape {tuple(x.shape)}, but got {got}.")
    n, threats = len(x), declared(attack)
    finite = x_adv.flatten(1).isfinite().all(1)
    inside = None if threats is None else _inside(threats, attack, x, y, outcome, context, bounds)
    infinite, outside = torch.stack(
        [(~finite).sum(), (~(finite if inside is None else inside) & finite).sum()]
    ).tolist()
    if infinite:
        raise ValueError(f"Expected {called} to return finite inputs, but {infinite} of {n} are NaN or infinite.")
    if outside:
        sets = " or ".join(map(str, threats or ()))
        raise ValueError(
            f"Expected {called} to stay in the set that it declares, {sets}, but {outside} of {n} of its inputs leave "
            f"it: the largest perturbation has an Linf norm of {_largest(x, x_adv, math.inf):.3g} and an L2 norm of "
            f"{_largest(x, x_adv, 2):.3g}. Project what it returns, or declare the set that is meant."
        )


def _inside(
    threats: tuple[Threat, ...], attack: Attack, x: Tensor, y: Any, outcome: Outcome, context: Context, bounds: bool
) -> Tensor | None:
    """(N,) bool: is each result in one of the sets? None: nobody can say."""
    if all(type(threat.space) is PixelSpace for threat in threats):
        exact = torch.float32 if x.device.type == "mps" else torch.float64
        start, move = x.detach().to(exact), (outcome.x_adv.to(exact) - x.to(exact))
        # Rounding: up to this much of every coordinate is forgiven.
        units = (1 if x.dtype in (torch.float16, torch.bfloat16) else 4) * torch.finfo(x.dtype).eps
        slack = units * torch.maximum(start.abs(), outcome.x_adv.abs().to(exact))
        near = start + move.sign() * (move.abs() - slack).clamp(min=0)
        return torch.stack([threat.contains(start, near) for threat in threats]).any(0)
    if len(threats) > 1 or outcome.delta is None:
        return None
    (threat,) = threats
    inside = threat.ball.contains(outcome.delta, rtol=1e-4)
    if bounds and isinstance(attack, ThreatAttack):
        with attack._ready(None, x, y, context) as batch:
            inside = inside & batch.chart.contains(outcome.delta, atol=1e-4)
    return inside


def _largest(x: Tensor, x_adv: Tensor, order: float) -> float:
    """The largest norm of a perturbation of the batch."""
    moves = (wide(x_adv) - wide(x)).flatten(1)
    return float(torch.linalg.vector_norm(moves, ord=order, dim=1).nan_to_num().max())


class Suspicions:
    """Looks at every batch of an evaluation, refuses what cannot be meant, and counts what may not be meant.

    Args:
        attacks: The attacks by name.
        device: Where to count.
        settled: Is the model meant to be good? One that is being trained may still guess.
        refuse: Is a model that answers the same to all inputs refused? Else it is counted.

    Attributes:
        counts: int64, to be summed over processes; `texts` says what they mean.
        alike: int64 (2,), samples with the output of the first one, and in batches with several labels: to be summed,
            too, and for `constant`.
        doubts: Texts to warn the user with, about the first batch.
    """

    def __init__(
        self, attacks: Mapping[str, Attack], device: torch.device, *, settled: bool = True, refuse: bool = True
    ) -> None:
        self._attacks, self._settled, self._refuse = attacks, settled, refuse
        self.counts = torch.zeros(len(_OF_ALL) + len(_OF_ONE) * len(attacks), dtype=torch.int64, device=device)
        self.alike = torch.zeros(2, dtype=torch.int64, device=device)
        self.doubts: list[str] = []
        self._checked: set[str] = set()  # attacks with a result
        self._span: float | None = None
        self._one: tuple[Tensor, Tensor] | None = None  # output and label of the first sample
        self._alike, self._labels_alike = 0, True

    def inputs(self, x: Tensor, y: Any) -> None:
        """Refuse inputs that an attack does not take, and a batch in another range than the first one."""
        for attack in self._attacks.values():
            attack.check(x, y)
        if self._span is None:
            self.doubts += dict.fromkeys(doubt for attack in self._attacks.values() for doubt in attack.doubts(x))
        if len(x) < _FEW or not x.is_floating_point():
            self._span = self._span or 0.0
            return
        low, high = torch.stack(wide(x.detach()).aminmax()).tolist()
        span, first = high - low, self._span
        if first and span and not 1 / _OTHER_RANGE < span / first < _OTHER_RANGE:
            raise ValueError(
                f"Expected all batches to be in one range, but the values of this one spread over {span:.3g} and those "
                f"of the first over {first:.3g}. Are some images divided by 255, and others not, or twice?"
            )
        self._span = first or span

    def clean(self, x: Tensor, y: Any, output: Any, right: Tensor, mask: Tensor) -> None:
        """Look at the outputs for clean inputs. A model that answers the same to all inputs is refused, or counted.

        Args:
            x: (N, ...) inputs.
            y: Labels.
            output: Of the model.
            right: (N,) bool, right when clean.
            mask: (N,) bool, the samples that count.
        """
        classes = output.shape[1] if are_class_labels(output, y) else 0
        self._count(0, mask.sum(), (right & mask).sum(), classes * mask.sum())
        if (self._settled or not self._refuse) and self._alike >= 0:
            self._look_for_constant(x, y, output, mask)

    def _look_for_constant(self, x: Tensor, y: Any, output: Tensor, mask: Tensor) -> None:
        # Without labels nothing says that the outputs should differ but the inputs.
        labels = y if isinstance(y, Tensor) and y.ndim and len(y) == len(x) else torch.full((len(x),), math.nan)
        self._one = self._one or (output[0].clone(), labels[0].clone())
        same, alike = (
            torch.eq(v, one).all().to(output.device) for v, one in zip((output, labels), self._one, strict=True)
        )
        same_outputs, same_labels = torch.stack([same, alike]).tolist()
        self._alike = self._alike + len(x) if same_outputs else -1
        self._labels_alike = self._labels_alike and same_labels
        if not self._refuse:
            self.alike += mask.sum() * mask.new_tensor([same_outputs, not same_labels], dtype=torch.int64)
        elif self._alike >= _FEW and not self._labels_alike:
            raise ValueError(_of_constant(f"of the first {self._alike}"))

    def result(
        self,
        name: str,
        x: Tensor,
        y: Any,
        outcome: Outcome,
        context: Context,
        *,
        right: Tensor,
        mask: Tensor,
        outputs: tuple[Any, Any] | None = None,
    ) -> None:
        """Look at the result of an attack.

        Args:
            name: Of the attack.
            x: (N, ...) clean inputs.
            y: Labels.
            outcome: The result.
            context: What the attack knew.
            right: (N,) bool, right when clean.
            mask: (N,) bool, the samples that count.
            outputs: Of the model for the clean inputs and for the result, if known.
        """
        attack, first = self._attacks[name], name not in self._checked
        check_result(name, attack, x, y, outcome, context, bounds=first)
        if first and declared(attack) is None:
            self.doubts.append(
                f"The attack{f' `{name}`' if name else ''} declares no perturbation set, so nothing checks how far it "
                f"goes. In the first batch its perturbations have an Linf norm of up to "
                f"{_largest(x, outcome.x_adv, math.inf):.3g} and an L2 norm of up to "
                f"{_largest(x, outcome.x_adv, 2):.3g}, in the units of the inputs."
            )
        self._checked.add(name)
        counted = right & mask
        still = (outcome.x_adv == x).flatten(1).all(1) & counted
        self._count(self._place(name), counted.sum(), still.sum() * _can_move(self._attacks[name]))
        if outputs is not None:
            self.answers(name, y, outputs, right=right, mask=mask)

    def answers(self, name: str, y: Any, outputs: tuple[Any, Any], *, right: Tensor, mask: Tensor) -> None:
        """Look at the outputs for the clean inputs and for the result of an attack; arguments as for `result`."""
        self._count(self._place(name) + 2, (surer_of(*outputs, y) & right & mask).sum())

    def withstood(self, name: str, x: Tensor, outcome: Outcome, held: Tensor) -> None:
        """Look at the perturbations of samples that are right under an attack.

        Args:
            name: Of the attack.
            x: (N, ...) clean inputs.
            outcome: The result.
            held: (N,) bool, which samples are right under it, and count.
        """
        share = radius_used_by(self._attacks[name], x, outcome)
        if share is not None:
            moved = held.to(share.device) & (share > 0)  # what did not move at all is counted as still
            self._count(self._place(name) + 3, held.sum(), (moved & (share < KINDS["radius_used"].threshold)).sum())

    def _place(self, name: str) -> int:
        return len(_OF_ALL) + len(_OF_ONE) * list(self._attacks).index(name)

    def _count(self, place: int, *sums: Any) -> None:
        values = torch.stack([torch.as_tensor(_nested.plain(v), device=self.counts.device).long() for v in sums])
        self.counts[place : place + len(sums)] += values


def number_of_classes(counts: list[int]) -> int:
    """The number of classes that `Suspicions.counts` tell of; 0: unknown, or labels are no classes."""
    return counts[2] // counts[0] if counts and counts[0] else 0


def constant(n: int, alike: int, labels: int) -> list[str]:
    """What `Suspicions.alike` gives reason to doubt, of n samples that count; all summed over processes."""
    return [_of_constant(n)] if n >= _FEW and alike == n and labels else []


def _of_constant(samples: Any) -> str:
    return (
        f"Expected a model whose output depends on its input, but it is the same for all {samples} samples. Are the "
        "weights loaded, and are the inputs in the range that the model was trained on?"
    )


def _can_move(attack: Attack) -> bool:
    """Is there anything but the clean input in the declared set? Not in a ball of radius zero."""
    threats = declared(attack)
    return threats is None or any(bool(torch.as_tensor(threat.ball.radius).amax() > 0) for threat in threats)


def surer_of(clean: Any, attacked: Any, y: Any) -> Tensor:
    """(N,) bool: did the lead of the true class over all others grow under attack? False where labels are no classes.

    Args:
        clean: Outputs for the clean inputs.
        attacked: Outputs for the results of the attack.
        y: Labels.
    """
    if not are_class_labels(clean, y) or not are_class_labels(attacked, y):
        return torch.zeros(len(clean), dtype=torch.bool, device=clean.device)
    labels = class_labels(clean, y)
    labels = labels if labels.ndim == 1 else labels.argmax(1)
    before, after = (_lead(wide(output), labels) for output in (clean, attacked))
    return (after > before + 1e-6 * before.abs()) & after.isfinite()


def _lead(logits: Tensor, labels: Tensor) -> Tensor:
    own = logits.gather(1, labels[:, None])
    return (own - logits.scatter(1, labels[:, None], -math.inf).amax(1, keepdim=True))[:, 0]


def texts(counts: list[int], attacks: Mapping[str, Attack], *, settled: bool = True) -> list[str]:
    """What the counts of `Suspicions`, summed over processes, give reason to doubt.

    Args:
        counts: As `Suspicions.counts`.
        attacks: The attacks by name.
        settled: Is the model meant to be good?
    """
    n, right, _ = counts[: len(_OF_ALL)]
    classes, said = number_of_classes(counts), []
    if settled and n >= _ENOUGH and classes and guesses(right, n, classes):
        said.append(
            f"The clean accuracy, {right} of {n}, is no better than guessing among {classes} classes. Are the "
            "inputs in the range that the model was trained on, the labels in its order, and the weights loaded?"
        )
    for place, name in enumerate(attacks):
        start = len(_OF_ALL) + place * len(_OF_ONE)
        of_one = dict(zip(_OF_ONE, counts[start : start + len(_OF_ONE)], strict=True))
        under = f" under `{name}`" if name else ""
        least = _ENOUGH if getattr(attacks[name], "gives_back", False) else 1  # few may well be robust to it
        if of_one["right"] >= least and of_one["still"] == of_one["right"] and not is_nothing(attacks[name]):
            said.append(
                f"Robust accuracy{under} is the clean accuracy: the attack returned the clean input for all "
                f"{of_one['right']} samples that are right. Does it attack the model at all?"
            )
        if of_one["right"] >= 20 and of_one["surer"] > 0.75 * of_one["right"]:
            said.append(
                f"Robust accuracy{under} may be too high: the attack makes the model surer of the right class for "
                f"{of_one['surer']} of {of_one['right']} samples. Does its gain have the wrong sign? An attack raises "
                "the gain."
            )
    return said + _short_of(counts, attacks)


def _short_of(counts: list[int], attacks: Mapping[str, Attack]) -> list[str]:
    """A text for each perturbation set in which no attack moved most samples that withstood by half of the radius."""
    within: dict[str, list[tuple[int, int]]] = {}
    for place, attack in enumerate(attacks.values()):
        start = len(_OF_ALL) + place * len(_OF_ONE)
        of_one = dict(zip(_OF_ONE, counts[start : start + len(_OF_ONE)], strict=True))
        if of_one["right"] and goes_far(attack):
            within.setdefault(described(declared(attack)), []).append((of_one["held"], of_one["little"]))
    return [
        f"Robust accuracy may be too high: of {held} samples that withstood, {little} were moved by less than half of "
        "the radius, from the clean input or from where the attack began, where an attack that does what it may goes "
        "to the surface of the ball. Are its steps too small for the units of the inputs, "
        "is the radius in these units, and does the attack return what it has found?"
        for found in within.values()
        for held, little in [max(found, key=lambda pair: pair[1])]
        if held >= 20 and all(2 * little > held for held, little in found)
    ]


def guesses(right: int, n: int, classes: int, level: float = 0.01) -> bool:
    r"""Is an accuracy no better than guessing? True where a fair guess is as good with more than the probability
    `level`, :math:`P(B \ge \text{right}) > \text{level}` with :math:`B \sim \text{Binomial}(n, 1/K)`.

    Example:
        >>> guesses(10, 100, 10), guesses(30, 100, 10)
        (True, False)
    """
    k = torch.arange(right, n + 1, dtype=torch.float64)
    count, p = torch.tensor(float(n), dtype=torch.float64), 1 / classes
    ways = torch.lgamma(count + 1) - torch.lgamma(k + 1) - torch.lgamma(count - k + 1)
    return float((ways + k * math.log(p) + (count - k) * math.log1p(-p)).exp().sum()) > level
