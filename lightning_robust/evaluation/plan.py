"""Plans: which attacks an evaluation makes, in which order, and on which samples."""

import math
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from lightning_robust import _checks
from lightning_robust.attacks import (
    L2,
    PGD,
    Linf,
    RandomSearch,
    apgd,
    binary_margin,
    cross_entropy,
    dlr,
    margin,
    normalized,
    targeted_binary,
    targeted_dlr,
    targeted_margin,
)
from lightning_robust.attacks._gain import GainFn
from lightning_robust.attacks._soft_count import soft_counts
from lightning_robust.attacks.anchored import Anchored
from lightning_robust.attacks.ball import Ball
from lightning_robust.attacks.labels import are_class_labels
from lightning_robust.attacks.minimum_norm import MinimumNorm
from lightning_robust.attacks.pixel_space import PixelSpace
from lightning_robust.attacks.starts import patches
from lightning_robust.attacks.threats import Threat, as_threat
from lightning_robust.evaluation._plan import Plan, Stage

__all__ = ["Plan", "Stage", "autoattack", "standard"]


def standard(threat: Threat | Ball, *, gain: GainFn | Anchored = margin, radii: bool = False) -> Plan:
    """The attacks by which a robust accuracy is to be judged, each on the samples that all before it left.

    1. `margin`, 10 steps from the clean input: it breaks nearly all samples of a model without a defense.
    2. The margin of each of the three nearest classes, 10 steps each. Where logits are soft, the highest wrong class is
       not the one that can be reached.
    3. With `radii`, an attack of minimum norm on all samples that are right, for accuracy over the radius. It breaks
       most of what is to be broken, so the later attacks have less to do.
    4. Auto-PGD on cross entropy, of normalized logits and of the logits as they are, 35 steps each.
    5. `margin` from six starts that are constant in patches of the image, 20 steps each, see `starts.patches`: it
       breaks samples that gradients from other starts do not, and Square does. In an L1 ball two uniform starts of 20
       steps, and six of Auto-PGD of 50 steps, in its place.
    6. `dlr`, and `targeted_dlr` of the three nearest classes, 10 steps each from the clean input: ratios of logits, for
       models whose logits shrink where they would be misclassified.
    7. Auto-PGD on the margin of each of the nine nearest classes, in the order of MALT, see `nearest_classes`: 30 steps
       for the first two, 20 for two more, 10 for each of the others; in an L1 ball 16 for each.
    8. Random search of 1,000 queries on a tenth of the survivors, and on all of them if it breaks one of these: no
       gradient is asked for.

    A constant factor on the logits changes only the cross entropy of the logits as they are. A factor that depends on
    the input changes the way of all ascents but those of the ratios, which need three classes, the targeted ones four:
    of two logits no ratio is left. So with two classes a factor that hides the way to the other class is not seen.

    A sample that withstands everything costs about 980 passes, one forward or backward each, in an L1 ball 1,480;
    AutoAttack takes more than 5,000. The parts are ordinary attacks: `Plan({**standard(threat).attacks, "own": own})`
    has one more. Of K classes there are K - 1 targets, and attacks towards others are left out.

    Args:
        threat: The perturbation set: a `Threat`, or a ball, which means pixels in [0, 1].
        gain: `margin` is for class labels. For labels of another kind, a gain such as `binary_margin` or
            `dense(margin)`, together with the `correct=` of the evaluation: then there are no targets, and the plan is
            ascent of that gain, 20 steps, Auto-PGD from three starts, and the search. For `binary_margin` the ascent is
            of each of the nine nearest labels, see `targeted_binary`: the label whose logit is the least right need not
            be the one that can be reached. Of dense labels also Auto-PGD on six soft counts of the positions that
            are wrong: a mean of margins rises at a few of them, and the verdict counts all.
        radii: Look for the least radius of every sample that is right.

    Raises:
        TypeError: for a threat of another kind.
        ValueError: for a ball of one radius per sample.

    Example:
        >>> from lightning_robust.attacks import binary_margin
        >>> list(standard(Linf(8 / 255)).attacks)[:5]
        ['margin', 'target 1', 'target 2', 'target 3', 'apgd']
        >>> list(standard(Linf(8 / 255), gain=binary_margin).attacks)[-3:]
        ['target 9', 'apgd', 'search']
    """
    threat = _one_radius(as_threat(threat))
    _checks.function("gain", gain, "(logits, y) -> (N,)")
    _checks.boolean("radii", radii)
    return _of_classes(threat, radii) if gain is margin else _of_other_labels(threat, gain, radii)


@dataclass(frozen=True)
class _ThreeClasses:
    """The labels as they are, where there are the classes that `dlr` asks for."""

    def __call__(self, clean_logits: Tensor, y: Any) -> Any:
        return y

    def fits(self, output: Tensor, y: Any) -> bool:
        return are_class_labels(output, y) and output.shape[1] >= 3


def _of_classes(threat: Threat, radii: bool) -> Plan:
    attacks: dict[str, Any] = {"margin": PGD(threat, 10, gain=margin, random_start=False)}
    for rank in range(1, 4):
        attacks[f"target {rank}"] = PGD(threat, 10, gain=targeted_margin(rank), random_start=False)
    if radii:
        attacks["minimum norm"] = Stage(MinimumNorm(threat), on="right")
    entropies = (normalized(cross_entropy), cross_entropy)
    attacks["apgd"] = apgd(threat, 35, gain=entropies, restarts=2)
    if threat.ball.sparse:
        attacks["restarts"] = PGD(threat, 20, gain=margin, restarts=2)
        attacks["apgd restarts"] = apgd(threat, 50, gain=(cross_entropy, margin, entropies[0]), restarts=6, seed=1)
    else:
        attacks["restarts"] = PGD(threat, 20, gain=margin, restarts=6, random_start=patches)
    attacks["ratio"] = PGD(threat, 10, gain=Anchored(dlr, _ThreeClasses()), random_start=False)
    for rank in range(1, 4):
        attacks[f"ratio target {rank}"] = PGD(threat, 10, gain=targeted_dlr(rank), random_start=False)
    lengths = (16,) * 9 if threat.ball.sparse else (30, 30, 20, 20, 10, 10, 10, 10, 10)
    for rank, steps in enumerate(lengths, start=1):
        attacks[f"apgd target {rank}"] = apgd(threat, steps, gain=targeted_margin(rank), seed=rank)
    attacks["search"] = Stage(RandomSearch(threat, 1000), on="few")
    return Plan(attacks)


def _of_other_labels(threat: Threat, gain: Any, radii: bool) -> Plan:
    if gain is binary_margin:
        gains = tuple(targeted_binary(rank) for rank in range(1, 10))
        steepest = [PGD(threat, 20, gain=one, random_start=False) for one in gains]
        attacks: dict[str, Any] = {f"target {rank}": attack for rank, attack in enumerate(steepest, start=1)}
        nearest, note = MinimumNorm(threat, gain=gains), "The labels are yes/no: targets are the nine nearest of them."
    else:
        attacks = {"pgd": PGD(threat, 20, gain=gain, random_start=bool(getattr(gain, "flat", False)))}
        nearest = MinimumNorm(threat, 100, gain=gain)
        note = "The gain is not `margin`: there are no targets, and every attack raises that gain."
    attacks["apgd"] = apgd(threat, 50, gain=gain, restarts=3)
    counts = soft_counts(gain)
    if counts:
        attacks["soft count"] = apgd(threat, 50, gain=counts, restarts=len(counts))
        note = f"{note[:-1]}, but for one that counts positions softly."
    if radii:
        attacks["minimum norm"] = Stage(nearest, on="right")
    if hasattr(gain, "anchor"):
        return Plan(attacks, note=f"{note} A search takes no such gain, and is left out.")
    attacks["search"] = Stage(RandomSearch(threat, 2000, gain=gain), on="few")
    return Plan(attacks, note=note)


def _one_radius(threat: Threat) -> Threat:
    radius = threat.ball.radius
    if isinstance(radius, Tensor) and radius.ndim:
        raise ValueError(
            f"Expected argument `threat` to have one radius for all samples, but {type(threat.ball).__name__} has "
            f"{len(radius)}. There is no standard for it: evaluate the samples of each radius by themselves."
        )
    return threat


def autoattack(threat: Threat | Ball, *, classes: int = 10, version: str = "standard") -> Plan:
    """AutoAttack (Croce & Hein, ICML 2020) as torchattacks has it, for those who want that name. Needs the extra
    `torchattacks`.

    On eight small networks in Linf and L2 `standard` broke as many images as pyautoattack's AutoAttack or more, for
    about a tenth to a sixth of the passes; in L1 that one broke more, see docs/evaluation.md. `standard` takes
    all threats, and keeps more of each sample. Neither is a proof: single images fall to one alone.

    Args:
        threat: `Linf` or `L2` of pixels in [0, 1].
        classes: Number of classes, 4 at least: its targeted loss is a ratio of four logits.
        version: "standard", "plus" or "rand", as in the paper.

    Raises:
        ValueError: for other threats, which torchattacks does not have.
        ModuleNotFoundError: without the extra.

    Example:
        >>> list(autoattack(Linf(8 / 255)).attacks)
        ['autoattack']
    """
    from lightning_robust._optional import optional
    from lightning_robust.interop import from_torchattacks

    threat, classes = _one_radius(as_threat(threat)), _checks.count("classes", classes, 4)
    _checks.choice("version", version, ("standard", "plus", "rand"))
    norms: dict[type[Ball], str] = {Linf: "Linf", L2: "L2"}
    ball, space = threat.ball, threat.space
    pixels = type(space) is PixelSpace and math.isclose(space.low, 0) and math.isclose(space.high, 1)
    if type(ball) not in norms or not isinstance(space, PixelSpace) or not pixels:
        raise ValueError(
            "Expected argument `threat` to be Linf or L2 of pixels in [0, 1], which is what AutoAttack has, but got "
            f"{threat!r}. Use standard(threat)."
        )
    arguments = {"norm": norms[type(ball)], "eps": float(ball.radius), "version": version, "n_classes": classes}
    attack = from_torchattacks(
        optional("torchattacks", "torchattacks").AutoAttack, arguments, mean=space.mean, std=space.std
    )
    return Plan({"autoattack": replace(attack, threat=threat)})
