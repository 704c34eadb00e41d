"""The rows of a report's tables: accuracies by attack, by class and by radius."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lightning_robust import _checks
from lightning_robust._journal import plain
from lightning_robust.evaluation.images import LEAST_RADII, Images
from lightning_robust.metrics.intervals import wilson_interval
from lightning_robust.plots.estimate import Estimate

if TYPE_CHECKING:
    from lightning_robust.evaluation.report import Report

_POINTS = 25  # of a radius curve


def accuracy(right: Tensor) -> Estimate:
    """The share of what is right, (N,) bool, N >= 1, with its 95 % Wilson interval."""
    count, n = int(right.sum()), len(right)
    low, high = wilson_interval(count, n)
    return Estimate(count / n, float(low), float(high), n)


def stages(report: Report) -> list[dict[str, Any]]:
    """See `Report.stages`."""
    images = known_images(report)
    names = dict.fromkeys([*report.attacks, *filter(None, images.attack)])
    left = images.clean.clone()
    rows: list[dict[str, Any]] = [{"attack": "clean", "broke": int((~left).sum()), "accuracy after": accuracy(left)}]
    for name in names:
        broken = images.clean & torch.tensor([one == name for one in images.attack], dtype=torch.bool)
        left &= ~broken
        rows.append({"attack": name, "broke": int(broken.sum()), "accuracy after": accuracy(left)})
    return rows


def brief_stages(report: Report) -> list[dict[str, Any]]:
    """The stages that broke an image, and one row for all others, which come last."""
    first, *rest = stages(report)
    idle = [row for row in rest if not row["broke"]]
    if len(idle) > 1:
        others = {**rest[-1], "attack": f"{len(idle)} other attacks", "broke": 0}
        rest = [*(row for row in rest if row["broke"]), others]
    return [first, *rest]


def per_class(report: Report) -> list[dict[str, Any]]:
    """See `Report.per_class`."""
    if report.labels is None:
        raise ValueError("Expected labels that are classes, one integer per sample, but they are of another kind.")
    rows, all_robust = [], report.robust
    for label in report.labels.unique().tolist():
        of_class = report.labels == label
        clean, robust = (accuracy(part[of_class]) for part in (report.right["clean"], all_robust))
        rows.append({"class": label, "n": int(of_class.sum()), "clean": clean, "robust": robust})
    return rows


def radius_curve(report: Report, radii: Iterable[float] | None) -> list[dict[str, Any]]:
    """See `Report.radius_curve`."""
    images = known_images(report)
    if not report.about.keys() & LEAST_RADII.keys():
        warnings.warn(
            "No attack looked for least radii. The radius at which an attack happened to succeed is mostly the full "
            "one, so the curve stays at the accuracy without an attack up to there, which is no robustness. Evaluate "
            "`standard(threat, radii=True)`, or with `MinimumNorm`.",
            stacklevel=3,
        )
    broken = images.clean & ~images.robust
    radius = torch.where(broken, images.radius.clamp(max=math.inf if report.eps is None else report.eps), images.radius)
    unknown = int((broken & radius.isinf()).sum())
    if unknown:
        raise ValueError(
            f"Expected attacks that say at which radius they succeed, but of {unknown} broken images it is not known. "
            "Give the report the radius of the threat, `eps`."
        )
    if radii is None:
        seen = radius[radius.isfinite()]
        most = report.eps or (float(seen.max()) if len(seen) else 0.0)
        places = [most * i / (_POINTS - 1) for i in range(_POINTS)] if 0 < most < math.inf else [0.0]
    else:
        places = list(_checks.values("radii", radii, 0))
    return [accuracy(images.clean & (radius > place)).row(radius=place) for place in places]


def table(report: Report) -> str:
    """See `Report.table`."""
    rows = [(row["inputs"], row["accuracy"].text()) for row in report.rows()]
    if report.images is not None:
        if len(report.right) == 1:
            rows[1:1] = [(f"after {row['attack']}", row["accuracy after"].text()) for row in brief_stages(report)[1:]]
        if report.labels is not None:
            worst = report.worst_class
            rows.append((f"worst class ({worst['class']})", worst["robust"].text()))
    if any(report.passes):
        rows.append(("passes", report.passes_text()))
    rows += [(f"doubt: {name}" if name else "doubt", text) for name, text in _doubts(report)]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {text}" for name, text in rows)


def content(report: Report) -> dict[str, Any]:
    """See `Report.to_dict`."""
    found: dict[str, Any] = {
        "n": report.n,
        "threat": report.threat,
        "eps": plain(report.eps),
        "accuracy": [row["accuracy"].row(inputs=row["inputs"]) for row in report.rows()],
    }
    if report.images is not None:
        rows = report.stages()
        found["stages"] = [row["accuracy after"].row(attack=row["attack"], broke=row["broke"]) for row in rows]
    if report.labels is not None:
        worst = report.worst_class
        found["worst_class"] = worst["robust"].row(**{"class": worst["class"]})
    return found | {
        "warnings": list(report.warnings),
        "indicators": [{name: plain(value) for name, value in vars(one).items()} for one in report.indicators],
        "attacks": dict(report.attacks),
        "passes": {"forward": report.passes[0], "backward": report.passes[1]},
        "seconds": round(report.seconds, 1),
        "about": {str(name): plain(value) for name, value in report.about.items()},
    }


def known_images(report: Report) -> Images:
    """What is known of each image, or an error."""
    if report.images is None:
        raise ValueError("Expected a report with `images`, but this one was made without them. Use `evaluate`.")
    return report.images


def samples(report: Report) -> str:
    """How many samples were attacked, and how far, in words.

    Of a threat that is written as a call the ball alone is shown, its numbers with four digits.
    """
    ball = re.search(r"\bball=(\w+\([^()]*\))", report.threat)
    threat = ball[1] if ball else report.threat
    threat = re.sub(r"\d+\.\d{5,}", lambda number: f"{float(number[0]):.4g}", threat)
    return f"{report.n:,} sample{'' if report.n == 1 else 's'}{f' under {threat}' if threat else ''}"


def doubts(report: Report) -> list[str]:
    """Warnings and indicators that are raised, each once: a warning that is made of indicators is taken apart."""
    return [f"{name}: {text}" if name else text for name, text in _doubts(report)]


def short_doubts(report: Report) -> list[str]:
    """The same in few words: the name of an indicator, and the first sentence of a warning."""
    sentences = [(name, text.partition(". ")[0].removesuffix(".")) for name, text in _doubts(report)]
    return [name or text.removeprefix("Robust accuracy may be too high: ") for name, text in sentences]


def _doubts(report: Report) -> list[tuple[str, str]]:
    """Their names, "" of a warning, and their texts."""
    others = [("", text) for text in report.warnings if not any(one.text in text for one in report.flagged)]
    return [*others, *((one.name, one.text) for one in report.flagged)]
